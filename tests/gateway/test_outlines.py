"""Outlines from the generator: the view that a box is asked about in, what is asked, where the points come to lie."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from export.contract.tensors import DETECTOR, GENERATED_TOKENS, GENERATOR, MODELS
from export.repository import publish
from export.triton.config import read_config
from gateway.errors import AwayError
from gateway.models.outlines import Outline, read_outlines, read_points
from gateway.models.prompts import PromptEmbeddings
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from gateway.up import free_port, service
from tests.conftest import BOARD, REPOSITORY
from tests.gateway.test_replacement import staged_shipped

FIRST, TILE = 1280, 256


def test_points_are_pairs_of_locations_and_fewer_than_three_are_no_outline() -> None:
    region = np.array([100, 200, 500, 600])
    tokens = np.array([FIRST + 100, FIRST + 100, FIRST + 900, FIRST + 500, FIRST + 999, FIRST, 2, 1, 1])
    points = [[0.1, 0.2], [0.5, 0.4], [0.55, 0.15]]  # the last one is as far out as may be
    np.testing.assert_allclose(read_points(tokens, region, FIRST), points, atol=1e-3)
    np.testing.assert_allclose(
        read_points(np.insert(tokens, 6, FIRST + 7), region, FIRST), points, atol=1e-3
    )  # cut off
    assert len(read_points(tokens[:5], region, FIRST)) == 0


class Recorded:
    """A generator that answers each region with the triangle above its diagonal; `asked` are its inputs."""

    def __init__(self) -> None:
        self.asked: list[dict[str, NDArray[Any]]] = []

    async def infer(
        self, spec: object, version: str, inputs: dict[str, NDArray[Any]], deadline: Deadline
    ) -> dict[str, NDArray[Any]]:
        assert (spec, version) == (GENERATOR, "7")
        self.asked.append(inputs)
        tokens = np.full((len(inputs["IMAGE"]), GENERATED_TOKENS), 1)
        low, high = FIRST + 100, FIRST + 900  # of the region and its room
        tokens[:, :7] = [low, low, high, low, high, high, 2]
        return {"TOKENS": tokens}


def asked_of(generator: Recorded, pixels: NDArray[np.uint8], boxes: NDArray[np.float32]) -> list[Outline | None]:
    """What the gateway makes of the answers of a generator in Triton's place, with the shipped tokenizer."""
    newest = max((REPOSITORY / GENERATOR.name).glob("[0-9]*"), key=lambda folder: int(folder.name)).name
    config = read_config((REPOSITORY / DETECTOR.name / "config.pbtxt").read_text())
    origin = SimpleNamespace(version=newest, checkpoint_sha256=config.parameters["checkpoint_sha256"].string_value)
    triton = cast(Triton, generator)
    prompts = PromptEmbeddings(triton, cast(Served, origin), REPOSITORY)
    served = cast(Served, SimpleNamespace(version="7", dimensions=SimpleNamespace(tile=TILE)))
    return asyncio.run(read_outlines(triton, served, prompts, pixels, boxes, Deadline.within(9)))


def test_a_fault_of_triton_is_told_as_it_is() -> None:
    class Away(Recorded):
        async def infer(self, *arguments: object) -> dict[str, NDArray[Any]]:
            raise AwayError("Triton is away")

    boxes = np.array([[10, 10, 40, 40]] * 20, np.float32)
    with pytest.raises(AwayError, match="Triton is away"):
        asked_of(Away(), np.zeros((100, 100, 3), np.uint8), boxes)


def test_each_box_is_asked_about_in_a_view_of_its_own_and_its_outline_comes_back_in_pixels() -> None:
    recorded = Recorded()
    pixels = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    small = [[100 + 20 * n, 30, 140 + 20 * n, 50] for n in range(8)]
    boxes = np.array([*small, [300, 310, 428, 402], [0, 0, 640, 640]], np.float32)
    outlines = asked_of(recorded, pixels, boxes)
    for box, outline in zip(boxes, outlines, strict=True):
        assert outline is not None
        side = (box[2:] - box[:2]).max()
        np.testing.assert_allclose(outline, [box[[0, 1]], box[[2, 1]], box[[2, 3]]], atol=side / 250)  # about a bin
    rest, full = sorted(recorded.asked, key=lambda inputs: len(inputs["IMAGE"]))  # asked at once: in either order
    assert [len(inputs["IMAGE"]) for inputs in (full, rest)] == [8, 2]
    assert {inputs["IMAGE"].shape[1:] for inputs in (full, rest)} == {(TILE, TILE, 3)}
    as_it_is = rest["IMAGE"][0]  # a box of half a tile is shown without magnification
    np.testing.assert_array_equal(as_it_is, pixels[228 : 228 + TILE, 236 : 236 + TILE])
    ids, mask = (full[name] for name in ("INPUT_IDS", "ATTENTION_MASK"))
    assert ids[0, [0, 5]].tolist() == [0, 2]  # <s>, </s>
    assert ids[0, 1:5] - FIRST == pytest.approx([250, 375, 750, 625], abs=1)  # half of a view, in its middle
    assert mask.sum(axis=1).tolist() == [6] * 8


@pytest.fixture(scope="module")
def outlining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The service with the shipped engines, of which it is said that they have learned outlines."""
    repository = tmp_path_factory.mktemp("outlining") / "models"
    configs, staging = staged_shipped(repository, "aa", 0.3)
    detector = read_config(configs[DETECTOR.name])
    detector.parameters["outlines"].string_value = "true"
    configs[DETECTOR.name] = str(detector)
    assert len(configs) == len(MODELS)
    publish(repository, staging, configs, {"checkpoint_name": "shipped", "checkpoint_sha256": "aa"})
    with service(repository, free_port(), {"PCBD_DEADLINE_S": "60"}) as url, httpx.Client(base_url=url) as client:
        yield client


def test_masks_of_the_generative_reading_lie_in_their_boxes_and_say_who_wrote_them(outlining: httpx.Client) -> None:
    fields = {"regions": "[[150, 100, 210, 170]]", "score_threshold": "0.1", "prompt": "short", "task": "segment"}
    sources = {}
    for reading in ("grounding", "generative"):
        answer = outlining.post(
            "/detect", files={"image": BOARD.read_bytes()}, data={**fields, "reading": reading}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        found = answer.json()["detections"]
        assert found
        sources[reading] = {each["mask"]["source"] for each in found}
        for each in found:
            box = each["box"]
            for polygon in each["mask"]["polygons"]:
                assert all(
                    box["x1"] - 1 <= x <= box["x2"] + 1 and box["y1"] - 1 <= y <= box["y2"] + 1 for x, y in polygon
                )
    assert sources["grounding"] == {"pixels"}
    assert sources["generative"] <= {"model", "pixels"}  # the shipped decoder has not learned any: what it says varies


def test_a_prompt_that_says_a_place_is_refused(outlining: httpx.Client) -> None:
    data = {"prompt": "<loc_1><loc_2><loc_3><loc_4>", "reading": "generative"}
    answer = outlining.post("/detect", files={"image": BOARD.read_bytes()}, data=data, timeout=60)
    assert answer.status_code == 422
    assert "regions" in answer.json()["detail"]
