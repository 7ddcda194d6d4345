"""A TCP proxy that can be told to fail: what a network between gateway and Triton does when it breaks.

refuse   connections are reset, new ones too
reset    connections are reset once, new ones pass
stall    nothing arrives until it is over, then all of it
forget   what is sent is lost without a word, and connections from before never work again
late     everything takes three seconds longer
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

from gateway.up import free_port

FAULTS = ("refuse", "reset", "stall", "forget", "late")
LATE_S = 3.0
CHUNK_BYTES = 65_536


class Proxy:
    """A context; listens on 127.0.0.1 and passes on to `target`, HOST:PORT."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._port = free_port()
        self.url = f"127.0.0.1:{self._port}"
        self.connections = 0  # that have come
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._fault: str | None = None
        self._flows = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()

    def fail(self, fault: str) -> None:
        """Begins to fail in one of FAULTS."""
        self._do(lambda: self._begin(fault))

    def heal(self) -> None:
        """Passes again."""
        self._do(self._end)

    def _begin(self, fault: str) -> None:
        self._fault = fault
        if fault == "stall":
            self._flows.clear()
        if fault == "forget":
            self._forgotten |= self._writers
        if fault in {"refuse", "reset"}:
            for writer in self._writers:
                _reset(writer)

    def _end(self) -> None:
        self._fault = None
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._fault == "refuse":
            _reset(writer)
            return
        try:
            onward, back = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, back}
        if self._fault == "forget":
            self._forgotten |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(onward, writer))
        self._writers -= {writer, back}
        self._forgotten -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                if writer in self._forgotten:
                    continue
                if self._fault == "late":
                    await asyncio.sleep(LATE_S)
                writer.write(data)
                await writer.drain()
        if writer not in self._forgotten:
            writer.close()

    def _do(self, act: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (act(), done.set()))
        done.wait()

    def __enter__(self) -> "Proxy":
        self._thread.start()
        listening = asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        self._end()
        for writer in self._writers:
            _reset(writer)
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


def _reset(writer: asyncio.StreamWriter) -> None:
    plain: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
