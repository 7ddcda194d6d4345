"""Prunes what was recorded, or exports what was reviewed for training; the gateway may run meanwhile.

python -m gateway.review prune
python -m gateway.review export --out DIR [--since 2026-11-01] [--recipe R]

Database, image store and limits are those of the settings PCBD_*. `--since` is the day (UTC) of the review.
"""

import argparse
import sys
from datetime import UTC, date, datetime, time
from pathlib import Path

from pydantic import ValidationError

from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import ServiceError
from gateway.review.export import export
from gateway.review.images import ImageStore
from gateway.review.retention import Retention
from gateway.settings import Settings, faults_of_settings


def main() -> int:
    """Runs the command line; 1 when it cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prune", help="delete what is too old or beyond the budget, mend what a crash left")
    exporting = commands.add_parser("export", help="write a COCO file with descriptions, and its images")
    exporting.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    exporting.add_argument("--since", type=_day, metavar="DATE", help="only what was reviewed on that day or later")
    exporting.add_argument("--recipe", help="only inspections of that recipe")
    arguments = parser.parse_args()
    try:
        settings = Settings()
        database = Database(settings.database_url)
        CatalogStore(database).prepare()
        images = ImageStore(settings.image_store) if settings.image_store else None
        if arguments.command == "prune":
            print(Retention(database, images, settings).prune(datetime.now(UTC)))  # noqa: T201
        elif images is None:
            raise ValueError("no pictures are kept; set PCBD_IMAGE_STORE to where the gateway keeps them")
        else:
            print(f"{arguments.out}: {export(database, images, arguments.out, arguments.since, arguments.recipe)}")  # noqa: T201
    except ValidationError as error:
        print(f"error: {faults_of_settings(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except (ServiceError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _day(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time.min, UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day, expected one such as 2026-11-01 (UTC)") from None


if __name__ == "__main__":
    sys.exit(main())
