"""Judges the running service, not the checkpoint: every board of a labelled dataset through POST /detect.

    python -m tests.benchmarks.http_accuracy --data ../shared/data/deeppcb
    python -m tests.benchmarks.http_accuracy --data data/synth_val/annotations.json --magnification 0.6 1.25

Starts the service itself when no --url is given. Progress goes to stderr, one JSON object to stdout.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from export.contract.boxes import Detections
from gateway.up import free_port, service
from tests.benchmarks.origin import origin
from training.data.source import read_dataset
from training.evaluate import class_names, judge
from training.metrics import MAX_DETECTIONS
from training.prompts import LANGUAGES, Language

CLIENTS = 3
PARAMETERS = {"score_threshold": "0.01", "nms_threshold": "0.3"}
Names = dict[Language, list[str]]  # of the classes, in each language


def ask(client: httpx.Client, image: bytes, names: Names, magnification: Sequence[float]) -> dict[Language, Detections]:
    """The detections of one board by language; all are asked for in one request, as the evaluation does."""
    data: dict[str, Any] = {
        **PARAMETERS,
        "magnification": json.dumps(magnification),
        "max_detections": str(MAX_DETECTIONS * len(names)),
        "prompt": [name for own in names.values() for name in own],
    }
    answer = client.post("/detect", files={"image": image}, data=data)
    answer.raise_for_status()
    return {language: chosen(answer.json()["detections"], own) for language, own in names.items()}


def chosen(found: Sequence[dict[str, Any]], names: Sequence[str]) -> Detections:
    """The detections that answer one language's names."""
    own = [detection for detection in found if detection["prompt"] in names][:MAX_DETECTIONS]
    corners = [[detection["box"][name] for name in ("x1", "y1", "x2", "y2")] for detection in own]
    return Detections(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array([detection["score"] for detection in own], np.float32),
        np.array([names.index(detection["prompt"]) for detection in own], np.int64),
    )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="val", help="of a DeepPCB folder")
    parser.add_argument("--magnification", type=float, nargs="+", default=[1.0])
    parser.add_argument("--url", help="of a running gateway")
    arguments = parser.parse_args()
    made, dataset = origin(), read_dataset(arguments.data, arguments.split)
    names = {language: class_names(dataset, language) for language in LANGUAGES}
    running = nullcontext(arguments.url) if arguments.url else service(Path("model_repository"), free_port())
    with running as url, httpx.Client(base_url=url, timeout=120) as client, ThreadPoolExecutor(CLIENTS) as pool:
        model = client.get("/readyz").json()["model"]
        answers = pool.map(
            lambda sample: ask(client, sample.path.read_bytes(), names, arguments.magnification), dataset.samples
        )
        found = list(tqdm(answers, total=len(dataset.samples), unit="image", file=sys.stderr, disable=None))
    report: dict[str, Any] = {**made, "model": model, "split": arguments.split, "images": len(dataset.samples)}
    for language in names:
        report[language] = judge(dataset, [answer[language] for answer in found]).as_json()
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
