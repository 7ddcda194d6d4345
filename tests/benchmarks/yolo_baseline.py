"""What YOLOv8n learns from the same boards in as much time of a processor: the baseline, from random weights.

ultralytics needs torchvision and, from PyPI, torch's CUDA build, so it has an environment of its own (about 6 GB):

    python -m venv yolo
    yolo/bin/pip install --no-cache-dir ultralytics==8.4.190

It trains and detects there; what it found is judged here, by the same functions as our own checkpoints:

    PYTHONPATH=. yolo/bin/python -m tests.benchmarks.yolo_baseline train --epochs 3 \\
        --data ../shared/data/deeppcb --work runs/yolo [--threads 2]
    python -m tests.benchmarks.yolo_baseline judge --data ../shared/data/deeppcb --work runs/yolo

All of train.txt is learned from, val.txt is judged; nothing is chosen by val.txt. The report has the minutes that the
clock and that the processor counted from the first batch on, the process that loads pictures included. ultralytics'
defaults are for hundreds of epochs; some differ here, each in its favour, see SETTINGS. Progress goes to stderr; the
last line of stdout is one JSON object. `judge` knows nothing of ultralytics, and `train` nothing of transformers.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.benchmarks.origin import origin
from training.data.dataset import Dataset, DatasetError
from training.data.deeppcb import read_deeppcb

SIZE = 640  # pixels, as the boards are
NMS_THRESHOLD, SCORE_THRESHOLD, MAX_DETECTIONS = 0.3, 0.01, 200  # as our own checkpoints are read
WARM_UP = 3  # boards that are not timed
SETTINGS: dict[str, Any] = {
    "batch": 16,
    "nbs": 16,  # a step per batch; gathered to 64, a short run would be a few hundred steps
    "warmup_epochs": 1,  # instead of 3 of about ten
    "close_mosaic": 2,  # last epochs without mosaics, instead of 10
    "flipud": 0.5,  # boards have no upside
}
DETECTIONS, TRAINED = "detections.json", "train.json"


def write_yolo_folder(dataset: Dataset, folder: Path) -> Path:
    """Labels in YOLO's format beside links to the pictures, and the file that describes them; returns that file.

    A label line is `class cx cy w h`, the box in 0..1 of the picture. What judges during training are ten pictures
    of those learned from: ultralytics wants some, and so they choose nothing.
    """
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    links = []
    for sample in dataset.samples:
        link = folder / "images" / sample.path.name
        link.unlink(missing_ok=True)
        link.symlink_to(sample.path.resolve())
        links.append(link.absolute())
        corners = sample.boxes_xyxy.reshape(-1, 2, 2) / np.array(sample.resolution_wh)
        middles, sizes = corners.mean(axis=1), corners[:, 1] - corners[:, 0]
        rows = zip(sample.class_ids, np.concatenate([middles, sizes], axis=1), strict=True)
        lines = [f"{class_id} {' '.join(f'{value:.6f}' for value in box)}\n" for class_id, box in rows]
        (folder / "labels" / f"{sample.path.stem}.txt").write_text("".join(lines))
    (folder / "train.txt").write_text("".join(f"{link}\n" for link in links))
    (folder / "val.txt").write_text("".join(f"{link}\n" for link in links[:10]))
    file = folder / "data.yaml"
    names = [category.id for category in dataset.categories]
    tree = {"path": str(folder.absolute()), "train": "train.txt", "val": "val.txt", "names": names}
    file.write_text(json.dumps(tree))  # JSON is YAML
    return file


def detect(model: Any, dataset: Dataset) -> tuple[list[dict[str, Any]], dict[str, float]]:  # noqa: ANN401
    """Detections of each board in val.txt's order, and median milliseconds of a board at batch 1, already decoded."""
    found, whole_ms, network_ms = [], [], []
    for sample in dataset.samples:
        image = cv2.imread(str(sample.path))  # BGR, as ultralytics takes arrays
        started = time.perf_counter()
        result = model.predict(
            image,
            imgsz=SIZE,
            conf=SCORE_THRESHOLD,
            iou=NMS_THRESHOLD,
            max_det=MAX_DETECTIONS,
            device="cpu",
            verbose=False,
        )[0]
        whole_ms.append(1000 * (time.perf_counter() - started))
        network_ms.append(result.speed["inference"])
        boxes = result.boxes
        found.append(
            {
                "boxes_xyxy": boxes.xyxy.tolist(),
                "scores": boxes.conf.tolist(),
                "class_ids": boxes.cls.int().tolist(),
            }
        )
    timed = slice(WARM_UP if len(found) > WARM_UP else 0, None)
    return found, {
        "image_ms": round(statistics.median(whole_ms[timed]), 1),
        "network_ms": round(statistics.median(network_ms[timed]), 1),
    }


def _now() -> tuple[float, float]:
    """Seconds of the clock, and of the processor for this process and those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), time.process_time() + children.ru_utime + children.ru_stime


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains from random weights, and writes what the averaged last weights find on the first boards of val.txt."""
    made = origin()
    work: Path = arguments.work.absolute()
    learned, judging = (read_deeppcb(arguments.data, split) for split in ("train", "val"))
    judging = Dataset(judging.categories, judging.samples[: arguments.images])
    work.mkdir(parents=True, exist_ok=True)
    # Read when ultralytics is imported: no network, no installing, settings apart from the user's.
    os.environ |= {"YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False", "YOLO_CONFIG_DIR": str(work)}
    import torch
    from ultralytics import YOLO, __version__, settings

    settings.update({"sync": False})
    batches: list[tuple[float, float]] = []  # when each began, seconds of the clock and of the processor

    def use_threads(_worker: Any) -> None:  # noqa: ANN401
        torch.set_num_threads(arguments.threads)  # ultralytics leaves one core of the CPU idle

    model = YOLO("yolov8n.yaml")
    model.add_callback("on_train_start", use_threads)
    model.add_callback("on_train_batch_start", lambda _trainer: batches.append(_now()))
    model.train(
        data=str(write_yolo_folder(learned, work / "boards")),
        epochs=arguments.epochs,
        imgsz=SIZE,
        device="cpu",
        pretrained=False,
        amp=False,  # its check downloads a network
        plots=False,
        val=False,
        workers=1,
        seed=0,
        project=str(work),
        name="run",
        exist_ok=True,
        **SETTINGS,
    )
    minutes, cpu_minutes = ((now - first) / 60 for now, first in zip(_now(), batches[0], strict=True))
    trained = YOLO(work / "run" / "weights" / "last.pt")  # the moving average, as ultralytics saves it
    trained.add_callback("on_predict_start", use_threads)
    found, latency = detect(trained, judging)
    (work / DETECTIONS).write_text(json.dumps(found))
    report = {
        **made,
        "model": "yolov8n",
        "ultralytics": __version__,
        "minutes": round(minutes, 2),
        "cpu_minutes": round(cpu_minutes, 2),
        "batches": len(batches),
        "epochs": arguments.epochs,
        "threads": arguments.threads,
        **latency,
    }
    (work / TRAINED).write_text(json.dumps(report))
    return report


def judge(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `train` found, by the figures that our own checkpoints are judged by."""
    from export.contract.boxes import Detections
    from training import evaluate

    work: Path = arguments.work
    missing = [name for name in (TRAINED, DETECTIONS) if not (work / name).is_file()]
    if missing:
        raise DatasetError(f"{work} lacks {', '.join(missing)}; run the command `train` first")
    found = [
        Detections(
            np.array(each["boxes_xyxy"], np.float32).reshape(-1, 4),
            np.array(each["scores"], np.float32),
            np.array(each["class_ids"], np.int64),
        )
        for each in json.loads((work / DETECTIONS).read_text())
    ]
    dataset = read_deeppcb(arguments.data, "val")
    dataset = Dataset(dataset.categories, dataset.samples[: len(found)])
    figures = evaluate.judge(dataset, found).as_json()
    # Of the two commands it is training that took time, so its origin stands, where it was written down.
    return {**origin(), **json.loads((work / TRAINED).read_text()), "images": len(found), **figures}


def main() -> int:
    """Runs the command line; 2 for a folder that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("train", train), ("judge", judge)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--data", type=Path, required=True, help="DeepPCB folder")
        command.add_argument("--work", type=Path, required=True, help="folder of the run")
        if function is train:
            command.add_argument("--epochs", type=int, required=True, help="over train.txt")
            command.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU that compute")
            command.add_argument("--images", type=int, help="that many of val.txt; none: all")
    arguments = parser.parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # ultralytics reports to stdout, which carries our JSON
            report = arguments.function(arguments)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(report))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
