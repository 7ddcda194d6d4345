"""The review loop's routes by a real gateway, and what is recorded when."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.server import TritonServer
from tests.conftest import BOARD
from tests.gateway.test_failures import gateway, status, wait_until

PICTURE = BOARD.read_bytes()
QUICK = {"deadline_s": "60", "drain_s": "0"}


def detect(client: httpx.Client, request_id: str, **headers: str) -> httpx.Response:
    answer = client.post(
        "/detect", files={"image": PICTURE}, data={"prompt": "短路"}, headers={"X-Request-ID": request_id, **headers}
    )
    assert answer.status_code == 200, answer.text
    return answer


def listed(client: httpx.Client) -> list[str]:
    return [each["request_id"] for each in client.get("/inspections").json()["inspections"]]


@pytest.fixture(scope="module")
def client(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A gateway that keeps no pictures and has one inspection, 'board'."""
    folder: Path = tmp_path_factory.mktemp("review")
    with gateway(triton.grpc_url, database_url=f"sqlite:///{folder}/gateway.db", **QUICK) as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        detect(client, "board")
        wait_until(lambda: listed(client) == ["board"])
        yield client


def problem(answer: httpx.Response, status_code: int) -> str:
    content = answer.json()
    assert answer.status_code == content["status"] == status_code, content
    assert answer.headers["Content-Type"] == "application/problem+json"
    detail: str = content["detail"]
    return detail


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("state=closed", "state"),
        ("reason=curious", "reason"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("before=yesterday", "before"),
        ("sort=at", "sort"),
        ("recipe=A&recipe=B", "recipe is given more than once"),
    ],
)
def test_a_query_that_cannot_be_is_named(client: httpx.Client, query: str, named: str) -> None:
    assert named in problem(client.get(f"/inspections?{query}"), 422)


def test_a_filter_left_empty_filters_nothing(client: httpx.Client) -> None:
    assert "board" in [each["request_id"] for each in client.get("/inspections?recipe=&state=").json()["inspections"]]


def test_what_is_not_there_is_404(client: httpx.Client) -> None:
    assert "nothing" in problem(client.get("/inspections/nothing"), 404)
    assert "nothing" in problem(client.post("/feedback", json={"request_id": "nothing", "complete": True}), 404)
    assert "PCBD_IMAGE_STORE" in problem(client.get("/inspections/board/image"), 404)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"complete": "yes"}, "complete"),
        ({"complete": None}, "complete"),
        ({"detections": [{"id": "board-0", "judgement": "maybe"}]}, "detections.0.judgement"),
        ({"detections": [{"id": "board-99", "judgement": "right"}]}, "board-99"),
        ({"missed": [{"defect": "unheard_of", "box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}}]}, "unheard_of"),
        ({"missed": [{"defect": "short", "box": {"x1": 0, "y1": 0, "x2": 641, "y2": 9}}]}, "641"),
        ({"missed": [{"defect": "short", "box": [0, 0, 9, 9]}]}, "missed.0.box"),
        (
            {"missed": [{"defect": "short", "box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}, "description": " "}]},
            "description",
        ),
        (
            {
                "missed": [
                    {"defect": "short", "box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}, "description": words}
                    for words in ("一条斜的浅划痕", "🙂" * 100)
                ]
            },
            "missed.1.description: more tokens",
        ),
        ({"opinion": "good"}, "opinion"),
        ({"replaces": "1"}, "replaces"),
    ],
)
def test_feedback_that_cannot_be_is_named(client: httpx.Client, change: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = {"request_id": "board", "complete": True} | change
    assert named in problem(client.post("/feedback", json=given), 422)
    assert client.get("/inspections/board").json()["feedback"] is None


def test_feedback_that_would_overwrite_what_its_author_did_not_see_is_409(client: httpx.Client) -> None:
    detect(client, "shared")
    wait_until(lambda: "shared" in listed(client))
    given = {"request_id": "shared", "complete": True, "replaces": None}
    first = client.post("/feedback", json=given).json()
    assert client.get("/inspections/shared").json()["feedback"] == first
    assert f"feedback {first['id']} by anonymous" in problem(client.post("/feedback", json=given), 409)
    assert client.post("/feedback", json=given | {"replaces": first["id"]}).status_code == 200


def test_replays_are_recorded_once_and_pictures_of_a_batch_each(client: httpx.Client) -> None:
    before = set(listed(client))
    first = detect(client, "first", **{"Idempotency-Key": "k"})
    again = detect(client, "again", **{"Idempotency-Key": "k"})
    assert again.json() == first.json()
    batch = client.post("/detect/batch", files=[("image", PICTURE)] * 2, headers={"X-Request-ID": "batch"})
    assert batch.text.count('"answer":{') == 2
    wait_until(lambda: set(listed(client)) - before == {"first", "batch-0", "batch-1"})


def test_sigterm_writes_out_what_was_answered(triton: TritonServer, tmp_path: Path) -> None:
    settings = {"database_url": f"sqlite:///{tmp_path}/gateway.db", **QUICK}
    with gateway(triton.grpc_url, **settings) as (client, process):
        wait_until(lambda: status(client, "/readyz") == 200)
        for number in range(3):
            detect(client, str(number))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in {0, -signal.SIGTERM}
    with gateway(triton.grpc_url, **settings) as (client, _):
        assert listed(client) == ["2", "1", "0"]


def test_recording_can_be_off_and_detection_outlives_a_store_that_cannot_be_written(
    triton: TritonServer, tmp_path: Path
) -> None:
    settings = {"database_url": f"sqlite:///{tmp_path}/gateway.db", "record": "false", **QUICK}
    with gateway(triton.grpc_url, **settings) as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        detect(client, "unrecorded")
    settings |= {"database_url": "sqlite:////proc/nowhere/gateway.db", "record": "true"}
    with gateway(triton.grpc_url, **settings) as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        detect(client, "lost")
        wait_until(lambda: 'pcbd_records_total{outcome="dropped"} 1.0' in client.get("/metrics").text)
        problem(client.get("/inspections"), 503)
    with gateway(triton.grpc_url, **settings | {"database_url": f"sqlite:///{tmp_path}/gateway.db"}) as (client, _):
        assert listed(client) == []
