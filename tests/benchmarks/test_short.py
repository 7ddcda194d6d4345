"""The benchmarks of the whole service in short: that they measure what they say, and nothing of how long it took."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from export.contract.locations import DRAFT_TOLERANCE
from export.server import TritonServer
from tests.benchmarks.service.agreement import EVERYTHING, agreeing, agreement, boxes_of
from tests.benchmarks.service.compare import Comparison, compare
from tests.benchmarks.service.cost import cost
from tests.benchmarks.service.goals import failures, goals_of
from tests.benchmarks.service.growth import BOXES, CATALOGS, COUNTS, GENERATIVE_COUNTS, SIDES, growth
from tests.benchmarks.service.load import clients
from tests.benchmarks.service.overload import overload
from tests.benchmarks.service.peer import Peer
from tests.benchmarks.service.plots import plot_growth, plot_memory, plot_overload
from tests.benchmarks.service.profile import CLIENTS, stage_breakdown
from tests.benchmarks.service.question import pictures
from tests.benchmarks.service.reply import Timed, answered, outcome
from tests.benchmarks.service.servers import DIRECT, GATEWAY, GENERATIVE, IMAGE_ONCE, gateway, servers
from tests.benchmarks.service.yolo import OURS, OURS_FEWER, THEIRS, compare_with_yolo
from tests.conftest import ROOT

COMPARISONS = TypeAdapter(dict[str, Comparison])
REPORT = ROOT / "docs" / "benchmarks" / "service_compare.json"
TILE, WHOLE = pictures()  # by name
CAP_SYS_PTRACE = 19


def may_look_into_processes() -> bool:
    (capabilities,) = re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    return bool(int(capabilities, 16) >> CAP_SYS_PTRACE & 1)


@pytest.fixture(scope="module")
def peer() -> Peer:
    return Peer()


def test_the_gateway_says_what_triton_says_and_comparison_and_cost_report_all_servers(
    triton: TritonServer, tmp_path: Path
) -> None:
    async def measure() -> tuple[dict[str, Comparison], dict[str, Any]]:
        async with servers(triton, tmp_path, (IMAGE_ONCE,)) as up:
            for question in pictures().values():
                assert len(answered(await up.gateway.ask(question))["detections"]) > 0
                assert (await agreement(up, question))["differing"] == 0
            tile = {TILE: pictures()[TILE]}
            return await compare(up, tile, 1, {TILE: 2}, turn_s=0), await cost(up, tile, rounds=2, requests=3)

    report, costs = asyncio.run(measure())
    (comparison,) = COMPARISONS.validate_python(report).values()
    assert "agreement" in comparison
    assert set(comparison["servers"]) == {IMAGE_ONCE, DIRECT, GATEWAY, GENERATIVE}
    for figures in comparison["servers"].values():
        assert figures["failed"] == 0
        assert figures["requests_alone"] == 1
        assert figures["latency_ms"]["p50"] > 0
    assert set(comparison["ratios"]) == {f"{ours} : {IMAGE_ONCE}" for ours in (GATEWAY, GENERATIVE)}
    assert len(goals_of("compare", report)) == 2  # latency and throughput over the one peer
    assert (costs[TILE]["requests"], costs[TILE]["rounds"], costs[TILE]["failed"]) == (6, 2, 0)
    assert set(costs[TILE]["latency_ms"]) == {DIRECT, GATEWAY}
    assert set(costs[TILE]["over_direct_ms"]) == set(costs[TILE]["over_direct_by_round_ms"]) == {"p50", "p99"}
    assert len(goals_of("cost", costs)) == 2


@pytest.mark.skipif(not REPORT.is_file(), reason="not measured yet")
def test_the_report_in_the_documentation_is_one_of_this_suite() -> None:
    report = json.loads(REPORT.read_text())
    COMPARISONS.validate_python({picture: report[picture] for picture in pictures()})


def test_the_ways_of_transformers_find_the_same_boxes(peer: Peer) -> None:
    question = pictures()[TILE]
    work = peer.read(json.loads(question.body))
    one_by_one, (at_once,) = peer.per_prompt(work), peer.image_once([work])
    assert len(one_by_one["boxes"]) > 0
    assert one_by_one["boxes"] == at_once["boxes"]
    assert [answer["boxes"] for answer in peer.image_once([work, work])] == [at_once["boxes"]] * 2


def test_what_is_beyond_the_limit_is_refused_with_the_time_to_try_again(triton: TritonServer, tmp_path: Path) -> None:
    async def overrun() -> list[Timed]:
        async with gateway(triton, tmp_path / "gateway", MAX_IN_FLIGHT="1") as server:
            board = pictures()[WHOLE]
            return (await clients(lambda: server.ask(board), 0, 8))[0]

    found = outcome(asyncio.run(overrun()), 1)
    assert found["answered"] >= 1
    assert found["refused"] >= 1
    assert found["answered"] + found["refused"] == found["requests"] == 8
    assert found["refused_without_retry_after"] == 0


def test_the_generative_reading_finds_the_boxes_of_transformers(
    triton: TritonServer, tmp_path: Path, peer: Peer
) -> None:
    """To a location bin, but for a fifth of them; to DRAFT_TOLERANCE, but for a tenth.

    Its engines are in bf16, the peer is in fp32: of the board's fifteen boxes one or two are moved by a few bins. What
    was drafted within DRAFT_TOLERANCE of the location that is read stands in its place for those behind it.
    """

    async def ask() -> dict[str, Any]:
        async with gateway(triton, tmp_path / "gateway", DEADLINE_S="120") as server:
            asked = {name: question.having(**EVERYTHING) for name, question in pictures().items()}
            return {name: answered(await server.ask(question)) for name, question in asked.items()}

    for picture, content in asyncio.run(ask()).items():
        (theirs,) = peer.image_once([peer.read(json.loads(pictures()[picture].body))])
        ours = boxes_of(content)
        assert len(theirs["boxes"]) > 0
        assert agreeing(ours, theirs["boxes"]) >= 0.8
        assert agreeing(ours, theirs["boxes"], DRAFT_TOLERANCE) >= 0.9


def test_rising_rates_are_answered_or_refused_with_the_time_to_try_again(triton: TritonServer, tmp_path: Path) -> None:
    async def measure() -> dict[str, Any]:
        async with gateway(triton, tmp_path / "gateway", MAX_IN_FLIGHT="8") as server:
            return await overload(server, pictures()[TILE], 1, (0.5, 2), TILE)

    found = asyncio.run(measure())
    assert [row["share_of_capacity"] for row in found["rates"]] == [0.5, 2]
    for row in found["rates"]:
        assert row["answered"] + row["refused"] == row["requests"]
        assert row["answered"] > 0
        assert row["refused_without_retry_after"] == 0
        assert row["answered_per_s"] <= row["rate_per_s"] + 0.001  # both are rounded
        assert row["answered_per_processor_s"] > 0
    report = {TILE: {GATEWAY: found}}
    assert failures(report, "overload") == []
    assert len(goals_of("overload", report)) == 1
    plot_overload(report, tmp_path / "overload.png")
    assert (tmp_path / "overload.png").is_file()


def test_every_curve_of_growth_has_its_smallest_sizes(
    triton: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.service.growth.CLIENTS_S", 0)
    found = asyncio.run(growth(triton, tmp_path, rounds=1, smallest=2))
    assert {name: curve["sizes"] for name, curve in found.items()} == {
        "pixels": [side**2 for side in SIDES[:2]],
        "prompts": list(COUNTS[:2]),
        "prompts, generative": list(GENERATIVE_COUNTS[:2]),
        "boxes": [0, *BOXES[:2]],
        "catalog": list(CATALOGS[:2]),
        "catalog, enabled": list(CATALOGS[:2]),
        "catalog, all by name": list(CATALOGS[:2]),
        "clients": list(COUNTS[:2]),
    }
    for curve in found.values():
        for kind in ("latency", "processor", "memory"):
            assert set(curve[kind]) == {"exponent", "r2"}
        for kind in ("latency_ms", "processor_ms"):
            assert curve[kind]["least"] == curve[kind]["median"] == curve[kind]["most"]  # of one round
            assert min(curve[kind]["least"]) > 0
        assert len(curve["memory_mb"]) == len(curve["sizes"])
    assert len(found["clients"]["answered_per_s"]) == 2
    for plot in (plot_growth, plot_memory):
        plot(found, tmp_path / f"{plot.__name__}.png")
        assert (tmp_path / f"{plot.__name__}.png").is_file()


@pytest.mark.skipif(not may_look_into_processes(), reason="py-spy needs CAP_SYS_PTRACE")
def test_the_stages_of_a_request_are_told_alone_and_under_load(triton: TritonServer, tmp_path: Path) -> None:
    async def measure() -> dict[str, Any]:
        async with gateway(triton, tmp_path / "gateway", DEADLINE_S="120") as server:
            return await stage_breakdown(server, pictures()[TILE], 1)

    found = asyncio.run(measure())
    assert set(found) == {"alone", f"{CLIENTS} clients"}
    for told in found.values():
        assert told["requests"] > 0
        assert told["failed"] == 0
        assert {"request", "body", "decode", "infer", "triton", "outside of stages"} <= set(told["stages"])
        assert told["stages"]["request"]["share"] == 1
        assert "MainThread" in told["gateway_threads_ms"]
        assert told["triton_processor_ms"] > 0


def test_the_board_is_compared_with_what_has_the_tensors_of_yolo(tmp_path: Path) -> None:
    class Strided(torch.nn.Module):
        """Raw boxes and scores at YOLO's 80 x 80, 40 x 40 and 20 x 20 places: 8,400."""

        def __init__(self) -> None:
            super().__init__()
            self.levels = torch.nn.ModuleList(torch.nn.Conv2d(3, 4 + 12, side, side) for side in (8, 16, 32))

        def forward(self, image: Tensor) -> Tensor:
            pixels = image.permute(0, 3, 1, 2).float() / 255
            return torch.cat([level(pixels).flatten(2) for level in self.levels], dim=2)

    graph, image = tmp_path / "model.onnx", torch.zeros(1, 640, 640, 3, dtype=torch.uint8)
    names: dict[str, Any] = {"input_names": ["IMAGE"], "output_names": ["OUTPUT"]}
    torch.onnx.export(Strided().eval(), (image,), str(graph), **names, dynamo=True, verbose=False)
    found = asyncio.run(compare_with_yolo(tmp_path / "repository", pictures()[WHOLE], rounds=1, graph=graph, turn=1))
    assert set(found["servers"]) == {OURS, OURS_FEWER, THEIRS}
    assert set(found["over_yolo"]) == {OURS, OURS_FEWER}
    assert len(goals_of("yolo", found)) == 1
