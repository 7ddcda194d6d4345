"""Writes the next step of the database by comparing the tables as declared with what the steps so far make.

python -m gateway.migrations "the review loop"

Read and tidy what it wrote; a test holds that steps and tables agree, on SQLite and on PostgreSQL.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from alembic import command

from gateway.database import Database, migration_config


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("message", help="what the step brings")
    arguments = parser.parse_args()
    folder = Path(__file__).parent / "versions"
    number = f"{1 + max(int(path.name[:4]) for path in folder.glob('[0-9]*.py')):04d}"
    with tempfile.TemporaryDirectory() as scratch:
        database = Database(f"sqlite:///{scratch}/scratch.db")
        database.migrate()
        with database.connect() as connection:
            config = migration_config(connection)
            config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            command.revision(config, arguments.message, autogenerate=True, rev_id=number)
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
