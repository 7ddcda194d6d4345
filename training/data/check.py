"""Every fault of a COCO file at once: its shape, its references, its boxes, its images, and leaks between splits.

Decodes no pixels, and does not know whether the labels are right.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from export.contract.defects import normalise
from training.data.dataset import DatasetError, read_resolution_wh
from training.data.document import AnnotationRecord, Document, Fault, ImageRecord, place_of, read_document

__all__ = ["Fault", "check_coco", "inspect_coco"]

TOLERANCE_PX = 0.05  # numbers in COCO files are often rounded to two decimals
LEAST_AREA = 1e-6  # square pixels: what is below is rounding of decimals


def check_coco(file: Path, others: Sequence[Path] = ()) -> list[Fault]:
    """The faults of a file, and what it shares with the files of other splits; raises nothing for what stands in it."""
    return inspect_coco(file, others)[1]


def inspect_coco(file: Path, others: Sequence[Path] = ()) -> tuple[Document, list[Fault]]:
    """The sound records of a file beside all its faults."""
    document, faults = read_document(file)
    faults += _check_images(document)
    faults += _check_categories(document)
    faults += _check_annotations(document)
    faults += _check_descriptions(document)
    for other in others:
        faults += _check_leaks(document, other)
    return document, faults


def _check_images(document: Document) -> Iterator[Fault]:
    seen: dict[Path, int] = {}
    for index, image in tqdm(document.images.items(), desc="images", unit="image", leave=False, disable=None):
        place, path = place_of("images", index, image.id), document.path(image)
        first = seen.setdefault(path, index)
        if first != index:
            yield Fault(place, f"file_name {image.file_name!r} is also that of images[{first}]; give all boxes to one")
        try:
            width, height = read_resolution_wh(path)
            if (width, height) != (image.width, image.height):
                stated = f"{image.width}x{image.height}"
                yield Fault(
                    place, f"width and height are {stated}, but {image.file_name!r} has {width}x{height} pixels"
                )
        except DatasetError as error:
            yield Fault(place, f"file_name {image.file_name!r}: {error}")
        if image.template is not None:
            try:
                read_resolution_wh(document.folder / image.template)
            except DatasetError as error:
                yield Fault(place, f"template {image.template!r}: {error}")


def _check_categories(document: Document) -> Iterator[Fault]:
    ids: dict[str, int] = {}
    names: dict[str, int] = {}
    for index, category in document.categories.items():
        place, defect = place_of("categories", index, category.id), category.as_defect()
        called = {normalise(name): name for name in defect.names_en + defect.names_zh}
        first = ids.setdefault(defect.id, index)
        owners = {name: names.setdefault(key, index) for key, name in called.items()}
        shared = next((name for name, owner in owners.items() if owner != index), None)
        if first != index:
            other = document.categories[first].name
            yield Fault(
                place, f"name {category.name!r} means categories[{first}], {other!r}, too; give all boxes to one"
            )
        elif shared is not None:
            message = f"it is called {shared!r}, and so is categories[{owners[shared]}]; a name must mean one class"
            yield Fault(place, message)
        if category.names is not None and not called:
            yield Fault(place, "names holds none; give at least one in 'en' or 'zh', or leave `names` away")


def _check_annotations(document: Document) -> Iterator[Fault]:
    images = {image.id: image for image in document.images.values()}
    for index, annotation in document.annotations.items():
        place = place_of("annotations", index, annotation.id)
        for key, section, value in (
            ("image_id", "images", annotation.image_id),
            ("category_id", "categories", annotation.category_id),
        ):
            if section in document.ids and value not in document.ids[section]:
                yield Fault(place, f"{key} {value} is the id of none of the {section}")
        yield from (Fault(place, message) for message in _check_shapes(annotation, images.get(annotation.image_id)))


def _check_shapes(annotation: AnnotationRecord, image: ImageRecord | None) -> Iterator[str]:
    """What is wrong with a box and its polygons; `image` is None when it is not known."""
    x, y, width, height = annotation.bbox
    if width <= 0 or height <= 0:
        yield f"bbox {list(annotation.bbox)} has no area; width and height must be above 0"
    if image is not None and not _inside(image, (x, x + width), (y, y + height)):
        yield f"bbox {list(annotation.bbox)} reaches outside the image of {image.width}x{image.height} pixels"
    for number, polygon in enumerate(annotation.segmentation):
        if len(polygon) < 6 or len(polygon) % 2:
            yield f"segmentation[{number}] has {len(polygon)} numbers, expected x, y of at least 3 points"
        elif area(polygon) < LEAST_AREA:
            yield f"segmentation[{number}] has no area; its points must not lie on one line"
        if image is not None and not _inside(image, polygon[::2], polygon[1::2]):
            yield f"segmentation[{number}] reaches outside the image of {image.width}x{image.height} pixels"


def _inside(image: ImageRecord, xs: Iterable[float], ys: Iterable[float]) -> bool:
    return all(-TOLERANCE_PX <= x <= image.width + TOLERANCE_PX for x in xs) and all(
        -TOLERANCE_PX <= y <= image.height + TOLERANCE_PX for y in ys
    )


def area(polygon: Sequence[float]) -> float:
    """Square pixels that a polygon x, y, x, y, ... encloses, by the shoelace formula."""
    xs, ys = polygon[::2], polygon[1::2]
    corners = zip(xs, ys, (*xs[1:], xs[0]), (*ys[1:], ys[0]), strict=True)
    return abs(sum(x * next_y - next_x * y for x, y, next_x, next_y in corners)) / 2


def _check_descriptions(document: Document) -> Iterator[Fault]:
    used: set[str] = set()
    entries = chain(
        (("images", index, record.id, record.description_ids) for index, record in document.images.items()),
        (("categories", index, record.id, record.description_ids) for index, record in document.categories.items()),
        (("annotations", index, record.id, record.description_ids) for index, record in document.annotations.items()),
    )
    for section, index, entry_id, text_ids in entries:
        used.update(text_ids)
        for text_id in text_ids:
            if document.text_ids is not None and text_id not in document.text_ids:
                place = place_of(section, index, entry_id)
                yield Fault(place, f"description_ids: {text_id!r} is not a key of text_descriptions")
    for text_id in document.text_descriptions:
        if text_id not in used:
            yield Fault(f"text_descriptions[{text_id!r}]", "nothing refers to it", "warning")


def _check_leaks(document: Document, file: Path) -> Iterator[Fault]:
    """What an image shares with one of another split: then validation judges what training has seen."""
    other, faults = read_document(file)
    yield from (Fault(f"{file}: {fault.place}", fault.message) for fault in faults if fault.severity == "error")
    paths = {other.path(image).resolve(): index for index, image in other.images.items()}
    # Files of different lengths have different bytes, so that most need not be read.
    lengths, other_lengths = _lengths_bytes(document), _lengths_bytes(other)
    common = set(lengths.values()) & set(other_lengths.values())
    hashes = {
        _digest(other.path(other.images[index])): index for index, length in other_lengths.items() if length in common
    }
    for index, image in document.images.items():
        path, place = document.path(image), place_of("images", index, image.id)
        if path.resolve() in paths:
            yield Fault(place, f"{image.file_name!r} is also images[{paths[path.resolve()]}] of {file}")
        elif lengths.get(index) in common and (twin := hashes.get(_digest(path))) is not None:
            name = other.images[twin].file_name
            yield Fault(place, f"{image.file_name!r} has the same pixels as images[{twin}] ({name!r}) of {file}")
    groups = Counter(image.group for image in document.images.values() if image.group)
    other_groups = Counter(image.group for image in other.images.values() if image.group)
    for group in sorted(groups.keys() & other_groups.keys()):
        yield Fault(
            f"group {group!r}", f"has {groups[group]} images here and {other_groups[group]} in {file}; keep it in one"
        )


def _lengths_bytes(document: Document) -> dict[int, int]:
    """The length of every image file that can be read, by its index."""
    paths = {index: document.path(image) for index, image in document.images.items()}
    return {index: path.stat().st_size for index, path in paths.items() if os.access(path, os.R_OK) and path.is_file()}


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
