"""What the gateway reads from a model's configuration, and that one stuck connection does not stop it asking."""

import asyncio
import contextlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.contract.promotion import read_promoted
from export.contract.tensors import DETECTOR, GROUNDING, PROMPT_ENCODER, Dimensions
from export.server import TritonServer
from gateway.errors import AwayError, OverloadError, UnavailableError
from gateway.models.served import Served, describe, read_score_thresholds
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from tests.conftest import REPOSITORY, embedded_triton


def test_each_class_has_its_own_threshold_and_other_words_the_default() -> None:
    thresholds = read_score_thresholds('{"default": 0.4, "open": 0.9, "short": 1}')
    served = Served("1", "tiny", "00ff", Dimensions(128, 64, 20), ("open", "short", "spur"), thresholds)
    asked = ["open", "short", "spur", "scratch", None]
    assert [served.score_threshold(defect) for defect in asked] == [0.9, 1.0, 0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.5",
        "[0.5]",
        '{"open": 0.5}',
        '{"default": 1.5}',
        '{"default": 0.5, "open": "high"}',
        '{"default": 0.5, "open": null}',
        '{"default": NaN}',
    ],
)
def test_thresholds_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(UnavailableError, match="score_thresholds"):
        read_score_thresholds(text)


def test_what_a_stuck_connection_does_not_answer_is_asked_on_another(triton: TritonServer) -> None:
    host, _, port = triton.grpc_url.partition(":")
    connections = 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.closing(writer):
            if connections == 1:
                await reader.read()  # until the client gives up; it never gets a byte
                return
            onward_reader, onward_writer = await asyncio.open_connection(host, int(port))
            with contextlib.closing(onward_writer):
                await asyncio.gather(pass_on(reader, onward_writer), pass_on(onward_reader, writer))

    async def ask() -> Served:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            connection = Triton("{}:{}".format(*server.sockets[0].getsockname()))
            try:
                await connection.check_ready(GROUNDING)
                return await describe(connection)
            finally:
                await connection.close()

    assert asyncio.run(ask()).version == str(read_promoted(REPOSITORY)[-1])
    assert connections > 1


def test_a_model_that_is_not_ready_is_named(triton: TritonServer) -> None:
    async def ask() -> None:
        connection = Triton(triton.grpc_url)
        try:
            await connection.check_ready([*GROUNDING, replace(DETECTOR, name="absent")])
        finally:
            await connection.close()

    with pytest.raises(AwayError, match="absent"):
        asyncio.run(ask())


def test_a_request_that_waits_longer_than_tritons_queue_allows_is_told_which_limit(tmp_path: Path) -> None:
    model = tmp_path / PROMPT_ENCODER.name
    shutil.copytree(REPOSITORY / PROMPT_ENCODER.name, model)
    config = model / "config.pbtxt"
    hurried = re.sub(r"(default_timeout_microseconds: )\d+", r"\g<1>1", config.read_text())
    assert hurried != config.read_text()
    config.write_text(hurried)
    inputs = {tensor.name: np.ones((1, 8), np.int64) for tensor in PROMPT_ENCODER.inputs}

    async def ask(url: str) -> None:
        connection = Triton(url)
        try:
            await connection.infer(PROMPT_ENCODER, str(read_promoted(REPOSITORY)[-1]), inputs, Deadline.within(60))
        finally:
            await connection.close()

    with embedded_triton(tmp_path) as own, pytest.raises(OverloadError, match="default_timeout_microseconds"):
        asyncio.run(ask(own.grpc_url))
