"""The report's curves as pictures: rates, and what grows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def plot_overload(report: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """For each server answers and refusals by the rate that is asked for, and percentiles of the answers' latency."""
    servers = {f"{name}, {picture}": found for picture, those in report.items() for name, found in those.items()}
    size = 10, 3.4 * len(servers)
    figure, panels = plt.subplots(len(servers), 2, figsize=size, layout="constrained", squeeze=False)
    for (left, right), (name, found) in zip(panels, servers.items(), strict=True):
        rows = found["rates"]
        rates = [row["rate_per_s"] for row in rows]
        left.plot(rates, rates, ":", color="gray", linewidth=1, label="asked for")
        left.plot(rates, [row["answered_per_s"] for row in rows], "o-", label="answered")
        refused = [row["refused"] / row["requests"] * row["rate_per_s"] for row in rows]
        left.plot(rates, refused, "s--", label="refused (429)")
        left.set(title=name, xlabel="requests a second", ylabel="a second", ylim=(0, None))
        for kind in ("p50", "p95", "p99"):
            told = [row for row in rows if row["latency_ms"]]
            latencies = [row["latency_ms"][kind] for row in told]
            right.plot([row["rate_per_s"] for row in told], latencies, "o-", label=kind)
        right.set(xlabel="requests a second", ylabel="latency of answers, ms", yscale="log")
        for axes in (left, right):
            axes.axvline(found["knee_per_s"], color="gray", linewidth=1, label=f"knee, {found['knee_per_s']:.3g}")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def plot_growth(report: Mapping[str, Any], path: Path) -> None:
    """A panel for each curve: medians of both times, from the least to the most of the rounds, and their exponents."""
    _plot_curves(report, path, {"latency_ms": "o--", "processor_ms": "s-"}, "ms")


def plot_memory(report: Mapping[str, Any], path: Path) -> None:
    """A panel for each curve."""
    _plot_curves(report, path, {"memory_mb": "o-"}, "MB")


def _plot_curves(report: Mapping[str, Any], path: Path, lines: Mapping[str, str], unit: str) -> None:
    """Both axes logarithmic, beside a size of 0."""
    figure, panels = plt.subplots(2, -(-len(report) // 2), figsize=(14, 6.4), layout="constrained")
    for axes, (name, curve) in zip(panels.flat, report.items(), strict=False):
        for key, line in lines.items():
            kind, values = key.rpartition("_")[0], curve[key]
            label = f"{kind}: exponent {curve[kind]['exponent']}, R² {curve[kind]['r2']}"
            spread = values if isinstance(values, dict) else dict.fromkeys(("median", "least", "most"), values)
            axes.plot(curve["sizes"], spread["median"], line, label=label)
            axes.fill_between(curve["sizes"], spread["least"], spread["most"], alpha=0.2)
        axes.set(title=name, xlabel=name, ylabel=unit, xscale="log", yscale="log")
        if 0 in curve["sizes"]:
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlim(-0.2, 1.5 * curve["sizes"][-1])
        low, high = axes.get_ylim()
        axes.set_ylim(low / 3, high * 3)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=80)
    plt.close(figure)
