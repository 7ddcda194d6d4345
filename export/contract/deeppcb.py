"""Which files a DeepPCB folder holds, as it is published or sorted anew; opens none but the list of a split.

    PCBData/trainval.txt, test.txt   lines `group11111/11111/STEM.jpg group11111/11111_not/STEM.txt`: the picture is
                                     STEM_test.jpg there, its template STEM_temp.jpg, and the other its annotations
    train.txt, val.txt               lines `STEM`: images/STEM.jpg, annotations/STEM.txt and, where there is one,
                                     templates/STEM.jpg

A template is the same board without defects. An annotation line is `x1 y1 x2 y2 type`, pixels, types 1..6 in the order
of BARE_BOARD (Tang et al., On-line PCB Defect Detector On A New PCB Defect Dataset, 2019).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PUBLISHED = "PCBData"  # folder of the published repository
PUBLISHED_SPLITS = {"train": "trainval", "val": "test"}
GROUP_LENGTH = 5  # the first digits of a stem name the board that a picture was cut from


@dataclass(frozen=True)
class BoardFiles:
    """The files of a board; the template need not exist."""

    stem: str
    image: Path
    annotation: Path
    template: Path

    @property
    def group(self) -> str:
        """The board that the picture was cut from."""
        return self.stem[:GROUP_LENGTH]


def list_boards(root: Path, split: str, faults: list[str]) -> Iterator[BoardFiles]:
    """The boards of `root/split.txt`, whose lines tell how the folder is sorted; of the published repository train is
    trainval.txt and val is test.txt. A faulty line is added to `faults`.

    Raises:
        OSError: there is no such list, or it cannot be read.
    """
    listing, published = root / f"{split}.txt", root / PUBLISHED / f"{PUBLISHED_SPLITS.get(split, split)}.txt"
    if not listing.is_file() and not published.is_file():
        raise FileNotFoundError(
            f"{listing} does not exist, nor does {published}; expected a DeepPCB folder with images/, annotations/ and "
            f"the one, or the published repository with {PUBLISHED}/ and the other"
        )
    listing = listing if listing.is_file() else published
    folder = listing.parent
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if "/" not in line:
            for stem in fields:
                image = folder / "images" / f"{stem}.jpg"
                yield BoardFiles(stem, image, folder / "annotations" / f"{stem}.txt", folder / "templates" / image.name)
        elif len(fields) != 2:
            faults.append(f"{listing}:{number}: {line!r}, expected a picture and its annotations")
        else:
            image, annotation = (folder / field for field in fields)
            tested, template = (image.with_name(f"{image.stem}_{kind}.jpg") for kind in ("test", "temp"))
            yield BoardFiles(image.stem, tested, annotation, template)
