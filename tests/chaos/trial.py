"""What a trial is told and what it tells: how large it is to be, what it measured, which limits it missed."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """How much of a trial is run: the short form, or `factor` of the full one's counts and durations."""

    short: bool
    factor: float = 1.0

    def number(self, full: int, short: int) -> int:
        """A count, at least 1."""
        return short if self.short else max(1, round(full * self.factor))

    def seconds(self, full: float, short: float) -> float:
        """A duration."""
        return short if self.short else full * self.factor


class Outcome:
    """Figures by name, each with its limit where it has one; `missed` are those that lie beyond it."""

    def __init__(self, scale: Scale) -> None:
        self._short = scale.short
        self.figures: dict[str, Any] = {}
        self.missed: list[str] = []

    def note(self, name: str, value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """A figure without a limit."""
        self.figures[name] = _rounded(value)

    def same(self, name: str, value: Any, expected: Any) -> None:  # noqa: ANN401
        """A figure that must be what was expected."""
        self._judge(name, value, {"expected": expected}, value == expected)

    def most(self, name: str, value: float, limit: float) -> None:
        """A figure that must not be above the limit; NaN is."""
        self._judge(name, value, {"most": limit}, value <= limit)

    def least(self, name: str, value: float, limit: float) -> None:
        """A figure that must not be below the limit; NaN is."""
        self._judge(name, value, {"least": limit}, value >= limit)

    def quick(self, name: str, value: float, limit: float) -> None:
        """As `most`, of what a machine at other work or a short time changes; the short form only tells it."""
        self._judge(name, value, {"most": limit}, self._short or value <= limit)

    def brisk(self, name: str, value: float, limit: float) -> None:
        """As `least`, of a rate; the short form only tells it."""
        self._judge(name, value, {"least": limit}, self._short or value >= limit)

    def lacking(self, name: str, what: str) -> None:
        """What the machine lacks for a judgement; one that is not made is missed, and the short form only tells it."""
        self._judge(name, what, {"expected": None}, self._short)

    def _judge(self, name: str, value: Any, limit: dict[str, Any], kept: bool) -> None:  # noqa: ANN401
        self.figures[name] = {"value": _rounded(value), **limit}
        if not kept:
            ((kind, bound),) = limit.items()
            self.missed.append(f"{name} is {_rounded(value)}, {kind} {bound}")


def _rounded(value: Any) -> Any:  # noqa: ANN401
    return round(value, 4) if isinstance(value, float) else value
