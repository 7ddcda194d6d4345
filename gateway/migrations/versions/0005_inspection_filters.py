"""Inspections are found by recipe and by camera."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FILTERS = {"ix_inspections_recipe": "recipe", "ix_inspections_camera": "camera_id"}
PATIENCE_S = 3600.0


def upgrade() -> None:
    """Brings the indexes."""
    with _patience():
        for name, column in FILTERS.items():
            op.create_index(name, "inspections", [column, "id"])


def downgrade() -> None:
    """Takes them back."""
    for name in FILTERS:
        op.drop_index(name, "inspections")


@contextmanager
def _patience() -> Iterator[None]:
    """PostgreSQL is given the time that months of inspections take; its usual limits, on both ends, are of seconds."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver: Any = connection.connection.driver_connection
    driver.wait = partial(driver.wait, timeout=PATIENCE_S)  # gateway/postgresql.py
    try:
        yield
    finally:
        del driver.wait
