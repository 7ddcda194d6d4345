"""What the sums of reviews come to for Prometheus."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.database import Database
from gateway.review.rates import MAX_RECIPES, Rates, families, named_recipes
from gateway.review.store import ReviewStore, Total
from tests.gateway.review.test_store import DEFECTS, answer_of, feedback_of, record_of


def samples(*totals: Total) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families(totals, named_recipes(totals, frozenset()))
        for sample in family.samples
    }


def test_ratios_follow_what_stands_and_counters_what_was_said() -> None:
    found = samples(
        Total("short", "A7", "right", given=8, standing=6, complete=3),
        Total("short", "A7", "false", given=3, standing=2, complete=2),
        Total("short", "A7", "missed", given=4, standing=4, complete=1),
        Total("spur", "", "missed", given=1, standing=1, complete=0),
    )
    assert found == {
        ("pcbd_reviewed_detections_total", "short", "right", "A7"): 8,
        ("pcbd_reviewed_detections_total", "short", "false", "A7"): 3,
        ("pcbd_escapes_total", "short", "A7"): 4,
        ("pcbd_escapes_total", "spur", ""): 1,
        ("pcbd_false_call_ratio", "short", "A7"): 0.25,
        ("pcbd_escape_ratio", "short", "A7"): 0.25,
    }


def test_recipes_with_little_feedback_are_one() -> None:
    many = [Total("short", f"r{number}", "false", 100 - number, 1, 1) for number in range(MAX_RECIPES + 3)]
    found = samples(*many)
    assert len({key for key in found if key[0] == "pcbd_false_call_ratio"}) == MAX_RECIPES + 1
    rest = sum(100 - number for number in range(MAX_RECIPES, MAX_RECIPES + 3))
    assert found["pcbd_reviewed_detections_total", "short", "false", "other"] == rest


def test_a_recipe_keeps_its_label_whatever_others_get_later() -> None:
    many = [Total("short", f"r{number:02}", "false", 100 - number, 1, 1) for number in range(MAX_RECIPES + 1)]
    before = named_recipes(many, frozenset())
    assert f"r{MAX_RECIPES}" not in before
    overtaken = [*many[:-1], replace(many[-1], given=1000), Total("short", "new", "false", 2000, 1, 1)]
    assert named_recipes(overtaken, before) == before
    given = {sample.labels["recipe"]: sample.value for sample in families(overtaken, before)[0].samples}
    assert given["other"] == 3000


def test_recipes_fill_the_labels_one_after_the_other() -> None:
    first = named_recipes([Total("short", "a", "false", 1, 1, 1)], frozenset())
    more = [Total("short", f"r{number:02}", "false", 5, 1, 1) for number in range(MAX_RECIPES)]
    assert named_recipes(more, first) == {"a", *(f"r{number:02}" for number in range(MAX_RECIPES - 1))}


def test_of_recipes_with_as_much_feedback_the_same_have_a_label_however_rows_come() -> None:
    many = [Total("short", f"r{number:02}", "false", 5, 1, 1) for number in range(MAX_RECIPES + 3)]
    assert named_recipes(many, frozenset()) == named_recipes(many[::-1], frozenset())


def test_a_collector_keeps_the_labels_that_it_gave(store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.review.rates.MAX_RECIPES", 1)
    rates = Rates(store)
    for request_id, recipe in (("1", "A"), ("2", "B"), ("3", "B")):
        store.add([record_of(answer_of(request_id, "short", recipe=recipe))])
        store.give_feedback(feedback_of(request_id, "false"), "me", DEFECTS)
        asyncio.run(rates._refresh())
    judged, *_ = rates.collect()
    assert {sample.labels["recipe"]: sample.value for sample in judged.samples} == {"A": 1, "other": 2}


def test_a_scrape_outlives_the_database(
    store: ReviewStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.review.rates.REFRESH_S", 0.001)
    store.add([record_of(answer_of("a", "short"))])
    store.give_feedback(feedback_of("a", "false"), "me", DEFECTS)
    registry, rates = CollectorRegistry(), Rates(store)
    registry.register(rates)

    async def live() -> None:
        async with rates:
            async with asyncio.timeout(60):
                while b"pcbd_false_call_ratio{" not in generate_latest(registry):
                    await asyncio.sleep(0.01)
                with database.write() as session:
                    session.connection().exec_driver_sql("DROP TABLE review_totals")
                for _ in range(3):
                    await rates._refresh()

    asyncio.run(live())
    assert b'pcbd_false_call_ratio{defect="short",recipe=""} 1.0' in generate_latest(registry)
