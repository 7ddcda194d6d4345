"""Draws synthetic assembled boards with defects, as COCO with descriptions, or a contact sheet of them:

python -m training.synth --n 5000 --out data/synth --seed 0 --workers 4
python -m training.synth --n 1800 --out data/dense --seed 2 --defects 12
python -m training.synth --n 1500 --out data/looks --seed 6 --defects 12 --blemishes 0.7
python -m training.synth --n 500 --out data/synth_heldout --kind heldout
python -m training.synth --n 1500 --out data/bare --kind bare
python -m training.synth --sheet docs/synth.png
"""

import argparse
import sys
from pathlib import Path

import cv2

from training.synth.coco import SynthError, write_dataset
from training.synth.picture import MEAN_DEFECTS
from training.synth.sheet import SheetError, write_sheet


def main() -> int:
    """Runs the command line; 2 for a request that cannot be met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="pictures")
    parser.add_argument("--out", type=Path, help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=640, help="pixels of a picture's side")
    kinds = ("train", "heldout", "bare")
    what = "assembled boards with the blemishes of one split, or binarised bare boards without defects"
    parser.add_argument("--kind", choices=kinds, default="train", help=what)
    text = "mean number wished for on an assembled board that is not sound; many teach more in a picture, 0: all sound"
    parser.add_argument("--defects", type=float, default=MEAN_DEFECTS, help=text)
    text = "share of blemishes among these, default 0.2, and 0.5 of the kind heldout"
    parser.add_argument("--blemishes", type=float, help=text)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--sheet", type=Path, help="PNG of close-ups")
    arguments = parser.parse_args()
    if arguments.out is None and arguments.sheet is None:
        parser.error("give --out, --sheet or both")
    cv2.setNumThreads(1)  # processes share the work better than threads
    try:
        if arguments.out is not None:
            write_dataset(
                arguments.out,
                arguments.n,
                seed=arguments.seed,
                size=arguments.size,
                kind=arguments.kind,
                mean_defects=arguments.defects,
                blemish_share=arguments.blemishes,
                workers=arguments.workers,
            )
        if arguments.sheet is not None:
            write_sheet(arguments.sheet, arguments.seed)
    except (SynthError, SheetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
