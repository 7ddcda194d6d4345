"""What came of a request: its status, when it ended, and what was answered. Knows no protocol."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REFUSALS = (429, 503)


@dataclass(frozen=True)
class Reply:
    """`content` is the answer as the server gave it; `headers` are lower-case."""

    status: int
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[], Awaitable[Reply]]


@dataclass(frozen=True)
class Timed:
    """A reply and the milliseconds from the moment at which it was due to be asked for."""

    reply: Reply
    milliseconds: float


def answered(reply: Reply) -> Any:  # noqa: ANN401
    """What a server said.

    Raises:
        RuntimeError: it did not answer.
    """
    if reply.status != 200:
        raise RuntimeError(f"a server answered {reply.status}: {reply.content}")
    return reply.content


def percentiles(values: Sequence[float], *percents: int) -> dict[str, float]:
    """By name; none of no values."""
    if not values:
        return {}
    return {f"p{percent}": round(float(np.percentile(values, percent)), 2) for percent in percents}


def outcome(replies: Sequence[Timed], seconds: float) -> dict[str, Any]:
    """What a load came to: answers a second, their latencies, and what was refused, how soon, and with what advice."""
    answered = [each.milliseconds for each in replies if each.reply.status == 200]
    refused = [each for each in replies if each.reply.status in REFUSALS]
    return {
        "requests": len(replies),
        "answered": len(answered),
        "refused": len(refused),
        "failed": len(replies) - len(answered) - len(refused),
        "answered_per_s": round(len(answered) / seconds, 3),
        "latency_ms": percentiles(answered, 25, 50, 75, 95, 99),
        "refusal_ms": percentiles([each.milliseconds for each in refused], 50, 99),
        "refused_without_retry_after": sum("retry-after" not in each.reply.headers for each in refused),
    }
