"""The stages of a request as the gateway's Server-Timing tells them, and what each takes of it."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.benchmarks.service.reply import Reply

OVERLAPPING = ("triton", "prompts", "catalog")  # within `infer`, and beside `decode`


def stages_of(reply: Reply) -> dict[str, float]:
    """Milliseconds by stage; none of a server that does not tell."""
    told = re.findall(r"(\w+);dur=([\d.]+)", reply.headers.get("server-timing", ""))
    return {name: float(milliseconds) for name, milliseconds in told}


def own_ms(replies: Sequence[Reply]) -> list[float]:
    """The gateway's own time in each: the request without the time in Triton."""
    stages = map(stages_of, replies)
    return [each["request"] - each["triton"] for each in stages if "triton" in each]


def breakdown(replies: Sequence[Reply]) -> dict[str, Any]:
    """Medians by stage and their share of the request, and what no stage has."""
    told = [stages_of(reply) for reply in replies if reply.status == 200]
    for stages in told:
        known = sum(value for name, value in stages.items() if name not in {"request", *OVERLAPPING})
        stages["outside of stages"] = stages["request"] - known
    names = list(dict.fromkeys(name for stages in told for name in stages))
    medians = {name: float(np.median([stages.get(name, 0.0) for stages in told])) for name in names}
    return {
        name: {"ms": round(value, 2), "share": round(value / medians["request"], 4)} for name, value in medians.items()
    }
