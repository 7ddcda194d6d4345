"""The baseline's folder, read back by our own converter, and its detections, judged as ours are."""

import argparse
import json
from pathlib import Path

import numpy as np

from tests.benchmarks.yolo_baseline import DETECTIONS, TRAINED, judge, write_yolo_folder
from tests.training.boards import write_boards
from training.data.convert import from_yolo
from training.data.deeppcb import read_deeppcb


def test_write_yolo_folder_keeps_every_box_and_class(tmp_path: Path) -> None:
    boards = read_deeppcb(write_boards(tmp_path / "boards"), "train")
    read = from_yolo(write_yolo_folder(boards, tmp_path / "yolo").parent)
    samples = sorted(boards.samples, key=lambda sample: sample.path.name)
    assert [category.id for category in read.categories] == [category.id for category in boards.categories]
    for sample, again in zip(samples, read.samples, strict=True):
        np.testing.assert_allclose(again.boxes_xyxy, sample.boxes_xyxy, atol=0.01)  # pixels
        np.testing.assert_array_equal(again.class_ids, sample.class_ids)


def test_judge_gives_full_marks_to_the_truth(tmp_path: Path) -> None:
    data = write_boards(tmp_path / "boards")
    truth = [
        {
            "boxes_xyxy": sample.boxes_xyxy.tolist(),
            "scores": [0.9] * len(sample.class_ids),
            "class_ids": sample.class_ids.tolist(),
        }
        for sample in read_deeppcb(data, "val").samples[:4]
    ]
    (tmp_path / DETECTIONS).write_text(json.dumps(truth))
    (tmp_path / TRAINED).write_text(json.dumps({"model": "the truth"}))
    report = judge(argparse.Namespace(data=data, work=tmp_path))
    assert (report["model"], report["images"], report["map50"], report["best_f1_iou33"]) == ("the truth", 4, 1.0, 1.0)
