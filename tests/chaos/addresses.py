"""Addresses in every text field that a request has, and somebody who listens there: whoever fetched one would be seen.

Fields are those of the models that the gateway reads requests with, so that a new one is not forgotten.
"""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from gateway.catalog.defect import Defect
from gateway.request.parameters import DetectParameters
from gateway.review.inspection import InspectionQuery
from tests.chaos.grounds import PATIENCE_S, Gateway, wait_until
from tests.chaos.load import tile

YAML = {"Content-Type": "application/yaml"}
HEADERS = (
    "Accept", "Accept-Language", "Content-Location", "Cookie", "Forwarded", "From", "Host", "Idempotency-Key",
    "If-Match", "Link", "Location", "Origin", "Range", "Referer", "User-Agent", "Via", "X-Actor", "X-Forwarded-For",
    "X-Forwarded-Host", "X-Model-Version", "X-Original-URL", "X-Request-ID", "X-Request-Timeout-Ms", "traceparent",
    "tracestate",
)  # fmt: skip
INSPECTION = "board"

Requests = Iterator[tuple[str, str, str, dict[str, Any]]]  # where the address stands; method, path and the rest


@contextmanager
def listener() -> Iterator[tuple[str, Callable[[], int]]]:
    """An address, HOST:PORT, and how many connections have come to it since that was asked last."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        server.setblocking(False)

        def connected() -> int:
            number = 0
            while True:
                try:
                    server.accept()[0].close()
                except BlockingIOError:
                    return number
                number += 1

        yield f"127.0.0.1:{server.getsockname()[1]}", connected


def send_addresses(gateway: Gateway, address: str, key: dict[str, str], forms: int) -> list[tuple[str, int]]:
    """Sends so many forms of an address in every place; what was sent, and the status of its answer."""
    with httpx.Client(base_url=gateway.url, headers=key, timeout=PATIENCE_S) as client:
        board = client.post("/detect", files={"image": tile()}, headers={"X-Request-ID": INSPECTION})
        assert board.status_code == 200, board.text
        recorded = f"/inspections/{INSPECTION}"
        wait_until(lambda: client.get(recorded).status_code == 200, "an inspection to say something of")
        return [
            (f"{place}: {url}", client.request(method, path, **options).status_code)
            for url in _forms(address)[:forms]
            for place, method, path, options in _requests(url)
        ]


def _forms(address: str) -> list[str]:
    urls = [f"{scheme}://{address}/board.png" for scheme in ("http", "https", "ftp", "gopher", "ws")]
    return [f"//{address}/board.png", f"file://{address}/etc/passwd", f"jar:http://{address}!/board.png", *urls]


def _requests(url: str) -> Requests:
    yield from _of_pictures(url)
    yield from _of_parameters(url)
    yield from _of_the_catalog(url)
    yield from _of_reviews(url)
    yield from _of_heads(url)


def _of_pictures(url: str) -> Requests:
    """In the place of the picture, and of its name."""
    named, encoded = (url, tile()), base64.b64encode(tile()).decode()
    yield "image of a form", "POST", "/detect", {"files": {"image": url.encode()}}
    yield "image in a field", "POST", "/detect", {"files": {"prompt": (None, "short")}, "data": {"image": url}}
    yield "image of JSON", "POST", "/detect", {"json": {"image": url}}
    yield "raw image", "POST", "/detect", {"content": url.encode(), "headers": {"Content-Type": "image/jpeg"}}
    yield "name of a file", "POST", "/detect", {"files": {"image": named}}
    yield "images of a form", "POST", "/detect/batch", {"files": [("image", url.encode()), ("image", named)]}
    members = [{"image": url}, {"image": encoded, "name": url}]
    yield "images of JSON", "POST", "/detect/batch", {"json": {"images": members}}


def _of_parameters(url: str) -> Requests:
    """In each parameter of /detect, by each way that it comes."""
    picture, encoded = tile(), base64.b64encode(tile()).decode()
    raw = {"content": picture, "headers": {"Content-Type": "image/jpeg"}}
    for name in DetectParameters.model_fields:
        given, files = {name: url}, {"image": picture}
        yield f"{name} of a form", "POST", "/detect", {"files": files, "data": given}
        yield f"{name} of JSON", "POST", "/detect", {"json": {"image": encoded, **given}}
        yield f"{name} of a query", "POST", "/detect", {**raw, "params": given}
        yield f"{name} of a batch", "POST", "/detect/batch", {"files": files, "data": given}
        yield f"{name} of a batch in JSON", "POST", "/detect/batch", {"json": {"images": [{"image": encoded}], **given}}


def _of_the_catalog(url: str) -> Requests:
    """In each field of a defect."""
    whole: dict[str, Any] = {"id": "glue", "names": {"en": ["glue"]}}
    fields = [{name: url} for name in Defect.model_fields]
    fields += [{name: {language: [url]}} for name in ("names", "descriptions") for language in ("en", "zh")]
    for field in fields:
        (name,), defect = field, whole | field
        document = json.dumps({"defects": [defect]})  # which is YAML too
        del defect["id"]
        yield f"{name} of a defect", "PUT", "/defects/glue", {"json": defect}
        yield f"{name} of a change", "PATCH", "/defects/glue", {"json": field}
        yield f"{name} of a catalog", "PUT", "/defects", {"content": document, "headers": YAML}
    yield "catalog", "PUT", "/defects", {"content": url, "headers": YAML}


def _of_reviews(url: str) -> Requests:
    """In each field of what is said of an inspection, and of the question for some."""
    said: dict[str, Any] = {"request_id": INSPECTION, "complete": True}
    missed = {"defect": "short", "box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}}
    for place, field in (
        ("request_id", {"request_id": url}),
        ("comment", {"comment": url}),
        ("replaces", {"replaces": url}),
        ("detection", {"detections": [{"id": url, "judgement": "right"}]}),
        ("judgement", {"detections": [{"id": "0", "judgement": url}]}),
        ("missed defect", {"missed": [missed | {"defect": url}]}),
        ("description", {"missed": [missed | {"description": url}]}),
    ):
        yield f"{place} of feedback", "POST", "/feedback", {"json": said | field}
    for name in InspectionQuery.model_fields:
        yield f"{name} of inspections", "GET", "/inspections", {"params": {name: url}}


def _of_heads(url: str) -> Requests:
    """In the path, in the target as a proxy is asked, and in each header."""
    quoted = quote(url, safe="")
    for path in ("", "defects/", "inspections/"):
        yield f"path {path}", "GET", f"/{path}{quoted}", {}
    yield "path of an image", "GET", f"/inspections/{quoted}/image", {}
    yield "path of a version", "POST", f"/admin/models/{quoted}/activate", {}
    yield "target", "GET", "/defects", {"extensions": {"target": url.encode()}}
    for name in HEADERS:
        yield (
            f"{name} of a defect",
            "PUT",
            "/defects/glue",
            {"json": {"names": {"en": ["glue"]}}, "headers": {name: url}},
        )
        yield f"{name} of a picture", "POST", "/detect", {"files": {"image": tile()}, "headers": {name: url}}
