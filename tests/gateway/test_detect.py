"""POST /detect through the whole service: real gateway, real Triton, shipped engines."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from export.contract.boxes import iou_matrix
from tests.conftest import BOARD, ROOT

DOCUMENTED = ROOT / "docs" / "http.md"
BOARD_BYTES = BOARD.read_bytes()
TRUTH = json.loads(BOARD.with_suffix(".json").read_text())


@pytest.fixture
def client(gateway_url: str) -> Any:  # noqa: ANN401
    with httpx.Client(base_url=gateway_url, timeout=60) as client:
        yield client


def detect(client: httpx.Client, *prompts: str, image: bytes = BOARD_BYTES, **fields: str) -> dict[str, Any]:
    answer = client.post("/detect", files={"image": ("board", image)}, data={"prompt": list(prompts), **fields})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def corners(answer: dict[str, Any]) -> np.ndarray:
    boxes = [[found["box"][name] for name in ("x1", "y1", "x2", "y2")] for found in answer["detections"]]
    return np.array(boxes, np.float32).reshape(-1, 4)


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_a_prompt_that_comes_twice_counts_once(client: httpx.Client) -> None:
    once = detect(client, "短路")
    image = base64.b64encode(BOARD_BYTES).decode()
    in_json = client.post("/detect", json={"image": image, "prompt": ["短路", "短路"]}).json()
    for twice in (detect(client, "短路", "短路"), in_json):
        assert (twice["counts"], len(twice["understood"])) == (once["counts"], 1)


def test_the_answer_has_the_documented_shape(client: httpx.Client) -> None:
    answer = detect(client, "寻找短路", "find spurs")
    documented = json.loads(
        DOCUMENTED.read_text(encoding="utf-8").partition("### Answer\n```json\n")[2].partition("```")[0]
    )
    assert set(answer) == set(documented)
    assert answer["image"] == {"width": 640, "height": 640}
    assert answer["model"]["name"] == "pcb_twelve"
    assert answer["verdict"] == "ng"
    for part in ("image", "model", "timings_ms"):
        assert set(answer[part]) == set(documented[part])
    assert all(set(entry) == set(documented["understood"][0]) for entry in answer["understood"])
    scores = [found["score"] for found in answer["detections"]]
    assert scores == sorted(scores, reverse=True)
    assert len({found["id"] for found in answer["detections"]}) == len(scores)
    for found in answer["detections"]:
        assert set(found) == set(documented["detections"][0])
        assert (found["prompt"], found["defect"]) in {("寻找短路", "short"), ("find spurs", "spur")}
        box = found["box"]
        assert 0 <= box["x1"] < box["x2"] <= 640
        assert 0 <= box["y1"] < box["y2"] <= 640


@pytest.mark.parametrize("words", [("short circuit", "短路"), ("pin-hole", "针孔"), ("spurious copper", "余铜")])
def test_a_drawn_defect_is_found_by_its_name_in_either_language(client: httpx.Client, words: tuple[str, str]) -> None:
    name = {"short circuit": "short", "pin-hole": "pin_hole", "spurious copper": "spurious_copper"}[words[0]]
    category = next(entry["id"] for entry in TRUTH["categories"] if entry["name"] == name)
    wanted = np.array([a["bbox"] for a in TRUTH["annotations"] if a["category_id"] == category], np.float32)
    wanted[:, 2:] += wanted[:, :2]
    for word in words:
        found = corners(detect(client, word, score_threshold="0.3"))
        assert (iou_matrix(wanted, found).max(axis=1) > 0.33).all(), word


def test_no_prompt_means_every_class_of_the_catalog(client: httpx.Client) -> None:
    everything = detect(client, score_threshold="0.3")
    ready = client.get("/readyz").json()
    assert {found["defect"] for found in everything["detections"]} <= set(ready["defects"])
    assert len({found["defect"] for found in everything["detections"]}) >= 4


def test_several_prompts_give_what_they_give_alone(client: httpx.Client) -> None:
    prompts = ("断路", "find a small bite out of the edge of a trace", "孤立的铜")
    together = detect(client, *prompts, score_threshold="0.05")
    for prompt in prompts:
        alone = detect(client, prompt, score_threshold="0.05")
        own = [found for found in together["detections"] if found["prompt"] == prompt]
        assert [(f["box"], f["score"]) for f in own] == [(f["box"], f["score"]) for f in alone["detections"]]


def test_a_raw_body_gives_what_a_form_gives(client: httpx.Client) -> None:
    query = {"prompt": ["短路", "spur"], "score_threshold": "0.2", "nms_threshold": "0.5", "max_detections": "3"}
    raw = client.post("/detect", params=query, content=BOARD_BYTES, headers={"Content-Type": "image/png"}).json()
    form = detect(client, "短路", "spur", score_threshold="0.2", nms_threshold="0.5", max_detections="3")
    assert [(f["box"], f["score"]) for f in raw["detections"]] == [(f["box"], f["score"]) for f in form["detections"]]
    assert len(raw["detections"]) <= 3


def test_the_verdict_and_the_counts_are_of_all_that_was_found_however_few_are_answered(client: httpx.Client) -> None:
    """Of a board whose best boxes of a grave class are left out, so that the best is of a slight one."""
    sure = detect(client, "short", score_threshold="0.5")["detections"]
    corners = [[found["box"][side] for side in ("x1", "y1", "x2", "y2")] for found in sure]
    asked = {"score_threshold": "0.01", "ng_from": "critical", "excluded_regions": json.dumps(corners)}
    everything = detect(client, "short", "spur", **asked)
    assert everything["detections"][0]["severity"] == "minor"
    assert everything["counts"]["short"] > 0
    one = detect(client, "short", "spur", **asked, max_detections="1")
    assert [found["box"] for found in one["detections"]] == [everything["detections"][0]["box"]]
    assert one["counts"] == everything["counts"]
    assert one["verdict"] == everything["verdict"] == "ng"


def test_a_camera_may_name_its_format_loosely(client: httpx.Client) -> None:
    for media_type in ("image/jpg", "image/*", "IMAGE/PNG; q=1"):
        answer = client.post("/detect", content=BOARD_BYTES, headers={"Content-Type": media_type})
        assert answer.status_code == 200, media_type


def test_a_threshold_of_zero_is_answered_in_bounded_time(client: httpx.Client) -> None:
    prompts = [f"open {number}" for number in range(64)]
    answer = detect(client, *prompts, score_threshold="0", nms_threshold="1", max_detections="10000")
    assert len(answer["detections"]) == 10_000


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_the_same_picture_in_another_file_gives_the_same_boxes(client: httpx.Client, kind: str, mode: str) -> None:
    if (kind, mode) == ("BMP", "I;16"):
        pytest.skip("BMP has no 16-bit gray")
    gray = Image.open(BOARD)
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    answer = detect(client, "短路", image=saved(image, kind), score_threshold="0.2")
    np.testing.assert_array_equal(corners(answer), corners(detect(client, "短路", score_threshold="0.2")))


@pytest.mark.parametrize("size", [(1, 1), (100, 60), (256, 256), (300, 1000), (5000, 1)])
def test_pictures_of_any_size_are_answered(client: httpx.Client, size: tuple[int, int]) -> None:
    answer = detect(client, "短路", image=saved(Image.open(BOARD).resize(size), "PNG"), score_threshold="0.01")
    assert answer["image"] == {"width": size[0], "height": size[1]}
    found = corners(answer)
    assert (found >= 0).all()
    assert (found <= [*size, *size]).all()


def test_a_board_moved_within_a_larger_picture_is_found_there(client: httpx.Client) -> None:
    canvas = Image.new("L", (900, 832), 255)
    canvas.paste(Image.open(BOARD), (192, 192))  # by one stride each way, so that the tiles see the same pixels
    moved = corners(detect(client, "针孔", image=saved(canvas, "PNG")))
    here = corners(detect(client, "针孔"))
    assert len(here)
    assert (iou_matrix(here + np.float32(192), moved).max(axis=1) > 0.9).all()


def test_a_client_names_its_request(client: httpx.Client) -> None:
    answer = client.post("/detect", files={"image": BOARD_BYTES}, headers={"X-Request-ID": "line-4.board-17"})
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == "line-4.board-17"
    unsafe = client.get("/healthz", headers={"X-Request-ID": "x" * 200})
    assert len(unsafe.headers["X-Request-ID"]) == 32


def test_200_requests_from_8_clients_equal_the_one_at_a_time_answer(gateway_url: str) -> None:
    prompts = ["断路", "find shorts", "鼠咬", "spur"]
    small = saved(Image.open(BOARD).crop((0, 0, 400, 256)), "PNG")
    variants = [{"data": {"prompt": prompts[: 1 + n % 4], "score_threshold": "0.05"}} for n in range(4)]

    def boxes(answer: httpx.Response) -> list[Any]:
        assert answer.status_code == 200, answer.text
        return [(found["box"], found["score"], found["prompt"]) for found in answer.json()["detections"]]

    async def everyone() -> None:
        async with httpx.AsyncClient(base_url=gateway_url, timeout=120) as client:

            async def ask(number: int) -> list[Any]:
                return boxes(await client.post("/detect", files={"image": small}, **variants[number % 4]))

            alone = [await ask(number) for number in range(4)]
            numbers = iter(range(200))

            async def one_client() -> list[tuple[int, list[Any]]]:
                return [(number, await ask(number)) for number in numbers]

            answers = await asyncio.gather(*(one_client() for _ in range(8)))
        together = [pair for answer in answers for pair in answer]
        assert len(together) == 200
        assert all(found == alone[number % 4] for number, found in together)
        assert any(alone)

    asyncio.run(everyone())
