"""Datasets from and to COCO files with descriptions; docs/data.md shows the format by an example.

Does not know what makes a file faulty (check.py).
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.contract.defects import Defect
from training.data.check import inspect_coco
from training.data.dataset import Dataset, DatasetError, Sample, is_chinese
from training.data.document import AnnotationRecord, CategoryRecord, Document, ImageRecord


def read_coco(file: Path) -> Dataset:
    """The dataset of a COCO file; boxes x, y, width, height become xyxy, ids become indices and sentences.

    Raises:
        DatasetError: lists every error that check.check_coco finds in the file; its warnings are passed over.
    """
    document, faults = inspect_coco(file)
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors:
        raise DatasetError(f"{len(errors)} faults in {file}:\n" + "\n".join(map(str, errors)))
    annotations: dict[int, list[AnnotationRecord]] = defaultdict(list)
    for annotation in document.annotations.values():
        annotations[annotation.image_id].append(annotation)
    class_ids = {entry.id: index for index, entry in enumerate(document.categories.values())}
    return Dataset(
        tuple(_category(document, entry) for entry in document.categories.values()),
        tuple(_sample(document, image, annotations[image.id], class_ids) for image in document.images.values()),
    )


def _category(document: Document, entry: CategoryRecord) -> Defect:
    texts = [document.text_descriptions[text_id] for text_id in entry.description_ids]
    defect = entry.as_defect()
    english, chinese = ([text for text in texts if is_chinese(text) == wanted] for wanted in (False, True))
    return replace(
        defect,
        descriptions_en=tuple(dict.fromkeys([*english, *defect.descriptions_en])),
        descriptions_zh=tuple(dict.fromkeys([*chinese, *defect.descriptions_zh])),
    )


def _sample(
    document: Document, image: ImageRecord, annotations: list[AnnotationRecord], class_ids: dict[int, int]
) -> Sample:
    boxes = np.array([annotation.bbox for annotation in annotations], np.float64).reshape(-1, 4)  # (N, 4) xywh
    boxes[:, 2:] += boxes[:, :2]
    texts = document.text_descriptions
    return Sample(
        path=document.path(image),
        resolution_wh=(image.width, image.height),
        boxes_xyxy=boxes.astype(np.float32),
        class_ids=np.array([class_ids[annotation.category_id] for annotation in annotations], np.int64),
        polygons=tuple(
            tuple(np.array(polygon, np.float32).reshape(-1, 2) for polygon in annotation.segmentation)
            for annotation in annotations
        ),
        descriptions=tuple(
            tuple(texts[text_id] for text_id in annotation.description_ids) for annotation in annotations
        ),
        image_descriptions=tuple(texts[text_id] for text_id in image.description_ids),
        group=image.group,
        template=None if image.template is None else document.folder / image.template,
    )


class _Texts:
    """Sentences by the ids that they are given as they come; an equal sentence has one id."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def ids(self, texts: Iterable[str]) -> list[str]:
        return [self._ids.setdefault(text, f"defect_{len(self._ids) + 1:03d}") for text in texts]

    def by_id(self) -> dict[str, str]:
        return {text_id: text for text, text_id in self._ids.items()}


def write_coco(dataset: Dataset, file: Path, info: Mapping[str, str]) -> None:
    """Writes a dataset with `info` on top; image paths become relative to the file's folder.

    Reading the file gives the same dataset: coordinates keep all their digits.
    """
    texts = _Texts()
    categories = [
        {
            "id": number,
            "name": defect.id,
            "names": {"en": defect.names_en, "zh": defect.names_zh},
            "description_ids": texts.ids(defect.descriptions_en + defect.descriptions_zh),
        }
        for number, defect in enumerate(dataset.categories, start=1)
    ]
    folder = file.parent.resolve()
    paths = (path for sample in dataset.samples for path in (sample.path, sample.template) if path is not None)
    relative = {parent: Path(os.path.relpath(parent.resolve(), folder)) for parent in {path.parent for path in paths}}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(dataset.samples, start=1):
        width, height = sample.resolution_wh
        file_name = (relative[sample.path.parent] / sample.path.name).as_posix()
        image: dict[str, Any] = {"id": number, "file_name": file_name, "width": width, "height": height}
        if sample.group:
            image["group"] = sample.group
        if sample.template is not None:
            image["template"] = (relative[sample.template.parent] / sample.template.name).as_posix()
        if sample.image_descriptions:
            image["description_ids"] = texts.ids(sample.image_descriptions)
        images.append(image)
        annotations.extend(_annotations(sample, number, len(annotations), texts))
    tree = {
        "info": dict(info),
        "text_descriptions": texts.by_id(),
        "categories": categories,
        "images": images,
        "annotations": annotations,
    }
    file.write_text(json.dumps(tree, ensure_ascii=False) + "\n", encoding="utf-8")


def _annotations(sample: Sample, image_id: int, before: int, texts: _Texts) -> Iterable[dict[str, Any]]:
    """The entries of a sample's boxes; `before` others have been written."""
    boxes = sample.boxes_xyxy.astype(np.float64)  # differences of float32 are exact in float64
    boxes[:, 2:] -= boxes[:, :2]
    for index, (x, y, width, height) in enumerate(boxes.tolist()):
        annotation: dict[str, Any] = {
            "id": before + index + 1,
            "image_id": image_id,
            "category_id": int(sample.class_ids[index]) + 1,
            "bbox": [x, y, width, height],
            "area": width * height,
            "iscrowd": 0,
        }
        if sample.polygons[index]:
            annotation["segmentation"] = [polygon.ravel().tolist() for polygon in sample.polygons[index]]
        if sample.descriptions[index]:
            annotation["description_ids"] = texts.ids(sample.descriptions[index])
        yield annotation
