"""Large pictures through the real gateway: within bounded memory, and without holding up small ones."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import pyvips
from PIL import Image

from export.server import TritonServer
from tests.conftest import BOARD
from tests.gateway.test_failures import detect, gateway, status, wait_until

MIB = 2**20
FLEX_BYTES = 60 * MIB  # of the allocator, the connection and the buffers of the libraries


@pytest.fixture(scope="module")
def running(triton: TritonServer) -> Iterator[tuple[httpx.Client, int]]:
    """A gateway that has answered once, and its process id."""
    with gateway(triton.grpc_url, deadline_s="120") as (client, process):
        wait_until(lambda: status(client, "/readyz") == 200)
        assert detect(client).status_code == 200
        yield client, process.pid


def peak_bytes(pid: int) -> int:
    """The largest resident memory since `forget_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak(pid: int) -> int:
    """Starts counting anew; returns what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


def tiles(metrics: str) -> float:
    """That all pictures so far were cut into."""
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("pcbd_tiles_sum"))


def test_a_large_photograph_takes_little_more_memory_than_its_pixels(running: tuple[httpx.Client, int]) -> None:
    """4096 x 3000: the decoded picture and the body; its tiles come and go. A region keeps the test short."""
    client, pid = running
    buffer = io.BytesIO()
    Image.open(BOARD).convert("RGB").resize((4096, 3000)).save(buffer, "JPEG", quality=90)
    idle = forget_peak(pid)
    files, fields = {"image": buffer.getvalue()}, {"prompt": "短路", "regions": "[[0, 0, 600, 600]]"}
    answer = client.post("/detect", files=files, data=fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"] == {"width": 4096, "height": 3000}
    assert peak_bytes(pid) - idle < 2 * 4096 * 3000 * 3 + FLEX_BYTES


def test_a_line_scan_of_16k_by_16k_is_never_held_as_a_whole(running: tuple[httpx.Client, int]) -> None:
    """Decoded it has 768 MiB: half of that would be too much. The region is its last corner: all rows are read."""
    client, pid = running
    side = 16_384
    tile = np.asarray(Image.open(BOARD).convert("L"))
    board = pyvips.Image.new_from_memory(tile.tobytes(), 640, 640, 1, "uchar")
    data = board.replicate(26, 26).crop(0, 0, side, side).tiffsave_buffer(compression="deflate")
    fields = {"prompt": "spurious copper", "regions": f"[[16000, 16000, {side}, {side}]]"}
    idle = forget_peak(pid)
    answer = client.post("/detect", files={"image": data}, data=fields, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"] == {"width": side, "height": side}
    assert peak_bytes(pid) - idle < 400 * MIB
    drawn = client.post("/detect", files={"image": data}, headers={"Accept": "image/png"})
    assert (drawn.status_code, "JSON" in drawn.json()["detail"]) == (413, True)
    before = client.get("/metrics").text
    segmented = client.post("/detect", files={"image": data}, data={**fields, "prompt": "segment the spurious copper"})
    assert (segmented.status_code, "masks" in segmented.json()["detail"]) == (413, True)
    assert tiles(client.get("/metrics").text) == tiles(before)  # refused before any was asked


def test_a_small_picture_is_answered_while_a_large_one_is_at_work(running: tuple[httpx.Client, int]) -> None:
    client, _ = running
    buffer = io.BytesIO()
    Image.open(BOARD).resize((4096, 3000)).save(buffer, "PNG")
    with ThreadPoolExecutor(1) as pool:
        headers = {"X-Request-Timeout-Ms": "10000"}  # it need not be answered
        large = pool.submit(client.post, "/detect", files={"image": buffer.getvalue()}, headers=headers)
        wait_until(lambda: "pcbd_in_flight 1.0" in client.get("/metrics").text)
        assert detect(client).status_code == 200
        assert not large.done()
