"""The catalog on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from gateway.catalog.defect import MAX_ENABLED, Defect, DefectFields, Descriptions, Names
from gateway.catalog.precondition import Precondition, entity_tag
from gateway.catalog.seeds import SEEDS
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import ConflictError, NotFoundError, ParameterError, StaleError

ANY = Precondition()
GLUE = Defect(
    id="red_glue",
    names=Names(en=("glue",), zh=("红胶溢出",)),
    descriptions=Descriptions(zh=("红胶流到焊盘上😀",)),
    score_threshold=0.1 + 0.2,
    minimum_size_px=4,
    severity="minor",
    colour="#aa0000",
)


@pytest.fixture
def store(database_url: str) -> Iterator[CatalogStore]:
    database = Database(database_url)
    store = CatalogStore(database)
    store.prepare()
    yield store
    database.close()


def ids(store: CatalogStore) -> list[str]:
    return [defect.id for defect in store.load()[1]]


def with_severity(severity: str) -> DefectFields:
    return GLUE.fields.model_copy(update={"severity": severity})


def expecting(version: int) -> Precondition:
    return Precondition(frozenset({entity_tag(version)}))


def test_a_new_catalog_holds_the_seeds_and_only_a_new_one(store: CatalogStore) -> None:
    revision, defects = store.load()
    assert revision == store.revision() == 1
    assert tuple(Defect(id=defect.id, **dict(defect.fields)) for defect in defects) == SEEDS
    assert [entry.actor for entry in store.history("open")] == ["seed"]
    store.delete("open", "me", ANY)
    store.prepare()
    assert "open" not in ids(store)


def test_a_defect_comes_back_as_it_was_put(store: CatalogStore) -> None:
    stored, created = store.put(GLUE, "me", ANY)
    assert (created, stored.version) == (True, 1)
    assert store.get("red_glue") == stored
    assert Defect(id="red_glue", **dict(stored.fields)) == GLUE
    assert ids(store)[-1] == "red_glue"


def test_every_change_counts_and_a_change_of_nothing_does_not(store: CatalogStore) -> None:
    revisions = [store.revision()]
    for change in (
        lambda: store.put(GLUE, "me", ANY),
        lambda: store.put(GLUE, "me", ANY),
        lambda: store.change("red_glue", lambda _: with_severity("critical"), "you", ANY),
        lambda: store.delete("red_glue", "me", ANY),
    ):
        change()
        revisions.append(store.revision())
    assert revisions == [1, 2, 2, 3, 4]


def test_history_says_who_when_before_and_after_and_outlives_the_defect(store: CatalogStore) -> None:
    store.put(GLUE, "王工", ANY)
    store.change("red_glue", lambda _: with_severity("critical"), "you", ANY)
    store.delete("red_glue", "me", ANY)
    stored, created = store.put(GLUE, "me", ANY)
    assert (stored.version, created) == (4, True)  # numbers go on: an old ETag never fits again
    history = store.history("red_glue")
    assert [entry.version for entry in history] == [1, 2, 3, 4]
    assert [entry.actor for entry in history] == ["王工", "you", "me", "me"]
    assert [(entry.before is None, entry.after is None) for entry in history] == [
        (True, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    assert history[1].before == history[0].after == GLUE.model_dump(mode="json")
    assert history[1].after == GLUE.model_dump(mode="json") | {"severity": "critical"}
    assert all(timedelta(0) <= datetime.now(UTC) - entry.at < timedelta(hours=1) for entry in history)


def test_a_stale_change_is_refused_and_changes_nothing(store: CatalogStore) -> None:
    store.put(GLUE, "me", ANY)
    store.change("red_glue", lambda _: with_severity("critical"), "you", expecting(1))
    for change in (
        lambda: store.put(GLUE, "me", expecting(1)),
        lambda: store.change("red_glue", lambda fields: fields, "me", expecting(1)),
        lambda: store.delete("red_glue", "me", expecting(1)),
        lambda: store.put(GLUE, "me", Precondition(nothing=True)),
        lambda: store.delete("nothing", "me", expecting(1)),
        lambda: store.replace(SEEDS, "me", expecting(1)),
    ):
        with pytest.raises(StaleError):
            change()
    assert store.get("red_glue").severity == "critical"
    assert len(store.history("red_glue")) == 2


@pytest.mark.parametrize("defect_id", ["nothing", "nothing\0", "Nothing", "nothing" * 10_000, "nothing断"])
def test_what_is_not_there_is_named(store: CatalogStore, defect_id: str) -> None:
    for question in (
        lambda: store.get(defect_id),
        lambda: store.history(defect_id),
        lambda: store.change(defect_id, lambda fields: fields, "me", ANY),
        lambda: store.delete(defect_id, "me", ANY),
    ):
        with pytest.raises(NotFoundError, match=r"(?i)nothing"):
            question()


def test_a_name_of_another_defect_is_a_conflict(store: CatalogStore) -> None:
    with pytest.raises(ConflictError, match="短路"):
        store.put(GLUE.model_copy(update={"names": Names(zh=("短路",))}), "me", ANY)
    assert "red_glue" not in ids(store)


def test_the_last_enabled_defect_that_fits_is_the_64th(store: CatalogStore) -> None:
    for number in range(MAX_ENABLED - len(SEEDS)):
        store.put(Defect(id=f"d{number}", names=Names(en=(f"kind {number}",))), "me", ANY)
    with pytest.raises(ConflictError, match="enabled"):
        store.put(GLUE, "me", ANY)
    store.put(GLUE.model_copy(update={"enabled": False}), "me", ANY)


def test_replacing_the_catalog_is_one_change_that_spares_what_stays(store: CatalogStore) -> None:
    spur = SEEDS[3].model_copy(update={"minimum_size_px": 9})
    done = store.replace([GLUE, spur, SEEDS[0]], "me", expecting(1))
    assert (done.revision, done.added, done.changed) == (2, ("red_glue",), ("spur",))
    assert set(done.deleted) == {seed.id for seed in SEEDS} - {"spur", "open"}
    assert [(defect.id, defect.version) for defect in store.load()[1]] == [("red_glue", 1), ("spur", 2), ("open", 1)]
    assert store.history("short")[-1].after is None
    again = store.replace(store.load()[1], "me", ANY)
    assert (again.revision, again.added, again.changed, again.deleted) == (2, (), (), ())


def test_replacing_in_another_order_counts_but_changes_no_defect(store: CatalogStore) -> None:
    assert store.replace(SEEDS[::-1], "me", ANY).revision == 2
    assert ids(store) == [seed.id for seed in SEEDS[::-1]]
    assert len(store.history("open")) == 1


def test_a_replacement_that_does_not_fit_together_changes_nothing(store: CatalogStore) -> None:
    with pytest.raises(ParameterError, match=r"spur.*spur"):
        store.replace([SEEDS[3], GLUE.model_copy(update={"names": Names(en=("spur",))})], "me", ANY)
    assert (store.revision(), len(ids(store))) == (1, 12)


def test_changes_side_by_side_all_arrive(store: CatalogStore) -> None:
    store.put(GLUE, "me", ANY)

    def grow(_: int) -> int:
        def larger(fields: DefectFields) -> DefectFields:
            return fields.model_copy(update={"minimum_size_px": fields.minimum_size_px + 1})

        return store.change("red_glue", larger, "me", ANY).version

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(grow, range(20)))
    assert sorted(versions) == list(range(2, 22))
    assert store.get("red_glue").minimum_size_px == GLUE.minimum_size_px + 20
    assert store.revision() == 22


def test_one_of_those_that_build_on_the_same_version_wins(store: CatalogStore) -> None:
    def rename(number: int) -> bool:
        named = DefectFields(names=Names(en=(f"spike {number}",)))
        try:
            store.change("spur", lambda _: named, f"engineer {number}", expecting(1))
        except StaleError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(rename, range(8))).count(True) == 1
    assert store.get("spur").version == 2
