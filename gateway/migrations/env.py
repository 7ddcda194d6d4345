"""What Alembic runs: the steps that are missing, on the connection that gateway/database.py gives it.

For a new step, change the tables and run `python -m gateway.migrations "what it brings"`.
"""

from alembic import context

import gateway.catalog.tables
import gateway.review.tables  # noqa: F401 - they declare their tables on Base
from gateway.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
