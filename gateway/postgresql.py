"""Connections to PostgreSQL that end where no answer comes.

The server's own limits on a statement do not help where it, or a proxy before it, takes all that is sent and says
nothing more: whoever asked would wait for good, and hold up the end of the process.
"""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Dialect

ANSWER_TIMEOUT_S = 6.0  # longer than database.STATEMENT_TIMEOUT_S: the server's own word says more

Answer = TypeVar("Answer")


class BoundedConnection(psycopg.Connection[Any]):
    """Closed when an answer takes longer than ANSWER_TIMEOUT_S."""

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:
        """What the server answers."""
        try:
            return super().wait(gen, interval, ANSWER_TIMEOUT_S if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if self.info.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()  # the answer may still come, and would be taken for the next one's
            raise psycopg.OperationalError(f"no answer within {ANSWER_TIMEOUT_S:g} s") from error


def connect(_dialect: Dialect, _record: object, arguments: Any, named: Any) -> BoundedConnection:  # noqa: ANN401
    """As SQLAlchemy's event do_connect asks for one."""
    return BoundedConnection.connect(*arguments, **named)
