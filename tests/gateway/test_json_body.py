"""POST /detect as JSON with a base64 picture: the same answer as a form, the same care with what is wrong."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.conftest import BOARD

PICTURE = base64.b64encode(BOARD.read_bytes()).decode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(gateway_url: str) -> Any:  # noqa: ANN401
    with httpx.Client(base_url=gateway_url, timeout=60) as client:
        yield client


def boxes(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [(found["prompt"], found["box"], found["score"]) for found in answer.json()["detections"]]


def test_json_gives_what_a_form_gives(client: httpx.Client) -> None:
    words = {"prompt": ["短路", "spur"], "score_threshold": 0.2, "nms_threshold": 0.5, "max_detections": 4}
    form = client.post("/detect", files={"image": BOARD.read_bytes()}, data=words)
    assert boxes(form) == boxes(client.post("/detect", json={"image": PICTURE, **words}))
    one = client.post("/detect", json={"image": PICTURE, "prompt": "短路", "score_threshold": None})
    assert {found["prompt"] for found in one.json()["detections"]} == {"短路"}


def test_names_of_board_camera_and_recipe_come_back_whichever_way_they_came(client: httpx.Client) -> None:
    names = {"board_id": "板 17/3", "camera_id": "AOI-2", "recipe": "双面板, rev. B"}
    for request in (
        {"json": {"image": PICTURE, "prompt": "短路", **names}},
        {"files": {"image": BOARD.read_bytes()}, "data": {"prompt": "短路", **names}},
        {
            "content": BOARD.read_bytes(),
            "headers": {"Content-Type": "image/png"},
            "params": {"prompt": "短路", **names},
        },
    ):
        answer = client.post("/detect", **request)  # type: ignore[arg-type]
        assert {name: answer.json()[name] for name in names} == names


BAD: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{'image': 1}", 400, "JSON"),
    "no UTF-8": ('{"image": "", "prompt": "短路"}'.encode("gbk"), 400, "UTF-8"),
    "empty": (b"", 400, "JSON"),
    "a name twice": (b'{"image": "", "recipe": "a", "recipe": "b"}', 400, "recipe"),
    "NaN": (b'{"image": "", "score_threshold": NaN}', 400, "JSON"),
    "half a surrogate": (rb'{"image": "", "prompt": "\ud800"}', 400, "JSON"),
    "nested deeply": (b'{"image": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "recursion"),
    "many values": (b'{"image": [' + b"0," * 100_000 + b"0]}", 413, "values"),
    "a list": (b"[1]", 422, "list"),
    "no image": (b"{}", 422, "image is missing"),
    "an image of another type": (b'{"image": 5}', 422, "int"),
    "no base64": (b'{"image": "***"}', 422, "base64"),
    "base64 in two pieces": (b'{"image": "QQ==QUJD"}', 422, "padding"),
    "base64 cut off": (b'{"image": "QUJDR"}', 422, "base64"),
    "an empty image": (b'{"image": ""}', 422, "0 bytes"),
    "no picture": (b'{"image": "QUJD"}', 415, "PNG"),
    "a URL": (b'{"image": "http://127.0.0.1/board.png"}', 422, "nothing is fetched"),
    "a data URL": (b'{"image": "data:image/png;base64,QUJD"}', 422, "only these"),
    "a number as text": (b'{"image": "QUJD", "score_threshold": "0.5"}', 422, "score_threshold"),
    "a yes as a number": (b'{"image": "QUJD", "max_detections": true}', 422, "max_detections"),
    "an infinite number": (b'{"image": "QUJD", "score_threshold": 1e999}', 422, "score_threshold"),
    "a prompt of another type": (b'{"image": "QUJD", "prompt": ["open", 5]}', 422, "prompt.1"),
    "no prompt": (b'{"image": "QUJD", "prompt": null}', 422, "prompt"),
    "an unknown name": (b'{"image": "QUJD", "image_url": "http://x/y"}', 422, "image_url: unknown name"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_json_is_explained(client: httpx.Client, name: str) -> None:
    body, status, words = BAD[name]
    answer = client.post("/detect", content=body, headers=JSON)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize("field", ["prompt", "board_id", "camera_id", "recipe"])
@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "FILE:///etc/passwd", " s3://bucket/key "])
def test_a_url_is_refused_in_every_field(client: httpx.Client, field: str, url: str) -> None:
    for request in ({"json": {"image": PICTURE, field: url}}, {"files": {"image": b"x"}, "data": {field: url}}):
        answer = client.post("/detect", **request)  # type: ignore[arg-type]
        assert (answer.status_code, f"{field} is the URL" in answer.json()["detail"]) == (422, True), answer.text


def test_a_text_in_the_place_of_the_file_is_refused(client: httpx.Client) -> None:
    answer = client.post("/detect", files={"image": (None, "http://127.0.0.1/board.png"), "prompt": (None, "open")})
    assert (answer.status_code, "nothing is fetched" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("label", ["", " ", "a\nb", "a\u2028b", "\u202eab", "x" * 129])
def test_a_label_is_plain_bounded_text(client: httpx.Client, label: str) -> None:
    answer = client.post("/detect", json={"image": PICTURE, "recipe": label})
    assert (answer.status_code, "recipe" in answer.json()["detail"]) == (422, True)


def test_every_fault_of_a_json_body_is_named_at_once(client: httpx.Client) -> None:
    body = {"image": "***", "prompt": [" ", "x" * 500], "score_threshold": 2, "recipe": "\n", "colour": "red"}
    answer = client.post("/detect?prompt=open", content=json.dumps(body), headers=JSON)
    detail = answer.json()["detail"]
    for word in ("query", "base64", "blank", "500 characters", "score_threshold", "recipe", "colour"):
        assert word in detail, detail


def test_a_large_body_is_decoded_as_it_was(client: httpx.Client) -> None:
    """Beyond what the event loop decodes itself, and over several blocks; what follows a PNG's end is not looked at."""
    padded = base64.b64encode(BOARD.read_bytes() + bytes(3 * 2**20 + 1)).decode()
    large = client.post("/detect", json={"image": padded, "prompt": "短路"})
    assert boxes(large) == boxes(client.post("/detect", json={"image": PICTURE, "prompt": "短路"}))


def test_another_encoding_than_utf_8_is_refused(client: httpx.Client) -> None:
    answer = client.post("/detect", content=b"{}", headers={"Content-Type": "application/json; charset=gbk"})
    assert (answer.status_code, "gbk" in answer.json()["detail"]) == (415, True)
