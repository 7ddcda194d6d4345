"""Each health check of the compose files, run as it stands: against a server that is ready, and one that is not."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import trustme

from gateway.up import free_port
from tests.docker.test_files import DOCKER, compose

CHECKS = {
    f"{path.name}: {name}": service["healthcheck"]["test"][1:]
    for path in sorted(DOCKER.glob("compose*.yaml"))
    for name, service in compose(path)["services"].items()
    if "test" in service.get("healthcheck", {})
}


@contextmanager
def answering(status: int, tls: bool) -> Iterator[int]:
    """A server of that status, whatever it is asked; its port."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.end_headers()

        do_GET = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trustme.CA().issue_cert("pcbd.plant.example").configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("check", CHECKS)
def test_a_container_asks_itself_whatever_proxy_it_was_given(
    check: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Compose sets them by ~/.docker/config.json; BusyBox, of which the images' wget is, knows no no_proxy."""
    words = CHECKS[check]
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with answering(status, tls="https://" in words[-1]) as port:
        command = [re.sub(r"(//127\.0\.0\.1):\d+", rf"\1:{port}", word) for word in words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is (status == 200), done.stderr
