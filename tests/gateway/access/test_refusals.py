import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.access import refusals
from gateway.access.refusals import Refusals


def test_an_address_is_told_of_once_and_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    lines: list[str] = []
    monkeypatch.setattr(refusals.LOG, "warning", lambda text, *values: lines.append(text % values))
    noted = Refusals(Counter("refused", "", ("reason",), registry=registry))
    for _ in range(5):
        noted.note("unknown", "10.0.0.7")
    noted.note("missing", "10.0.0.8")
    assert [("10.0.0.7" in line, "10.0.0.8" in line) for line in lines] == [(True, False), (False, True)]
    assert registry.get_sample_value("refused_total", {"reason": "unknown"}) == 5
    for number in range(2 * refusals.MAX_ADDRESSES):
        noted.note("unknown", str(number))
    assert len(noted._told_at) == refusals.MAX_ADDRESSES
