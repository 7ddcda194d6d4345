from ipaddress import IPv4Address

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
        noted.note("unknown", str(IPv4Address(number)))
    assert len(noted._told_at) == refusals.MAX_ADDRESSES


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%" + "x" * 60_000, "fe80::1"),
        ("x" * 60_000, "unknown"),
        ("10.0.0.7 was let in\n", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_address_is_neither_kept_nor_told(
    host: str | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(refusals.LOG, "warning", lambda text, *values: lines.append(text % values))
    noted = Refusals(Counter("refused", "", ("reason",), registry=CollectorRegistry()))
    noted.note("unknown", host)
    assert list(noted._told_at) == [address]
    assert lines[0].startswith(f"an API key from {address} was refused")
