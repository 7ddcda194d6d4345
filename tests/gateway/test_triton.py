"""What the gateway reads from a model's configuration, and that one stuck connection does not stop it asking."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from export.contract.promotion import read_promoted
from export.contract.tensors import DETECTOR, GROUNDING, Dimensions
from export.server import TritonServer
from gateway.errors import AwayError, UnavailableError
from gateway.models.served import Served, describe, read_score_thresholds
from gateway.models.triton import Triton
from tests.conftest import REPOSITORY


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
