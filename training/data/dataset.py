"""What training learns from: categories with their words, samples with their boxes; pixels stay on disk.

Does not know the file format (coco.py) nor what makes a dataset faulty (check.py).
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from export.contract.defects import DEFECTS, Defect, known_defect
from training.data.ending import is_whole

IMAGE_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # what OpenCV reads as well
TURNED = range(2, 9)  # of a TIFF's tag Orientation, as gateway/pictures/images.py has it
CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

Image.MAX_IMAGE_PIXELS = None  # a line scan has more than Pillow's limit; only headers are read by it here


class DatasetError(ValueError):
    """A dataset cannot be read as it stands."""


@dataclass(frozen=True)
class Sample:
    """One picture and what it shows; training.crops.sampler reads its pixels.

    boxes_xyxy (N, 4) float32 in pixels, class_ids (N,) int64 as indices of the dataset's categories. `polygons` and
    `descriptions` have one entry per box: arrays (M, 2) float32 in pixels, and sentences about that very defect.
    `image_descriptions` are sparse labels: the picture shows this somewhere. `group` is the board or lot that the
    picture comes from, '' where it is not known; a group must not be split between training and validation.
    """

    path: Path
    resolution_wh: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    polygons: tuple[tuple[NDArray[np.float32], ...], ...]
    descriptions: tuple[tuple[str, ...], ...]
    image_descriptions: tuple[str, ...] = ()
    group: str = ""
    template: Path | None = None  # the same board without defects

    @property
    def fully_labelled(self) -> bool:
        """Whether its boxes are complete, so that it can judge: it has no sparse labels."""
        return not self.image_descriptions


@dataclass(frozen=True)
class Dataset:
    """Samples, and the categories that their class_ids index."""

    categories: tuple[Defect, ...]
    samples: tuple[Sample, ...]


def sentences(dataset: Dataset) -> list[str]:
    """Every sentence about single defects or whole pictures once, in the order of the samples."""
    texts = (
        text
        for sample in dataset.samples
        for group in (*sample.descriptions, sample.image_descriptions)
        for text in group
    )
    return list(dict.fromkeys(texts))


def is_chinese(text: str) -> bool:
    """Whether a text has Chinese characters; English has none."""
    return CHINESE.search(text) is not None


def category(name: str) -> Defect:
    """A category of which only the name is known."""
    return Defect(name, () if is_chinese(name) else (name,), (name,) if is_chinese(name) else (), (), ())


def known_category(name: str) -> Defect:
    """The known defect that has a name, in either language and however spaced or cased, else category(name)."""
    return known_defect(name) or category(name)


def has_all_names(category: Defect) -> bool:
    """Whether a category is a known defect and has every name of it, so that it can be asked for by any."""
    known = next((defect for defect in DEFECTS if defect.id == category.id), None)
    return known is not None and {*known.names_en, *known.names_zh} <= {*category.names_en, *category.names_zh}


def read_resolution_wh(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the header of an image file, as stored: an EXIF orientation is not applied.

    Raises:
        DatasetError: the file is missing, no picture in one of IMAGE_FORMATS, cut off, or a TIFF that is to be turned.
    """
    try:
        # Pillow warns of odd metadata, which a header's reader does not mind.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.format == "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in TURNED:
                raise DatasetError(
                    f"{path} is a TIFF with an orientation, which readers do not agree on; store it upright"
                )
            if not is_whole(path, image):
                raise ValueError("it is cut off, the end of the file is missing; copy it again")
            return image.size
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"{path} is not a readable image: {error}") from error
