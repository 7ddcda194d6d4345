"""Annotated pictures, verdicts and the parameters of looking, through the whole service."""

import io
from base64 import b64decode
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.conftest import BOARD

BOARD_BYTES = BOARD.read_bytes()
SHORTS = {"prompt": "short"}


@pytest.fixture(scope="module")
def client(gateway_url: str) -> Any:  # noqa: ANN401
    with httpx.Client(base_url=gateway_url, timeout=120) as client:
        yield client


def post(client: httpx.Client, accept: str = "*/*", language: str | None = None, **fields: Any) -> httpx.Response:  # noqa: ANN401
    headers = {"Accept": accept} | ({"Accept-Language": language} if language else {})
    answer = client.post("/detect", files={"image": BOARD_BYTES}, data=fields, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_answered_where_one_is_accepted(client: httpx.Client, kind: str) -> None:
    answer = post(client, f"image/{kind.lower()}", **SHORTS)
    plain = post(client, **SHORTS).json()
    assert answer.headers["Content-Type"] == f"image/{kind.lower()}"
    assert answer.headers["X-Verdict"] == plain["verdict"] == "ng"
    assert answer.headers["X-Detections"] == str(len(plain["detections"]))
    assert answer.headers["X-Model-Name"] == plain["model"]["name"]
    assert answer.headers["X-Request-ID"]
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, picture.size) == (kind, (640, 640))
    box = plain["detections"][0]["box"]
    left = round(box["x1"])
    across = pixels(answer.content)[round((box["y1"] + box["y2"]) / 2), left - 3 : left + 2]  # of the frame
    assert abs(across - np.array([255, 127, 14])).max(axis=1).min() < 60  # the catalog's colour of shorts


def test_annotated_puts_the_picture_into_the_json(client: httpx.Client) -> None:
    answer = post(client, annotated="true", **SHORTS).json()
    assert answer["annotated"]["media_type"] == "image/png"
    alone = post(client, "image/png", **SHORTS)
    np.testing.assert_array_equal(pixels(b64decode(answer["annotated"]["data"])), pixels(alone.content))
    assert "annotated" not in post(client, **SHORTS).json()


def test_labels_are_in_the_language_of_the_request(client: httpx.Client) -> None:
    english, chinese = (pixels(post(client, "image/png", language, **SHORTS).content) for language in ("en", "zh-CN"))
    assert (english != chinese).any()
    np.testing.assert_array_equal(pixels(post(client, "image/png", **SHORTS).content), english)
    by_prompt, in_chinese, in_english = (
        pixels(post(client, "image/png", language, prompt="短路").content) for language in (None, "zh-CN", "en")
    )
    np.testing.assert_array_equal(by_prompt, in_chinese)
    assert (by_prompt != in_english).any()


def test_colours_are_those_that_the_words_ask_for(client: httpx.Client) -> None:
    usual, blue = (
        pixels(post(client, "image/png", "zh", prompt=words).content) for words in ("短路", "用蓝色方框标出短路")
    )
    changed = (usual != blue).any(axis=2)
    assert changed.any()
    assert (blue[changed][:, 2] >= usual[changed][:, 2]).mean() > 0.9


def test_masks_come_where_they_are_asked_for(client: httpx.Client) -> None:
    assert all("mask" not in found for found in post(client, **SHORTS).json()["detections"])
    by_parameter = post(client, task="segment", **SHORTS).json()["detections"]
    assert by_parameter
    for found in by_parameter:
        mask, box = found["mask"], found["box"]
        assert (mask["source"], mask["rle"]["size"]) == ("pixels", [640, 640])
        decoded = coco.decode(coco.frPyObjects(mask["rle"], 640, 640)).astype(bool)
        ys, xs = np.nonzero(decoded)
        assert box["x1"] - 1 <= xs.min() <= xs.max() <= box["x2"] + 1
        assert box["y1"] - 1 <= ys.min() <= ys.max() <= box["y2"] + 1
    by_words = post(client, prompt=["用红色方框标出短路并用蓝色掩膜覆盖", "spur"]).json()["detections"]
    assert {found["defect"]: "mask" in found for found in by_words} == {"short": True, "spur": False}


def test_masks_are_drawn(client: httpx.Client) -> None:
    boxes, masks = (pixels(post(client, "image/png", task=task, **SHORTS).content) for task in ("detect", "segment"))
    assert 50 < (boxes != masks).any(axis=2).sum() < 4000


def test_the_verdict_is_by_severity(client: httpx.Client) -> None:
    minor = post(client, prompt="spur", ng_from="minor").json()
    assert (minor["verdict"], {found["severity"] for found in minor["detections"]}) == ("ng", {"minor"})
    assert minor["counts"] == {"spur": len(minor["detections"])}
    assert post(client, prompt="spur", ng_from="major").json()["verdict"] == "ok"
    assert post(client, prompt="short", ng_from="critical").json()["verdict"] == "ng"


def test_only_regions_count(client: httpx.Client) -> None:
    everywhere = post(client, **SHORTS).json()["detections"]
    left = post(client, regions="[[0, 0, 320, 640]]", **SHORTS).json()["detections"]
    right = post(client, excluded_regions="[[[0, 0], [320, 0], [320, 640], [0, 640]]]", **SHORTS).json()["detections"]
    assert len(left) == len(right) == 1
    assert sorted(found["score"] for found in left + right) == pytest.approx(
        sorted(found["score"] for found in everywhere), abs=1e-3
    )


@pytest.mark.parametrize("merging", ["nms", "soft_nms", "wbf"])
def test_every_way_of_merging_finds_the_shorts(client: httpx.Client, merging: str) -> None:
    answer = post(client, merging=merging, class_agnostic="true", full_image="true", tile_overlap="0.3", **SHORTS)
    assert answer.json()["counts"] == {"short": 2}


def test_the_generative_reading_finds_the_shorts_too(client: httpx.Client) -> None:
    fields = {"reading": "generative", "regions": "[[150, 100, 210, 170]]", "score_threshold": "0.1", **SHORTS}
    written = post(client, **fields).json()["detections"]
    assert len(written) == 1
    assert 0.1 <= written[0]["score"] <= 1
    box = written[0]["box"]
    assert (box["x1"] + box["x2"]) / 2 == pytest.approx(178, abs=10)  # where the board's bridge was drawn
    assert (box["y1"] + box["y2"]) / 2 == pytest.approx(136, abs=10)
