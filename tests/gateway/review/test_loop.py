"""The review loop through the whole service: a board is inspected, judged, counted, exported, and training reads it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.server import TritonServer
from tests.conftest import BOARD, run_module
from tests.gateway.test_failures import gateway, status, wait_until

PICTURE = BOARD.read_bytes()
MISSED = {
    "defect": "scratch",
    "box": {"x1": 10, "y1": 20, "x2": 50.5, "y2": 32},
    "description": "一条斜的浅划痕",
}


@pytest.fixture
def service(triton: TritonServer, database_url: str, tmp_path: Path) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """A gateway that finds every answer with a detection worth a look, and the variables that its commands need."""
    settings = {"database_url": database_url, "image_store": f"file://{tmp_path}/images", "review_margin": "1"}
    with gateway(triton.grpc_url, deadline_s="60", review_random_share="0", **settings) as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        yield client, {f"PCBD_{name.upper()}": value for name, value in settings.items()}


def detect(client: httpx.Client, request_id: str, **fields: str | list[str]) -> dict[str, Any]:
    answer = client.post("/detect", files={"image": PICTURE}, data=fields, headers={"X-Request-ID": request_id})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    wait_until(lambda: client.get(f"/inspections/{request_id}").status_code == 200)
    return result


def judge_all(answer: dict[str, Any], judgement: str) -> list[dict[str, str]]:
    return [{"id": found["id"], "judgement": judgement} for found in answer["detections"]]


def metric(client: httpx.Client, line: str) -> float | None:
    found = [each for each in client.get("/metrics").text.splitlines() if each.startswith(line)]
    return float(found[0].rpartition(" ")[2]) if found else None


def test_a_board_goes_the_whole_way(service: tuple[httpx.Client, dict[str, str]], tmp_path: Path) -> None:
    client, variables = service
    answer = detect(
        client, "board-1", prompt=["寻找短路", "find spurs"], recipe="A7", board_id="B-17", annotated="true"
    )
    assert len(answer["detections"]) >= 2
    sound = detect(client, "board-2", prompt="short", score_threshold="0.3", recipe="A7")

    listed = client.get("/inspections", params={"state": "open", "recipe": "A7", "board_id": "B-17"}).json()
    (line,) = listed["inspections"]
    assert listed["next"] is None
    assert line | {"at": ""} == {
        "request_id": "board-1",
        "number": 1,
        "at": "",
        "board_id": "B-17",
        "camera_id": None,
        "recipe": "A7",
        "verdict": "ng",
        "model": answer["model"],
        "counts": answer["counts"],
        "reason": "near_threshold",
        "has_image": True,
        "reviewed": False,
    }
    recorded = client.get("/inspections/board-1").json()
    assert recorded["answer"] == {name: value for name, value in answer.items() if name != "annotated"}
    assert (len(recorded["thresholds"]), recorded["feedback"]) == (2, None)
    picture = client.get("/inspections/board-1/image")
    assert (picture.content, picture.headers["Content-Type"]) == (PICTURE, "image/png")

    first, *others = judge_all(answer, "right")
    given = {
        "request_id": "board-1",
        "detections": [first | {"judgement": "false"}, *others],
        "missed": [MISSED],
        "complete": True,
        "comment": "左上角",
    }
    stored = client.post("/feedback", json=given, headers={"X-Actor": "王工".encode()}).json()
    assert stored | {"at": ""} == given | {"id": stored["id"], "actor": "王工", "at": ""}
    assert client.get("/inspections/board-1").json()["feedback"] == stored
    assert [each["request_id"] for each in client.get("/inspections?state=reviewed").json()["inspections"]] == [
        "board-1"
    ]
    nothing_there = {"request_id": "board-2", "detections": judge_all(sound, "false"), "complete": True}
    assert client.post("/feedback", json=nothing_there).status_code == 200

    false_defect = answer["detections"][0]["defect"]
    labels = f'{{defect="{false_defect}",judgement="false",recipe="A7"}}'
    wait_until(lambda: bool(metric(client, f"pcbd_reviewed_detections_total{labels}")))
    assert metric(client, 'pcbd_escapes_total{defect="scratch",recipe="A7"}') == 1
    assert metric(client, 'pcbd_escape_ratio{defect="scratch",recipe="A7"}') == 1
    assert metric(client, f'pcbd_false_call_ratio{{defect="{false_defect}",recipe="A7"}}') > 0  # type: ignore[operator]

    out = tmp_path / "reviewed"
    done = run_module("gateway.review", "export", "--out", str(out), "--recipe", "A7", **variables)
    assert done.returncode == 0, done.stderr
    checked = run_module("training.data", "check", str(out / "annotations.json"))
    assert checked.returncode == 0, checked.stdout
    assert "0 errors, 0 warnings; 2 images" in checked.stdout
    tree = json.loads((out / "annotations.json").read_text(encoding="utf-8"))
    assert [(out / image["file_name"]).read_bytes() for image in tree["images"]] == [PICTURE, PICTURE]
    assert tree["images"][0]["group"] == "B-17"
    boxes = [annotation["bbox"] for annotation in tree["annotations"]]
    assert boxes[-1] == [10, 20, 40.5, 12]
    assert len(boxes) == len(answer["detections"])  # one false, one missed
    assert {annotation["image_id"] for annotation in tree["annotations"]} == {1}
    scratch = next(each for each in tree["categories"] if each["name"] == "scratch")
    sentences = {tree["text_descriptions"][text_id] for text_id in scratch["description_ids"]}
    assert any(sentence.isascii() for sentence in sentences)
    assert any(not sentence.isascii() for sentence in sentences)
    own = tree["annotations"][-1]["description_ids"]
    assert [tree["text_descriptions"][text_id] for text_id in own] == [MISSED["description"]]
