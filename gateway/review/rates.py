"""Rates of false calls and escapes for Prometheus, the same whichever worker is asked: their sums are the database's.

Read every REFRESH_S in the background with one query. A scrape gets what was read last and never waits; while the
database is away it gets what was known.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.background import end
from gateway.errors import DatabaseError
from gateway.review.store import ReviewStore, Total

LOG = logging.getLogger("gateway.review")
REFRESH_S = 5.0
MAX_RECIPES = 50  # label values; all others are one
OTHER_RECIPES = "other"
LABELS = ("defect", "recipe")


class Rates(Collector):
    """A collector of the sums; reads them while it is used as a context."""

    def __init__(self, store: ReviewStore) -> None:
        self._store = store
        self._totals: Sequence[Total] = ()
        self._named: frozenset[str] = frozenset()

    def collect(self) -> Iterable[Metric]:
        """The sums as last read."""
        return families(self._totals, self._named)

    async def _refresh(self) -> None:
        try:
            totals = await asyncio.to_thread(self._store.totals)
            self._named = named_recipes(totals, self._named)
            self._totals = totals
        except DatabaseError:
            pass  # pcbd_database_up tells
        except Exception:  # a scrape must not fail for it
            LOG.exception("reading the sums of reviews failed")

    async def _run(self) -> None:
        while True:
            await self._refresh()
            await asyncio.sleep(REFRESH_S)

    async def __aenter__(self) -> "Rates":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)


def named_recipes(totals: Sequence[Total], before: frozenset[str]) -> frozenset[str]:
    """The recipes with a label of their own: those that had one `before`, then those with most feedback.

    Whoever is among OTHER_RECIPES stays there: their counters must not fall.
    """
    feedback: Counter[str] = Counter()
    for total in totals:
        feedback[total.recipe] += total.given
    others = sorted(feedback.keys() - before, key=lambda recipe: (-feedback[recipe], recipe))
    return before.union(others[: MAX_RECIPES - len(before)])


def families(totals: Sequence[Total], named: Collection[str]) -> list[Metric]:
    """The metrics that the sums make; all recipes but the `named` are one."""
    given: Counter[tuple[str, str, str]] = Counter()
    standing: Counter[tuple[str, str, str]] = Counter()
    complete: Counter[tuple[str, str, str]] = Counter()
    for total in totals:
        key = (total.defect, total.recipe if total.recipe in named else OTHER_RECIPES, total.outcome)
        given[key] += total.given
        standing[key] += total.standing
        complete[key] += total.complete

    judged = CounterMetricFamily(
        "pcbd_reviewed_detections_total", "Detections that people judged.", labels=(*LABELS, "judgement")
    )
    escapes = CounterMetricFamily("pcbd_escapes_total", "Defects that people found missed.", labels=LABELS)
    false_calls = GaugeMetricFamily(
        "pcbd_false_call_ratio", "Detections judged false among those judged, of reviews kept.", labels=LABELS
    )
    escaped = GaugeMetricFamily(
        "pcbd_escape_ratio",
        "Defects missed among those there are, of kept reviews that looked at the whole picture.",
        labels=LABELS,
    )
    for (defect, recipe, outcome), number in sorted(given.items()):
        if outcome == "missed":
            escapes.add_metric((defect, recipe), number)
        else:
            judged.add_metric((defect, recipe, outcome), number)
    for defect, recipe in sorted({key[:2] for key in given}):
        right, false = standing[defect, recipe, "right"], standing[defect, recipe, "false"]
        if right + false:
            false_calls.add_metric((defect, recipe), false / (right + false))
        found, missed = complete[defect, recipe, "right"], complete[defect, recipe, "missed"]
        if found + missed:
            escaped.add_metric((defect, recipe), missed / (found + missed))
    return [judged, escapes, false_calls, escaped]
