"""Detectors of versions beside the promoted one."""

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.models.beside import MAX_DETECTORS, Beside


def test_a_version_at_hand_does_not_wait_for_another_one() -> None:
    made: list[str] = []

    async def ask() -> None:
        slow = asyncio.Event()

        async def make(version: str) -> Any:  # noqa: ANN401
            if version == "slow":
                await slow.wait()
            made.append(version)
            return SimpleNamespace(served=SimpleNamespace(version=version))

        beside = Beside(make)
        await beside.get("2")
        waiting = [asyncio.create_task(beside.get("slow")) for _ in range(2)]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            assert (await beside.get("2")).served.version == "2"
        slow.set()
        assert [(await task).served.version for task in waiting] == ["slow"] * 2

    asyncio.run(ask())
    assert made == ["2", "slow"]


def test_the_version_used_longest_ago_is_forgotten() -> None:
    made: list[str] = []

    async def ask() -> None:
        async def make(version: str) -> Any:  # noqa: ANN401
            made.append(version)
            return SimpleNamespace(served=SimpleNamespace(version=version))

        beside = Beside(make)
        versions = [str(number) for number in range(MAX_DETECTORS)]
        for version in [*versions, "0", "more", "0", "1"]:
            await beside.get(version)

    asyncio.run(ask())
    assert made == ["0", "1", "2", "more", "1"]
