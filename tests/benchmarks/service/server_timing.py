"""The stages of a request as the gateway's Server-Timing tells them, and what each takes of it."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.benchmarks.service.reply import Reply

WITHIN = {"infer": ("triton", "prompts")}  # stages that lie in another


def stages_of(reply: Reply) -> dict[str, float]:
    """Milliseconds by stage; none of a server that does not tell."""
    told = re.findall(r"(\w+);dur=([\d.]+)", reply.headers.get("server-timing", ""))
    return {name: float(milliseconds) for name, milliseconds in told}


def breakdown(replies: Sequence[Reply]) -> dict[str, Any]:
    """Medians by stage and their share of the request, and what no stage has."""
    told = [stages_of(reply) for reply in replies if reply.status == 200]
    names = list(dict.fromkeys(name for stages in told for name in stages))
    medians = {name: float(np.median([stages.get(name, 0.0) for stages in told])) for name in names}
    inner = {name for names in WITHIN.values() for name in names}
    outside = medians["request"] - sum(value for name, value in medians.items() if name not in {"request", *inner})
    rows = {**medians, "outside of stages": outside}
    return {
        name: {"ms": round(value, 2), "share": round(value / medians["request"], 4)} for name, value in rows.items()
    }
