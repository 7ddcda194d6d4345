"""Writes the defect catalog to a YAML file, or makes it what a file says; the gateway need not run.

python -m gateway.catalog export FILE.yaml
python -m gateway.catalog import FILE.yaml [--actor NAME] [--dry-run]

The database is that of PCBD_DATABASE_URL, or of --database-url. A running gateway uses what was imported from its next
request on. `-` stands for stdin or stdout.
"""

import argparse
import getpass
import sys
from pathlib import Path

from pydantic import ValidationError

from gateway.access.actor import checked_name
from gateway.catalog.document import read_document, write_document
from gateway.catalog.precondition import Precondition
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import ParameterError, ServiceError
from gateway.settings import Settings, faults_of_settings

STREAM = "-"


def main() -> int:
    """Runs the command line; 1 when the file or the database cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("export", "import"):
        command = commands.add_parser(name)
        command.add_argument("file", metavar="FILE.yaml")
        command.add_argument("--database-url")
        if name == "import":
            command.add_argument("--actor", help="who imports, for the history; by default the user of this machine")
            command.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    arguments = parser.parse_args()
    try:
        given = {"database_url": arguments.database_url} if arguments.database_url else {}
        store = CatalogStore(Database(Settings(**given).database_url))
        store.prepare()
        if arguments.command == "export":
            _export(store, arguments.file)
        else:
            _import(store, arguments)
    except ValidationError as error:
        print(f"error: {faults_of_settings(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except (ServiceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _export(store: CatalogStore, file: str) -> None:
    _, defects = store.load()
    content = write_document(defects).encode("utf-8")
    if file == STREAM:
        sys.stdout.buffer.write(content)
    else:
        Path(file).write_bytes(content)
        print(f"{len(defects)} defects written to {file}", file=sys.stderr)  # noqa: T201


def _import(store: CatalogStore, arguments: argparse.Namespace) -> None:
    data = sys.stdin.buffer.read() if arguments.file == STREAM else Path(arguments.file).read_bytes()
    actor = checked_name(_user() if arguments.actor is None else arguments.actor, "--actor")
    done = store.replace(read_document(data), actor, Precondition(), dry_run=arguments.dry_run)
    for what, defect_ids in (("added", done.added), ("changed", done.changed), ("deleted", done.deleted)):
        print(f"{what}: {', '.join(defect_ids) or 'none'}")  # noqa: T201
    print(f"revision {done.revision}{', nothing was written' if arguments.dry_run else ''}")  # noqa: T201


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user is often a number only
        raise ParameterError("the user of this machine has no name; say who imports by --actor NAME") from None


if __name__ == "__main__":
    sys.exit(main())
