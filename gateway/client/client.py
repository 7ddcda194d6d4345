"""A client that asks again where that is safe and helps, and never longer than it was told.

    with Client("http://127.0.0.1:8080") as client:
        answer = client.detect(Path("board.png"), ["寻找焊锡不足的焊点"], recipe="A7")

Every request carries an idempotency key, so that one whose answer got lost costs no work twice.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
import stamina
from pydantic import BaseModel, ValidationError

from gateway.answer import BatchLine, DetectAnswer, Problem
from gateway.client.access import access_options
from gateway.client.errors import RefusedError, StrangerError, UnreachableError
from gateway.client.form import form_of

URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
ATTEMPTS = 8
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0  # between attempts, where the gateway names no time
GRACE_S = 1.0  # the server's own 504 says more than a connection given up
# The connection broke or was not made: the key makes it safe to ask again. A timeout is none of these: time is up.
BROKEN = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
PROBLEM_JSON, LINES_JSON = "application/problem+json", "application/x-ndjson"  # as the gateway calls its own
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # said by ssl; asking again does not mend it

Result = TypeVar("Result")
Model = TypeVar("Model", bound=BaseModel)


class _Names(BaseModel):
    en: list[str]
    zh: list[str]


class _Listed(BaseModel):
    """What every gateway says of a defect; a newer one may say more."""

    id: str
    names: _Names
    score_threshold: float | None
    minimum_size_px: int
    severity: str
    enabled: bool


class _Catalog(BaseModel):
    defects: list[_Listed]


class Client:
    """One gateway, asked over kept connections; threads may share it.

    `api_key` is one of the gateway's keys. `ca` is the certificate of the authority that signed the gateway's, where no
    usual one did; `certificate` the client's own with its key, where the gateway asks for one; both PEM files.
    `timeout_s` bounds a call with all its attempts and the waits between them. ValueError: `url` or a file is none.
    """

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        try:
            self.url = url.rstrip("/")
            self._http = httpx.Client(base_url=self.url, **access_options(api_key, ca, certificate))
            usable = self._http.base_url.scheme in {"http", "https"} and self._http.base_url.host
        except httpx.InvalidURL:
            usable = False
        if not usable:
            raise ValueError(f"the gateway's URL is {url!r}, expected one such as {URL}")
        self._timeout_s = timeout_s
        self._attempts = attempts

    def detect(
        self,
        image: bytes | Path,
        prompts: str | Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        **parameters: object,
    ) -> DetectAnswer:
        """What the prompts describe in an encoded picture, or every class of the catalog without prompts.

        `parameters` are those of POST /detect (docs/http.md): score_threshold, recipe, annotated and so on.

        Raises:
            RefusedError: the gateway says why not.
            UnreachableError: it does not answer, or not in time.
            OSError: the file cannot be read.
        """
        form = form_of([image], prompts, parameters)

        def ask(remaining_s: float, headers: dict[str, str]) -> DetectAnswer:
            reply = self._http.post("/detect", **form, headers=headers, timeout=remaining_s + GRACE_S)
            return _typed(DetectAnswer, reply)

        return self._ask(ask, timeout_s, idempotency_key or uuid.uuid4().hex)

    def detect_batch(
        self,
        images: Sequence[bytes | Path],
        prompts: str | Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        **parameters: object,
    ) -> Iterator[BatchLine]:
        """Several pictures in one request: a line for each, as soon as it is done; in each the answer or its problem.

        Only the beginning is tried again. Where the connection breaks later, calling again with the same
        `idempotency_key` costs work for what was not done. `timeout_s` is for each picture and between two lines.

        Raises:
            RefusedError, UnreachableError, OSError: as `detect`.
        """
        form = form_of(images, prompts, parameters)

        def begin(remaining_s: float, headers: dict[str, str]) -> httpx.Response:
            request = self._http.build_request(
                "POST", "/detect/batch", **form, headers=headers, timeout=remaining_s + GRACE_S
            )
            reply = self._http.send(request, stream=True)
            if reply.status_code != HTTPStatus.OK or _media_type(reply) != LINES_JSON:
                reply.read()
                raise _refusal(reply)
            return reply

        reply = self._ask(begin, timeout_s, idempotency_key or uuid.uuid4().hex)
        try:
            for line in reply.iter_lines():
                yield BatchLine.model_validate_json(line)
        except httpx.TransportError as error:
            raise UnreachableError(f"{self.url} ended the answer before all pictures were done: {error!r}") from error
        finally:
            reply.close()

    def ready(self) -> dict[str, Any]:
        """What /readyz says: the model, and the defects that it knows; raises as `detect`."""
        return self._get("/readyz", _content)

    def defects(self) -> list[dict[str, Any]]:
        """The defect catalog; raises as `detect`."""
        return self._get("/defects", _defects)

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, read: Callable[[httpx.Response], Result]) -> Result:
        def ask(remaining_s: float, headers: dict[str, str]) -> Result:
            return read(self._http.get(path, headers=headers, timeout=remaining_s + GRACE_S))

        return self._ask(ask, None, None)

    def _ask(self, ask: Callable[[float, dict[str, str]], Result], timeout_s: float | None, key: str | None) -> Result:
        """The first result within time and attempts; between two of them it waits as long as the gateway wishes."""
        allowed_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + allowed_s
        longest_s = FIRST_WAIT_S

        def wait(error: Exception) -> bool | float:
            nonlocal longest_s
            named_s = None
            if isinstance(error, RefusedError | StrangerError) and error.is_worth_retrying:
                named_s = error.retry_after_s
            elif not isinstance(error, BROKEN) or UNTRUSTED in str(error):
                return False
            wait_s = random.uniform(longest_s / 2, longest_s) if named_s is None else named_s  # not all at once
            longest_s = min(2 * longest_s, LONGEST_WAIT_S)
            return wait_s if time.monotonic() + wait_s < deadline else False  # stamina itself would wait beyond it

        headers = {"Idempotency-Key": key} if key else {}
        try:
            for attempt in stamina.retry_context(on=wait, attempts=self._attempts, timeout=None):
                with attempt:
                    remaining_s = max(0.001, deadline - time.monotonic())
                    return ask(remaining_s, headers | {"X-Request-Timeout-Ms": str(max(1, int(remaining_s * 1e3)))})
        except httpx.TransportError as error:
            raise UnreachableError(f"{self.url} does not answer within {allowed_s:g} s: {error!r}") from error
        raise AssertionError("the last attempt raises")  # pragma: no cover


def _typed(model: type[Model], reply: httpx.Response) -> Model:
    try:
        return model.model_validate(_content(reply))
    except ValidationError as error:
        places = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        detail = f"{reply.url} answers otherwise than this client expects: {places}; install the server's version of it"
        raise RefusedError(Problem(title="Unexpected answer", status=reply.status_code, detail=detail)) from error


def _defects(reply: httpx.Response) -> list[dict[str, Any]]:
    """All that is said of them, what this client does not know among it."""
    _typed(_Catalog, reply)
    found: list[dict[str, Any]] = _content(reply)["defects"]
    return found


def _content(reply: httpx.Response) -> dict[str, Any]:
    """The reply's object.

    Raises:
        RefusedError: it is a problem.
        StrangerError: it comes from something else than a gateway.
    """
    try:
        content = reply.json()
    except ValueError:
        content = None
    if reply.status_code == HTTPStatus.OK and isinstance(content, dict):
        return content
    raise _refusal(reply)


def _refusal(reply: httpx.Response) -> RefusedError | StrangerError:
    """Whose answer it is: only a gateway's problem says anything of the picture or of the request."""
    after = reply.headers.get("Retry-After", "")
    retry_after_s = float(after) if after.isdigit() else None
    if _media_type(reply) == PROBLEM_JSON:
        try:
            problem = Problem.model_validate_json(reply.content)
        except ValidationError:
            pass
        else:
            if problem.status == reply.status_code:
                return RefusedError(problem, retry_after_s)
    return StrangerError(
        f"no gateway answers at {reply.url}: {reply.headers.get('Server', 'a server without a name')} sent "
        f"{reply.status_code} {reply.reason_phrase} as {_media_type(reply) or 'no type'}; see the URL, and what stands "
        "before the gateway",
        reply.status_code,
        retry_after_s,
    )


def _media_type(reply: httpx.Response) -> str:
    return str(reply.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
