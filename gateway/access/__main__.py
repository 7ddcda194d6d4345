"""Makes, lists and revokes API keys; the gateway need not run.

python -m gateway.access create --name line-3 --scope detect [--scope catalog] [--expires DAYS]
python -m gateway.access list
python -m gateway.access revoke ID

The database is that of PCBD_DATABASE_URL, or of --database-url. `create` prints the key, once: it cannot be had again.
A running gateway knows of each within seconds.
"""

import argparse
import sys
from datetime import datetime

from pydantic import ValidationError

from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from gateway.errors import ServiceError
from gateway.settings import Settings, faults_of_settings


def main() -> int:
    """Runs the command line; 1 when what is asked for cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create")
    create.add_argument("--name", required=True, help="who uses it, as the catalog's history shows it")
    create.add_argument("--scope", required=True, action="append", choices=list(Scope), help="may repeat")
    create.add_argument("--expires", type=int, metavar="DAYS", help="by default never")
    revoke = commands.add_parser("revoke")
    revoke.add_argument("id", metavar="ID")
    for command in (create, commands.add_parser("list"), revoke):
        command.add_argument("--database-url")
    arguments = parser.parse_args()
    try:
        given = {"database_url": arguments.database_url} if arguments.database_url else {}
        database = Database(Settings(**given).database_url)
        database.migrate()
        store = KeyStore(database)
        if arguments.command == "create":
            _create(store, arguments)
        elif arguments.command == "list":
            _list(store)
        else:
            name = store.revoke(arguments.id)
            print(f"key {arguments.id} of {name} is revoked")  # noqa: T201
    except ValidationError as error:
        print(f"error: {faults_of_settings(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _create(store: KeyStore, arguments: argparse.Namespace) -> None:
    key, sent = store.create(arguments.name, frozenset(map(Scope, arguments.scope)), arguments.expires)
    until = f"until {_moment(key.expires_at)}" if key.expires_at else "without end"
    told = f"key {key.id} of {key.name} for {', '.join(sorted(key.scopes))}, {until}; it cannot be shown again:"
    print(told, file=sys.stderr)  # noqa: T201
    print(sent)  # noqa: T201


def _list(store: KeyStore) -> None:
    for key in store.load().values():
        if key.expires_at is None:
            end = "never expires"
        else:
            end = f"{'expired' if key.has_expired() else 'expires'} {_moment(key.expires_at)}"
        print(key.id, key.name, ",".join(sorted(key.scopes)), f"made {_moment(key.created_at)}", end, sep="  ")  # noqa: T201


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


if __name__ == "__main__":
    sys.exit(main())
