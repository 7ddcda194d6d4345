"""The report's curves as pictures: rates and growth."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def plot_overload(report: dict[str, Any], path: Path) -> None:
    """Answers and refusals by the rate that is asked for, and percentiles of the answers' latency."""
    rows = report["rates"]
    rates = [row["rate_per_s"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(rates, [row["answered_per_s"] for row in rows], "o-", label="answered")
    refused = [row["refused"] / row["requests"] * row["rate_per_s"] for row in rows]
    left.plot(rates, refused, "s--", label="refused (429)")
    left.axvline(report["knee_per_s"], color="gray", linewidth=1, label="knee")
    left.set(xlabel="requests a second", ylabel="a second", ylim=(0, None))
    for name in ("p50", "p95", "p99"):
        right.plot(rates, [row["latency_ms"][name] for row in rows], "o-", label=name)
    right.set(xlabel="requests a second", ylabel="latency of answers, ms", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def plot_growth(report: dict[str, Any], path: Path) -> None:
    """A panel for each curve, both axes logarithmic, with the exponents of its fits."""
    figure, panels = plt.subplots(2, -(-len(report) // 2), figsize=(12, 6.4), layout="constrained")
    for axes, (name, curve) in zip(panels.flat, report.items(), strict=False):
        for kind, line in (("latency", "o--"), ("processor", "s-")):
            label = f"{kind}: exponent {curve[kind]['exponent']}, R² {curve[kind]['r2']}"
            axes.loglog(curve["sizes"], curve[f"{kind}_ms"], line, label=label)
        axes.set(title=name, xlabel=name, ylabel="median, ms")
        axes.set_ylim(min(curve["processor_ms"]) / 3, max(curve["latency_ms"]) * 3)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=80)
    plt.close(figure)
