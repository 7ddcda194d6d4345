"""Receives what Alertmanager sends to its webhooks."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class AlertPost:
    """What has come so far, newest last: the receiver's name and the alert."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.alerts: list[tuple[str, dict[str, Any]]] = []

    def has(self, receiver: str, status: str, **labels: str) -> bool:
        """Whether an alert of that status and with these labels came to the receiver."""
        return any(
            to == receiver and alert["status"] == status and labels.items() <= alert["labels"].items()
            for to, alert in list(self.alerts)
        )


@contextmanager
def alert_post() -> Iterator[AlertPost]:
    """A webhook of the test's own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            post.alerts += [(self.path.strip("/"), alert) for alert in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        post = AlertPost(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield post
        finally:
            server.shutdown()
            thread.join()
