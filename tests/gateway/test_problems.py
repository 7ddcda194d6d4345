"""Bad input: a clear problem document with the right status, never a 500."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.request.parameters import DetectParameters
from tests.conftest import BOARD

PICTURE = BOARD.read_bytes()
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def client(gateway_url: str) -> Any:  # noqa: ANN401
    with httpx.Client(base_url=gateway_url, timeout=60) as client:
        yield client


def form(*, image: bytes = PICTURE, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"files": {"image": ("board.png", image)}, "data": fields}


CASES: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty body": ({"content": b"", "headers": PNG}, 422, "0 bytes"),
    "empty file": (form(image=b""), 422, "0 bytes"),
    "not an image": (form(image=b"hello"), 415, "PNG"),
    "truncated": (form(image=PICTURE[: len(PICTURE) // 2]), 422, "truncated"),
    "a GIF": ({"content": b"GIF89a", "headers": {"Content-Type": "image/gif"}}, 415, "PNG"),
    "no content type": ({"content": PICTURE}, 415, "missing"),
    "gzip": ({"content": b"x", "headers": {**PNG, "Content-Encoding": "gzip"}}, 415, "gzip"),
    "text": ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "text/plain"),
    "a charset": (
        {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}},
        415,
        "undefined",
    ),
    "a form in GBK": (
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xb6\xcc\xc2\xb7\r\n--x--\r\n',
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        422,
        "UTF-8",
    ),
    "no boundary": ({"content": PICTURE, "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
    "broken form": (
        {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        422,
        "image",
    ),
    "no image": ({"files": {"picture": PICTURE}}, 422, "'image'"),
    "two images": ({"files": [("image", PICTURE), ("image", PICTURE)]}, 400, "files"),
    "blank prompt": (form(prompt="  "), 422, "blank"),
    "long prompt": (form(prompt="x" * 5000), 422, "5000 characters"),
    "many tokens": (form(prompt="\U0001f642" * 100), 422, "tokens"),
    "many prompts": (form(prompt=["open"] * 65), 422, "65 prompts"),
    "threshold above 1": (form(score_threshold="1.5"), 422, "score_threshold"),
    "threshold below 0": (form(nms_threshold="-0.1"), 422, "nms_threshold"),
    "threshold not a number": (form(score_threshold="high"), 422, "score_threshold"),
    "threshold NaN": (form(score_threshold="nan"), 422, "score_threshold"),
    "no detections": (form(max_detections="0"), 422, "max_detections"),
    "half a detection": (form(max_detections="1.5"), 422, "max_detections"),
    "unknown field": (form(treshold="0.5"), 422, "treshold"),
    "given twice": (form(max_detections=["5", "6"]), 422, "more than once"),
    "query with a form": ({**form(), "params": {"prompt": "open"}}, 422, "query"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_request_is_explained(client: httpx.Client, name: str) -> None:
    request, status, word = CASES[name]
    answer = client.post("/detect", **request)
    problem = answer.json()
    assert answer.status_code == status, problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert word in problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]


def test_a_query_in_gbk_is_refused(gateway_url: str) -> None:
    answer = httpx.post(f"{gateway_url}/detect?prompt=%B6%CC%C2%B7", content=PICTURE, headers=PNG)
    assert (answer.status_code, "UTF-8" in answer.json()["detail"]) == (422, True)


def test_every_fault_of_a_request_is_named_at_once(client: httpx.Client) -> None:
    detail = client.post("/detect", **form(prompt=" ", score_threshold="2", colour="red")).json()["detail"]
    for word in ("blank", "score_threshold", "colour"):
        assert word in detail


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
def test_a_body_with_too_many_bytes_is_refused(client: httpx.Client, announced: bool) -> None:
    block = bytes(2**20)
    content = block * 65 if announced else (block for _ in range(65))
    answer = client.post("/detect", content=content, headers=PNG)
    assert answer.status_code == 413
    assert str(64 * 2**20) in answer.json()["detail"]


def test_a_form_with_too_many_bytes_is_refused(client: httpx.Client) -> None:
    assert client.post("/detect", files={"image": bytes(65 * 2**20)}).status_code == 413


def test_a_picture_with_too_many_pixels_is_refused(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")
    answer = client.post("/detect", **form(image=buffer.getvalue()))
    assert answer.status_code == 413
    assert "20000 x 10000" in answer.json()["detail"]


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    for answer, status in ((client.get("/nowhere"), 404), (client.get("/detect"), 405)):
        assert answer.status_code == status
        assert answer.json()["status"] == status


def test_openapi_documents_all_ways_in_and_the_problems(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/detect"]["post"]
    content = operation["requestBody"]["content"]
    kinds = {"multipart/form-data", "application/json", "image/jpeg", "image/png", "image/bmp", "image/tiff"}
    assert kinds <= set(content)
    fields = set(content["multipart/form-data"]["schema"]["properties"])
    assert (
        fields == {"image", *DetectParameters.model_fields} == set(content["application/json"]["schema"]["properties"])
    )
    query = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert query == fields - {"image"}
    assert {"200", "400", "408", "413", "415", "422", "429", "503", "504"} <= set(operation["responses"])
    assert client.get("/docs").status_code == 200
