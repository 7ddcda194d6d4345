"""The figures of `python -m export.report` as a page and a plot; knows nothing of how they were measured."""

from pathlib import Path
from typing import Any


def as_markdown(content: dict[str, Any]) -> str:
    """A table of the figures, a row for each engine and number of threads."""
    batches = content["batches"]
    metrics = ["threads", "size_mb", *(f"latency_ms_{size}" for size in batches), "tiles_per_second"]
    head = ["engine", "threads", "size, MB", *(f"ms, batch {size}" for size in batches), "tiles/s"]
    if content["images"]:
        metrics, head = [*metrics, "map50"], [*head, "mAP@0.5"]
    lines = [f"# The detector of {content['checkpoint']['name']} by precision", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for entry in content["engines"]:
        lines.append("| " + " | ".join([entry["name"], *(f"{entry[metric]:g}" for metric in metrics)]) + " |")
    judged = f"mAP@0.5 on {content['images']} pictures" if content["images"] else "no labelled pictures, hence no mAP"
    tile = content["checkpoint"]["tile"]
    lines += [
        "",
        f"Tiles of {tile} x {tile}, {judged}. Medians of {content['rounds']} rounds in which all took turns; "
        f"{content['machine']['processor']}, cores: {content['machine']['cores']}. Calibrated on "
        f"{content['calibration_tiles']} tiles. PyTorch's size is the checkpoint's, whose weights are halves.",
    ]
    for reason in dict.fromkeys(content["missing"].values()):
        names = ", ".join(name for name, other in content["missing"].items() if other == reason)
        lines.append(f"\nNot run, {names}: {reason}")
    return "\n".join(lines) + "\n"


def draw(content: dict[str, Any], file: Path) -> None:
    """Latency of one tile, quarters as whiskers, against mAP@0.5, or the size where that was not judged."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    metric, label = ("map50", "mAP@0.5") if content["images"] else ("size_mb", "size, MB")
    size = content["batches"][0]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    threads = content["engines"][0]["threads"]
    for entry in (entry for entry in content["engines"] if entry["threads"] == threads):
        latency, (low, high) = entry[f"latency_ms_{size}"], entry[f"latency_ms_{size}_quarters"]
        axes.errorbar(latency, entry[metric], xerr=[[latency - low], [high - latency]], color="grey", capsize=3)
        axes.scatter(latency, entry[metric], s=60, label=f"{entry['name']}, {entry['size_mb']:g} MB", zorder=3)
    axes.set(xlabel=f"ms for a batch of {size}, threads: {threads}", ylabel=label, title=content["checkpoint"]["name"])
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)
    plt.close(figure)
