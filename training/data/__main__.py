"""Checks COCO files with descriptions, and makes them from other formats; images stay where they are.

    python -m training.data check train.json --against val.json
    python -m training.data convert --from deeppcb ../shared/data/deeppcb --split train --out train.json

`check` prints each fault on a line, then a summary; exit 1 if there are errors, warnings alone leave 0.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.data.check import Fault, inspect_coco
from training.data.coco import write_coco
from training.data.convert import from_voc, from_yolo
from training.data.dataset import Dataset, DatasetError
from training.data.deeppcb import read_deeppcb
from training.data.document import Document


def summarise(document: Document, faults: Sequence[Fault]) -> str:
    """One line: images, and of each category the boxes and the images that they are in; faulty entries left out."""
    names = {entry.id: entry.name for entry in document.categories.values()}
    annotations = document.annotations.values()
    boxes = Counter(annotation.category_id for annotation in annotations)
    pairs = {(annotation.category_id, annotation.image_id) for annotation in annotations}
    images = Counter(category_id for category_id, _ in pairs)
    described = sum(bool(image.description_ids) for image in document.images.values())
    errors = sum(fault.severity == "error" for fault in faults)
    counts = "".join(f", {name} {boxes[key]} in {images[key]}" for key, name in names.items())
    return (
        f"{errors} errors, {len(faults) - errors} warnings; {len(document.images)} images ({described} described), "
        f"{len(annotations)} boxes{counts}"
    )


def convert(source: Path, source_format: str, split: str | None, zero_based: bool) -> Dataset:
    """The dataset of a folder in another format; `zero_based` is of the numbers in VOC's."""
    if source_format == "deeppcb":
        return read_deeppcb(source, split or "train")
    return from_voc(source, split, zero_based=zero_based) if source_format == "voc" else from_yolo(source, split)


def main() -> int:
    """Runs the command line; 2 for what cannot be converted or written."""
    parser = argparse.ArgumentParser(
        prog="training.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="print every fault of a COCO file")
    check.add_argument("file", type=Path)
    check.add_argument("--against", type=Path, nargs="+", default=[], metavar="OTHER", help="files of other splits")
    make = commands.add_parser("convert", help="write a COCO file from a folder in another format")
    make.add_argument("source", type=Path)
    make.add_argument("--from", dest="source_format", choices=("deeppcb", "voc", "yolo"), required=True)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument(
        "--split", help="SPLIT.txt (deeppcb; train), ImageSets/Main/SPLIT.txt (voc; all), images/SPLIT/ (yolo; all)"
    )
    make.add_argument(
        "--zero-based", action="store_true", help="voc: boxes are edges counted from 0, not pixels from 1"
    )
    arguments = parser.parse_args()
    if arguments.command == "convert" and arguments.zero_based and arguments.source_format != "voc":
        parser.error(f"--zero-based is for --from voc, not for {arguments.source_format}")
    if arguments.command == "check":
        document, faults = inspect_coco(arguments.file, arguments.against)
        for fault in faults:
            print(fault)  # noqa: T201
        print(f"{arguments.file}: {summarise(document, faults)}")  # noqa: T201
        return int(any(fault.severity == "error" for fault in faults))
    try:
        dataset = convert(arguments.source, arguments.source_format, arguments.split, arguments.zero_based)
        write_coco(dataset, arguments.out, {"description": f"{arguments.source_format}: {arguments.source.name}"})
    except (DatasetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    boxes = sum(len(sample.class_ids) for sample in dataset.samples)
    counts = f"{len(dataset.samples)} images, {boxes} boxes, {len(dataset.categories)} categories"
    print(f"{arguments.out}: {counts}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
