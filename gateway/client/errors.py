"""What can go wrong when a gateway is asked."""

from gateway.answer import Problem

WORTH_RETRYING = (429, 503)  # full, or away for a moment; everything else would fail again


class ClientError(Exception):
    """Base of all."""


class UnreachableError(ClientError):
    """No gateway answers there, or not in time; the cause is chained."""


class StrangerError(UnreachableError):
    """Something else answers there: a proxy before the gateway, or another server."""

    def __init__(self, message: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def is_worth_retrying(self) -> bool:
        """Whether it is what a proxy answers while the gateway behind it is away."""
        return self.status in {502, 504, *WORTH_RETRYING}


class RefusedError(ClientError):
    """The gateway answered with a problem."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def is_worth_retrying(self) -> bool:
        """Whether the same request may be answered in a moment."""
        return self.problem.status in WORTH_RETRYING

    @property
    def is_about_the_request(self) -> bool:
        """Whether the same request would be refused again, however the service is."""
        return 400 <= self.problem.status < 500 and self.problem.status not in {408, *WORTH_RETRYING}

    @property
    def is_about_the_picture(self) -> bool:
        """Whether another picture might be answered where this one is refused."""
        return self.problem.status in {413, 415} or self.problem.title in {"Unreadable image", "No region in the image"}
