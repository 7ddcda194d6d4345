"""The benchmarks of the whole service in short: that they measure what they say, and nothing of how long it took."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from export.server import TritonServer
from tests.benchmarks.service.compare import Comparison, compare
from tests.benchmarks.service.growth import fit
from tests.benchmarks.service.load import clients, steady
from tests.benchmarks.service.peer import Peer
from tests.benchmarks.service.profile import shares_of
from tests.benchmarks.service.question import PROMPTS, pictures
from tests.benchmarks.service.reply import Reply, Timed, outcome
from tests.benchmarks.service.servers import IMAGE_ONCE, gateway, servers
from tests.conftest import ROOT

COMPARISONS = TypeAdapter(dict[str, Comparison])
REPORT = ROOT / "docs" / "benchmarks" / "service_compare.json"


def test_the_gateway_says_what_triton_says_and_the_comparison_reports_all_servers(
    triton: TritonServer, tmp_path: Path
) -> None:
    async def measure() -> dict[str, Comparison]:
        async with servers(triton, tmp_path, (IMAGE_ONCE,)) as up:
            for question in pictures().values():
                direct = up.direct.boxes(question, await up.direct.ask(question))
                answer = await up.gateway.ask(question)
                assert answer.status == 200
                found = answer.content["detections"]
                assert len(found) > 0
                np.testing.assert_allclose(
                    [list(each["box"].values()) for each in found], direct.boxes_xyxy, atol=0.006
                )
                np.testing.assert_allclose([each["score"] for each in found], direct.scores, atol=1e-6)
                assert [PROMPTS.index(each["prompt"]) for each in found] == direct.class_ids.tolist()
            tile = {"one tile": pictures()["one tile"]}
            return await compare(up, tile, rounds=1, number={"one tile": 2}, turn_s=0)

    report = asyncio.run(measure())
    (comparison,) = COMPARISONS.validate_python(report).values()
    assert set(comparison["servers"]) == {
        IMAGE_ONCE,
        "Triton by gRPC, grounding",
        "gateway, grounding",
        "gateway, generative",
    }
    for figures in comparison["servers"].values():
        assert figures["failed"] == 0
        assert figures["requests_alone"] == 1
        assert figures["latency_ms"]["p50"] > 0
    assert set(comparison["ratios"]) == {
        f"gateway, {reading} : {IMAGE_ONCE}" for reading in ("grounding", "generative")
    }


@pytest.mark.skipif(not REPORT.is_file(), reason="not measured yet")
def test_the_report_in_the_documentation_is_one_of_this_suite() -> None:
    report = json.loads(REPORT.read_text())
    del report["machine"]
    comparisons = COMPARISONS.validate_python(report)
    assert set(comparisons) == set(pictures())


def test_the_ways_of_transformers_find_the_same_boxes() -> None:
    peer, question = Peer(), pictures()["one tile"]
    work = peer.read(json.loads(question.body))
    one_by_one, (at_once,) = peer.per_prompt(work), peer.image_once([work])
    assert len(one_by_one["boxes"]) > 0
    assert one_by_one["boxes"] == at_once["boxes"]
    assert [answer["boxes"] for answer in peer.image_once([work, work])] == [at_once["boxes"]] * 2


def test_what_is_beyond_the_limit_is_refused_with_the_time_to_try_again(triton: TritonServer, tmp_path: Path) -> None:
    async def overrun() -> list[Timed]:
        async with gateway(triton, tmp_path / "gateway", MAX_IN_FLIGHT="1") as server:
            board = pictures()["board of nine tiles"]
            return (await clients(lambda: server.ask(board), 0, 8))[0]

    found = outcome(asyncio.run(overrun()), 1)
    assert found["answered"] >= 1
    assert found["refused"] >= 1
    assert found["answered"] + found["refused"] == found["requests"] == 8
    assert found["refused_without_retry_after"] == 0


def test_a_refusal_without_advice_is_counted() -> None:
    found = outcome([Timed(Reply(429), 1.0), Timed(Reply(503, headers={"retry-after": "1"}), 1.0)], 1)
    assert (found["refused"], found["refused_without_retry_after"], found["failed"]) == (2, 1, 0)
    assert outcome([Timed(Reply(500), 1.0), Timed(Reply(0), 1.0)], 1)["failed"] == 2


def test_a_steady_load_does_not_wait_for_answers() -> None:
    async def measure() -> int:
        begun, together = 0, asyncio.Event()

        async def ask() -> Reply:
            nonlocal begun
            begun += 1
            if begun == 3:
                together.set()
            await together.wait()  # nobody is answered before the third has come
            return Reply(200)

        replies, _ = await steady(ask, 0.03, 100)
        return len(replies)

    assert asyncio.run(measure()) == 3


def test_a_power_law_has_its_exponent() -> None:
    assert fit([1, 2, 4, 8], [3, 12, 48, 192]) == {"exponent": 2.0, "r2": 1.0}


def test_a_function_s_share_counts_each_sample_once() -> None:
    stacks = [
        "main (a.py:1);work (a.py:2);work (a.py:3) 3",
        "main (a.py:1);more (a.py:9) 1",
    ]
    assert shares_of(stacks) == {"main (a.py)": 1.0, "work (a.py)": 0.75, "more (a.py)": 0.25}
