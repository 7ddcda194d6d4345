"""What the sums of reviews come to for Prometheus."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.database import Database
from gateway.review.rates import MAX_RECIPES, Rates, families
from gateway.review.store import ReviewStore, Total
from tests.gateway.review.test_store import DEFECTS, answer_of, feedback_of, record_of


def samples(*totals: Total) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families(totals)
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
