"""What a request was told instead of an answer, as a line of log: its request_id leads to the cause."""

import logging
from collections.abc import Mapping

from gateway.answer import Problem
from gateway.errors import ServiceError

LOG = logging.getLogger("gateway.telemetry.problems")
OWN_FAULTS = (500, 502)
CAUSE_CHARACTERS = 500  # of which some are the client's own words, as many as it likes


def log_problem(error: Exception, found: Problem, labels: Mapping[str, str | None]) -> None:
    """Logs `found`, what was made of `error`: as an error where no client can mend it.

    `labels` are the request's; an error that is none of gateway/errors.py has its traceback.
    """
    LOG.log(
        logging.ERROR if found.status in OWN_FAULTS else logging.INFO,
        "%s: %s",
        found.title,
        str(error)[:CAUSE_CHARACTERS],
        exc_info=None if isinstance(error, ServiceError) else error,
        extra={
            "request_id": found.request_id,
            "status": found.status,
            **{name: value for name, value in labels.items() if value is not None},
        },
    )
