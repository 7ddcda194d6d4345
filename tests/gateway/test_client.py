"""The Python client against the real service, and against what goes wrong on the way to it."""

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import stamina

from export.server import TritonServer
from gateway.client import Client, RefusedError, UnreachableError
from gateway.client.access import access_options
from gateway.client.bench import Bench
from gateway.client.form import form_of
from gateway.up import free_port
from tests.conftest import BOARD, ROOT
from tests.gateway.review.test_store import answer_of
from tests.gateway.test_failures import gateway, status, wait_until

PICTURE = BOARD.read_bytes()


def test_detect_gives_what_http_gives(gateway_url: str) -> None:
    with Client(gateway_url, timeout_s=60) as client:
        answer = client.detect(BOARD, ["短路", "spur"], score_threshold=0.2, max_detections=3, recipe="A7")
        same = client.detect(PICTURE, "短路", annotated=True)
    plain = httpx.post(
        f"{gateway_url}/detect",
        files={"image": PICTURE},
        data={"prompt": ["短路", "spur"], "score_threshold": "0.2", "max_detections": "3"},
        timeout=60,
    ).json()
    assert [found.box.model_dump() for found in answer.detections] == [found["box"] for found in plain["detections"]]
    assert (answer.recipe, answer.verdict) == ("A7", "ng")
    assert {found.prompt for found in same.detections} == {"短路"}
    assert same.annotated is not None
    assert same.annotated.data.startswith(b"\x89PNG")


def test_a_batch_gives_a_line_for_each_picture(gateway_url: str) -> None:
    with Client(gateway_url, timeout_s=60) as client:
        lines = {line.index: line for line in client.detect_batch([BOARD, b"hello"], "短路", camera_id="AOI-2")}
        with pytest.raises(RefusedError, match="colour"):
            next(client.detect_batch([BOARD], colour="red"))
    first, second = lines[0], lines[1]
    assert first.answer is not None
    assert (first.name, first.answer.camera_id, first.problem) == ("board.png", "AOI-2", None)
    assert second.problem is not None
    assert (second.answer, second.problem.status) == (None, 415)


def test_a_batch_that_breaks_off_is_told(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="60") as (http, process):
        wait_until(lambda: status(http, "/readyz") == 200)
        with Client(str(http.base_url)) as client:
            lines = client.detect_batch([b"hello", *[BOARD] * 8])
            next(lines)
            process.kill()
            with pytest.raises(UnreachableError, match="before all pictures were done"):
                list(lines)


def test_what_the_catalog_and_the_model_know_is_told(gateway_url: str) -> None:
    with Client(gateway_url) as client:
        assert client.ready()["model"]["name"] == "pcb_twelve"
        assert "short" in {defect["id"] for defect in client.defects()}


def test_what_is_wrong_with_a_request_is_told_once(gateway_url: str) -> None:
    retries: list[object] = []
    stamina.instrumentation.set_on_retry_hooks([retries.append])
    try:
        with Client(gateway_url) as client, pytest.raises(RefusedError, match="score_threshold") as refused:
            client.detect(BOARD, score_threshold=2)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert (refused.value.problem.status, refused.value.is_about_the_request, retries) == (422, True, [])


def test_an_overrun_gateway_is_asked_again_when_it_says_so(triton: TritonServer) -> None:
    """One place, several clients: each is refused until it is its turn, and all get their answer."""
    waits: list[float] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: waits.append(details.wait_for)])
    try:
        with gateway(triton.grpc_url, max_in_flight="1", deadline_s="60") as (http, _):
            wait_until(lambda: status(http, "/readyz") == 200)
            with Client(str(http.base_url), timeout_s=60, attempts=50) as client, ThreadPoolExecutor(3) as pool:
                answers = list(pool.map(lambda _: client.detect(BOARD, "短路"), range(3)))
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert [answer.verdict for answer in answers] == ["ng"] * 3
    assert waits
    assert min(waits) >= 1.0  # Retry-After


def test_a_gateway_without_triton_is_given_up_in_time() -> None:
    with (
        gateway(f"127.0.0.1:{free_port()}", watch_interval_s="60") as (http, _),
        Client(str(http.base_url), timeout_s=1.5) as client,
        pytest.raises(RefusedError, match=r"50[34]"),
    ):
        client.detect(BOARD)


def test_a_gateway_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, attempts=2) as client, pytest.raises(UnreachableError, match=url):
        client.detect(PICTURE)


def test_what_is_tried_again_is_over_in_time() -> None:
    waits: list[float] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: waits.append(details.wait_for)])
    try:
        with Client(f"http://127.0.0.1:{free_port()}", timeout_s=1) as client, pytest.raises(UnreachableError):
            client.detect(PICTURE)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert 0 < sum(waits) < 1


@contextmanager
def answering(answer: Callable[[bytes], tuple[bytes, int, str]]) -> Iterator[str]:
    """The URL of a server: what it answers to a body is content, status and media type; without content nothing."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content, code, media_type = answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if content:
                self.send_response(code)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def stranger(content: bytes, code: int = 200, media_type: str = "text/html") -> Iterator[str]:
    """The URL of a server that is no gateway: it answers everything alike, or with no content not at all."""
    with answering(lambda _: (content, code, media_type)) as url:
        yield url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_asked_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")  # which refuses
    with stranger(answer_of("a", "short").model_dump_json().encode(), 200, "application/json") as url:
        here = url.replace("127.0.0.1", host)
        with Client(here, attempts=1) as client:
            assert client.detect(PICTURE).verdict == "ng"
        load = Bench(here, form_of([PICTURE], "open", {}), timeout_s=5, options=access_options(None, None, None))
        assert asyncio.run(load.steady(0.3, 10, lambda: None))["ok"] == 3
    with Client("http://gateway.test", attempts=1) as client, pytest.raises(UnreachableError, match="refused"):
        client.ready()  # the proxy is asked for others


PROBLEM = b'{"type": "about:blank", "title": "Too large", "status": 413, "detail": "of a proxy"}'


@pytest.mark.parametrize(
    ("content", "code", "media_type"),
    [
        (b"<html>", 200, "text/html"),
        (b"<html>", 404, "text/html"),
        (b"<html>", 413, "text/html"),
        (b"<html>", 502, "text/html"),
        (b'{"a": 1}', 404, "application/json"),
        (b'{"a": 1}', 404, "application/problem+json"),
        (PROBLEM, 413, "application/json"),
        (PROBLEM, 404, "application/problem+json"),
    ],
)
def test_a_stranger_is_told_from_a_gateway(content: bytes, code: int, media_type: str) -> None:
    with (
        stranger(content, code, media_type) as url,
        Client(url, attempts=1) as client,
        pytest.raises(UnreachableError, match=f"{code}.*{re.escape(media_type)}"),
    ):
        client.detect(PICTURE)
    with (
        stranger(content, code, media_type) as url,
        Client(url, attempts=1) as client,
        pytest.raises(UnreachableError, match=f"{code}.*{re.escape(media_type)}"),
    ):
        next(client.detect_batch([PICTURE]))


def test_a_gateway_of_another_version_is_named() -> None:
    with (
        stranger(b'{"verdict": "ok"}', 200, "application/json") as url,
        Client(url) as client,
        pytest.raises(RefusedError, match="install the server's version"),
    ):
        client.detect(PICTURE)


@pytest.mark.parametrize(("code", "times"), [(502, 2), (503, 2), (504, 2), (404, 1)])
def test_a_proxy_whose_gateway_is_away_is_asked_again(code: int, times: int) -> None:
    retries: list[object] = []
    stamina.instrumentation.set_on_retry_hooks([retries.append])
    try:
        with (
            stranger(b"<html>", code) as url,
            Client(url, attempts=2) as client,
            pytest.raises(UnreachableError, match=str(code)),
        ):
            client.detect(PICTURE)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert len(retries) == times - 1


def test_a_connection_that_breaks_is_tried_again_and_then_named() -> None:
    retries: list[object] = []
    stamina.instrumentation.set_on_retry_hooks([retries.append])
    try:
        with stranger(b"") as url, Client(url, attempts=3) as client, pytest.raises(UnreachableError, match=url):
            client.detect(PICTURE)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert len(retries) == 2


def test_bench_counts_what_went_wrong_by_its_kind() -> None:
    with stranger(b"busy", 429) as url:
        load = Bench(url, form_of([PICTURE], "open", {}), timeout_s=5, options={})
        refused = asyncio.run(load.steady(0.5, 10, lambda: None))
    assert (refused["requests"], refused["errors"], refused["latency_ms"]) == (5, {"429": 5}, None)
    with stranger(b"") as url:
        load = Bench(url, form_of([PICTURE], "open", {}), timeout_s=5, options={})
        broken = asyncio.run(load.steady(0.3, 10, lambda: None))
    assert (broken["ok"], set(broken["errors"])) == (0, {"RemoteProtocolError"})


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", "http://x:port"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected one such as"):
        Client(url)


def test_a_name_in_another_encoding_can_be_sent(tmp_path: Path) -> None:
    picture = tmp_path / os.fsdecode("短路.png".encode("gbk"))
    picture.write_bytes(b"BM")
    (_, (name, data)), *_ = form_of([picture], "open", {})["files"]
    assert (name.isprintable(), name.endswith(".png"), data) == (True, True, b"BM")
    with stranger(b"busy", 404) as url, Client(url) as client, pytest.raises(UnreachableError, match="404"):
        client.detect(picture)


def test_a_missing_file_is_the_callers_fault() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(FileNotFoundError):
        client.detect(Path("nowhere.png"))


def test_the_client_is_installed_without_what_the_server_pins() -> None:
    """numpy below 2, which has no wheel for the Python of a newer machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project.get("dependencies", []), "numpy" in project["optional-dependencies"]["client"]) == ([], True)


def test_the_client_needs_nothing_of_the_server() -> None:
    heavy = ["fastapi", "starlette", "tritonclient", "grpc", "tokenizers", "sqlalchemy", "PIL", "cv2", "torch"]
    source = f"import sys, gateway.client.cli; sys.exit(str([n for n in {heavy} if n in sys.modules] or ''))"
    result = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) in {(0, ""), (1, "")}, result.stderr
