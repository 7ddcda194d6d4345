"""Tiles through shared memory: the same answers, and no region outlives its gateway."""

import asyncio
import signal
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from export.server import TritonServer
from gateway.models import shared_memory
from gateway.models.shared_memory import FOLDER, PREFIX, remove_orphans
from gateway.models.triton import Triton
from gateway.up import free_port
from tests.chaos.proxy import Proxy
from tests.conftest import REPOSITORY
from tests.gateway.test_failures import detect, gateway, status, wait_until


def registered(url: str) -> set[str]:
    with InferenceServerClient(url) as client:
        return {name for name in client.get_system_shared_memory_status().regions if name.startswith(PREFIX)}


def test_tiles_in_shared_memory_give_the_same_boxes_and_leave_nothing_behind(triton: TritonServer) -> None:
    url = triton.grpc_url
    with gateway(url, deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        expected = detect(client).json()["detections"]
    assert expected
    with gateway(url, deadline_s="60", triton_shared_memory="true") as (client, process):
        wait_until(lambda: status(client, "/readyz") == 200)
        (first,) = registered(url)
        found = detect(client).json()["detections"]
        process.kill()
        process.wait()
    assert [each["box"] for each in found] == [each["box"] for each in expected]
    assert registered(url) == {first}
    with gateway(url, deadline_s="60", triton_shared_memory="true", drain_s="0") as (client, process):
        wait_until(lambda: status(client, "/readyz") == 200)
        (second,) = registered(url)
        assert second != first
        assert not (FOLDER / first).exists()
        process.terminate()
        process.wait()
    assert registered(url) == set()
    assert not (FOLDER / second).exists()


def test_a_triton_that_started_again_is_told_again() -> None:
    ports = {"http_port": free_port(), "grpc_port": free_port(), "metrics_port": free_port()}
    with gateway(
        f"127.0.0.1:{ports['grpc_port']}", triton_shared_memory="true", watch_interval_s="0.2", deadline_s="60"
    ) as (client, _):
        names = []
        for _ in range(2):
            with TritonServer(REPOSITORY, **ports) as server:
                wait_until(lambda: status(client, "/readyz") == 200)
                assert detect(client).status_code == 200
                wait_until(lambda server=server: len(registered(server.grpc_url)) == 1)
                names += registered(server.grpc_url)
                server.signal(signal.SIGKILL)
            wait_until(lambda: status(client, "/readyz") == 503)
        assert names[0] != names[1]
    remove_orphans()


def test_a_host_without_room_goes_on_without(triton: TritonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(Path(FOLDER).glob(f"{PREFIX}*"))

    async def share() -> bool:
        connection = Triton(triton.grpc_url, may_share_memory=True)
        await connection.share_memory(2**40)
        shares = connection._memory is not None
        await connection.close()
        return shares

    monkeypatch.setattr(shared_memory, "SLOTS", 2**10)
    assert not asyncio.run(share())
    assert set(Path(FOLDER).glob(f"{PREFIX}*")) == before


def test_a_look_that_is_broken_off_leaves_no_memory(triton: TritonServer) -> None:
    def held() -> list[str]:
        opened = (str(path.resolve()) for path in Path("/proc/self/fd").iterdir())
        return [*map(str, FOLDER.glob(f"{PREFIX}*")), *(name for name in opened if PREFIX in name)]

    async def share(proxy: Proxy) -> None:
        connection = Triton(proxy.url, may_share_memory=True)
        await connection.check_ready([])
        proxy.fail("stall")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):  # as a request's deadline does
                    await connection.share_memory(2**12)
            assert held() == []
        proxy.heal()
        await connection.share_memory(2**12)
        assert connection._memory is not None
        assert registered(triton.grpc_url) == {connection._memory.name}
        await connection.close()

    with Proxy(triton.grpc_url) as proxy:
        asyncio.run(share(proxy))
    assert registered(triton.grpc_url) == set()
