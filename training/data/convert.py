"""Datasets from other formats: Pascal VOC and YOLO folders.

Every fault is collected with its file and line, and all are raised together. A class called by any name of a known
defect gets that defect's names and descriptions. Images stay where they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
import yaml
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from export.contract.defects import Defect, normalise
from training.data.check import LEAST_AREA, TOLERANCE_PX, area
from training.data.dataset import Dataset, DatasetError, Sample, known_category, read_resolution_wh

CLASS_LIST = "classes.txt"  # that LabelImg writes beside the labels
IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class _Box:
    """A box by its class's name, with its outline (M, 2) in pixels where there is one."""

    class_name: str
    xyxy: NDArray[np.float64]
    outline: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class _Picture:
    path: Path
    resolution_wh: tuple[int, int]
    boxes: list[_Box]


def from_voc(folder: Path, split: str | None = None, *, zero_based: bool = False) -> Dataset:
    """Pascal VOC: `Annotations/*.xml` (or `*.xml`), images in `JPEGImages/`, `folder` or beside the XML.

    `split` takes only the stems that `ImageSets/Main/SPLIT.txt` lists. VOC counts pixels from 1 and includes both
    ends: xmin..xmax becomes the edges xmin - 1..xmax (Everingham et al., VOC2012 Development Kit, section 4.1).
    With `zero_based` the numbers are the edges, counted from 0, as some tools write them.

    Raises:
        DatasetError: names every unreadable or missing file and every faulty object.
    """
    annotations = folder / "Annotations"
    annotations = annotations if annotations.is_dir() else folder
    files = sorted(annotations.glob("*.xml"))
    faults: list[str] = []
    if split is not None:
        stems = _read_text(folder / "ImageSets" / "Main" / f"{split}.txt", faults).split()
        files = [annotations / f"{stem}.xml" for stem in stems]
    if not files and not faults:
        faults.append(f"{annotations} holds no annotations, *.xml")
    pictures = [picture for file in files for picture in _voc_picture(file, folder, zero_based, faults)]
    _raise_all(faults, folder)
    return _dataset(sorted({box.class_name for picture in pictures for box in picture.boxes}), pictures)


def from_yolo(folder: Path, split: str | None = None) -> Dataset:
    """YOLO: `data.yaml` with names, `images/**`, `labels/**` with lines `class cx cy w h` or `class x1 y1 x2 y2 ...`,
    shares of the image; a line of points becomes a polygon and the box around it.

    `split` takes only `images/SPLIT/**`. Where there is no `images/`, those of `train/images/**`, `train/labels/**` and
    the like are taken, as Roboflow sorts them. An image without a label file is a good board.

    Raises:
        DatasetError: names every unreadable or missing file and every faulty line.
    """
    faults: list[str] = []
    names = _yolo_names(folder / "data.yaml", faults)
    folders = _yolo_folders(folder, split)
    pictures = [picture for each in folders for picture in _yolo_pictures(*each, names, faults)]
    if not any(_image_paths(images) for images, _ in folders):
        faults.append(f"{folder} holds no images, neither in images/{split or ''} nor in {split or 'SPLIT'}/images/")
    _raise_all(faults, folder)
    return _dataset(names.values(), pictures)


def _yolo_folders(folder: Path, split: str | None) -> list[tuple[Path, Path]]:
    """The folders of images and of their labels."""
    if (folder / "images").is_dir():
        return [(folder / "images" / (split or ""), folder / "labels" / (split or ""))]
    parents = [folder / split] if split else sorted(images.parent for images in folder.glob("*/images"))
    return [(parent / "images", parent / "labels") for parent in parents]


def _yolo_pictures(images: Path, labels: Path, names: Mapping[int, str], faults: list[str]) -> Iterator[_Picture]:
    paths = _image_paths(images)
    stems = {_stem(path, images) for path in paths}
    if paths and not labels.is_dir():  # else every board would be a good one
        faults.append(
            f"{labels} is missing, expected a text file in it for each image with boxes; copy it there, "
            "or make an empty folder if all boards are good"
        )
    files = (file for file in sorted(labels.rglob("*.txt")) if file.name != CLASS_LIST)
    faults += [f"{file} has no image" for file in files if _stem(file, labels) not in stems]
    for path in paths:
        file = labels / path.relative_to(images).with_suffix(".txt")
        resolution_wh = _resolution_wh(path, faults)
        if resolution_wh and names:
            lines = _read_text(file, faults).splitlines() if file.exists() else []
            yield _Picture(path, resolution_wh, _yolo_boxes(file, lines, names, resolution_wh, faults))


def _voc_picture(file: Path, folder: Path, zero_based: bool, faults: list[str]) -> Iterator[_Picture]:
    """The picture of an annotation file, or nothing when it has faults that hide the boxes."""
    try:
        # defusedxml refuses entity declarations, which can grow without bounds or read other files.
        root = fromstring(file.read_bytes())
    except (OSError, ParseError, ValueError, LookupError) as error:
        faults.append(f"{file}: cannot be read: {error}")
        return
    name = (root.findtext("filename") or "").strip()
    places = [parent / name for parent in (folder / "JPEGImages", folder, file.parent)]
    path = next((place for place in places if name and place.is_file()), None)
    if path is None:
        faults.append(f"{file}: filename {name!r} is in none of {', '.join(str(place.parent) for place in places)}")
        return
    resolution_wh = _resolution_wh(path, faults)
    if resolution_wh is None:
        return
    stated = tuple((root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height"))
    if stated not in {("0", "0"), tuple(map(str, resolution_wh))}:
        faults.append(f"{file}: size is {'x'.join(stated)}, but {path} has {'x'.join(map(str, resolution_wh))} pixels")
    boxes = []
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            x1, y1, x2, y2 = (float(element.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
            class_name = (element.findtext("name") or "").strip()
            if not class_name:
                raise ValueError("has no name")
            first = 0 if zero_based else 1
            if 0 <= min(x1, y1) < first - TOLERANCE_PX:
                raise ValueError(
                    f"xmin, ymin is {x1:g}, {y1:g}, but VOC counts from 1; where boxes count from 0, give --zero-based"
                )
            boxes.append(_Box(class_name, _inside(np.array([x1 - first, y1 - first, x2, y2]), resolution_wh)))
        except ValueError as error:
            faults.append(f"{file}: object {number}: {error}")
    yield _Picture(path, resolution_wh, boxes)


def _yolo_names(file: Path, faults: list[str]) -> dict[int, str]:
    try:
        tree = yaml.safe_load(_read_text(file, faults))
    except yaml.YAMLError as error:
        faults.append(f"{file}: is not YAML: {error}")
        return {}
    names = tree.get("names") if isinstance(tree, dict) else None
    entries = names if isinstance(names, dict) else dict(enumerate(names)) if isinstance(names, list) else {}
    sound = {
        key: name.strip()
        for key, name in entries.items()
        if isinstance(key, int) and isinstance(name, str) and name.strip()
    }
    if not entries or len(sound) < len(entries):
        faults.append(f"{file}: names is {names!r}, expected a list of texts or a mapping from class numbers to texts")
    return sound


def _yolo_boxes(
    file: Path, lines: Iterable[str], names: Mapping[int, str], resolution_wh: tuple[int, int], faults: list[str]
) -> list[_Box]:
    boxes = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        try:
            if fields:
                boxes.append(_yolo_box(fields, names, resolution_wh))
        except ValueError as error:
            faults.append(f"{file}:{number}: {error}")
    return boxes


def _yolo_box(fields: list[str], names: Mapping[int, str], resolution_wh: tuple[int, int]) -> _Box:
    class_id, numbers = int(fields[0]), np.array([float(field) for field in fields[1:]])
    if class_id not in names:
        raise ValueError(f"class {class_id} is not among the names of data.yaml, {sorted(names)}")
    if not (np.abs(numbers - 0.5) <= 0.51).all():  # a hair outside may be rounding; NaN is never within
        raise ValueError(f"{numbers.tolist()}, expected shares of the image from 0 to 1")
    if len(numbers) == 4:
        centre, half = numbers[:2], numbers[2:] / 2
        corners = np.stack([centre - half, centre + half]) * resolution_wh
        return _Box(names[class_id], _inside(corners.ravel(), resolution_wh))
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{len(fields)} fields, expected class cx cy w h, or class and x y of at least 3 points")
    outline = numbers.reshape(-1, 2) * resolution_wh
    bounds = _inside(np.concatenate([outline.min(axis=0), outline.max(axis=0)]), resolution_wh)
    if area(outline.ravel().tolist()) < LEAST_AREA:
        raise ValueError(f"polygon {outline.tolist()} has no area; its points must not lie on one line")
    return _Box(names[class_id], bounds, np.clip(outline, bounds[:2], bounds[2:]))


def _inside(xyxy: NDArray[np.float64], resolution_wh: tuple[int, int]) -> NDArray[np.float64]:
    """A box without what rounding put outside the image."""
    limits = np.array([*resolution_wh, *resolution_wh])
    if not ((xyxy >= -TOLERANCE_PX) & (xyxy <= limits + TOLERANCE_PX)).all():  # NaN is never inside
        raise ValueError(f"box {xyxy.tolist()} (xyxy, from 0) reaches outside the image, {list(resolution_wh)} pixels")
    if not (xyxy[:2] < xyxy[2:]).all():
        raise ValueError(f"box {xyxy.tolist()} (xyxy) has no area")
    return np.clip(xyxy, 0, limits)


def _dataset(names: Iterable[str], pictures: Iterable[_Picture]) -> Dataset:
    called: dict[str, Defect] = {}
    defects = {name: called.setdefault(normalise(name), known_category(name)) for name in names}
    categories = tuple(dict.fromkeys(defects.values()))  # two names of one defect become one category
    samples = (
        Sample(
            path=picture.path,
            resolution_wh=picture.resolution_wh,
            boxes_xyxy=np.array([box.xyxy for box in picture.boxes], np.float32).reshape(-1, 4),
            class_ids=np.array([categories.index(defects[box.class_name]) for box in picture.boxes], np.int64),
            polygons=tuple(() if box.outline is None else (box.outline.astype(np.float32),) for box in picture.boxes),
            descriptions=((),) * len(picture.boxes),
        )
        for picture in pictures
    )
    return Dataset(categories, tuple(samples))


def _image_paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _stem(file: Path, folder: Path) -> Path:
    return file.relative_to(folder).with_suffix("")


def _read_text(file: Path, faults: list[str]) -> str:
    """A text file, or '' and a fault."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file}: cannot be read: {error}")
        return ""


def _resolution_wh(path: Path, faults: list[str]) -> tuple[int, int] | None:
    try:
        return read_resolution_wh(path)
    except DatasetError as error:
        faults.append(str(error))
        return None


def _raise_all(faults: list[str], folder: Path) -> None:
    if faults:
        raise DatasetError(f"{len(faults)} faults in {folder}:\n" + "\n".join(faults))
