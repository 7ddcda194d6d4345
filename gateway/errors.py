"""Everything that a client can be told went wrong, and the one table from it to HTTP (RFC 9457)."""

import math

from starlette.responses import JSONResponse

from gateway.answer import Problem

RETRY_AFTER_S = 1
PROBLEM_JSON = "application/problem+json"


class ServiceError(Exception):
    """Base of all; the message names the thing, what came, what was expected and the remedy.

    `retry_after_s` says when a repeat may fare better, where that is known.
    """

    def __init__(self, message: str = "", retry_after_s: float = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ParameterError(ServiceError):
    """A field or query parameter is unknown, missing or out of range."""


class NoRegionError(ServiceError):
    """No region lies in the image, though one may in another."""


class MalformedError(ServiceError):
    """A body cannot be taken apart: broken JSON, a broken form, more parts than allowed."""


class MediaTypeError(ServiceError):
    """What came is not a picture in a format that is understood."""


class ImageError(ServiceError):
    """A picture is empty, truncated or damaged."""


class TooLargeError(ServiceError):
    """A body has too many bytes or a picture too many pixels."""


class SlowBodyError(ServiceError):
    """A request's body did not arrive in time."""


class OverloadError(ServiceError):
    """There is no room for another request now."""


class UnavailableError(ServiceError):
    """Triton or a model cannot be used now."""


class AwayError(UnavailableError):
    """Triton does not answer, or an instance of a model has died in it."""


class ReplacedError(UnavailableError):
    """The models asked are being replaced by another version, which answers in a moment."""


class NotFoundError(ServiceError):
    """There is nothing of that name."""


class ConflictError(ServiceError):
    """A change does not fit to what else is there."""


class StaleError(ServiceError):
    """What is to be changed is not what the client expected to find."""


class KeyRefusedError(ServiceError):
    """An API key does not let the request pass; `reason` is one word, for those who count."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnauthenticatedError(KeyRefusedError):
    """No API key came, or none that is in use."""


class ScopeError(KeyRefusedError):
    """The API key is good, but not for this."""


class CrossSiteError(ServiceError):
    """A page of another site made a browser send the request."""


class DatabaseError(ServiceError):
    """The database does not answer or cannot be used."""


class ImageStoreError(ServiceError):
    """The store of pictures does not answer or cannot be used."""


class DeadlineError(ServiceError):
    """The answer took too long."""


class ClientGoneError(ServiceError):
    """The client did not wait for its answer; for the log and the metrics, since nobody reads it."""


class ModelError(ServiceError):
    """Triton answered with an error that no client can mend."""


STATUS: dict[type[ServiceError], tuple[int, str]] = {
    ParameterError: (422, "Invalid parameter"),
    NoRegionError: (422, "No region in the image"),
    MalformedError: (400, "Malformed body"),
    MediaTypeError: (415, "Unsupported media type"),
    ImageError: (422, "Unreadable image"),
    TooLargeError: (413, "Too large"),
    SlowBodyError: (408, "Request timeout"),
    OverloadError: (429, "Too many requests"),
    UnavailableError: (503, "Service unavailable"),
    AwayError: (503, "Service unavailable"),
    ReplacedError: (503, "Service unavailable"),
    UnauthenticatedError: (401, "Unauthorized"),
    ScopeError: (403, "Forbidden"),
    CrossSiteError: (403, "Cross-site request"),
    NotFoundError: (404, "Not found"),
    ConflictError: (409, "Conflict"),
    StaleError: (412, "Precondition failed"),
    DatabaseError: (503, "Service unavailable"),
    ImageStoreError: (503, "Service unavailable"),
    DeadlineError: (504, "Deadline exceeded"),
    ClientGoneError: (499, "Client closed request"),
    ModelError: (502, "Model error"),
}
FAULT = (500, "Internal error")
RETRYABLE = (429, 503)
UNAUTHORIZED = 401


def problem_of(error: Exception, request_id: str | None) -> Problem:
    """What a client is told of an error; of a fault of our own only where its cause is found."""
    status, title = STATUS[type(error)] if isinstance(error, ServiceError) else FAULT
    detail = str(error) if status != FAULT[0] else "the gateway failed; its log has the cause under this request_id"
    return Problem(title=title, status=status, detail=detail, request_id=request_id)


def problem(found: Problem, retry_after_s: float = RETRY_AFTER_S) -> JSONResponse:
    """A problem details answer; one that can be tried again says when, one that lacks a key how to send it."""
    headers = {"Retry-After": str(max(1, math.ceil(retry_after_s)))} if found.status in RETRYABLE else {}
    if found.status == UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="pcbd"'
    return JSONResponse(found.model_dump(exclude_none=True), found.status, headers, media_type=PROBLEM_JSON)
