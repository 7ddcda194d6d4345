"""A damaged TIFF leaves no line that is no record, and what a crash says is still told."""

import io
import json
import subprocess
import sys

import numpy as np
from PIL import Image

from tests.conftest import ROOT

PILLOW_ALONE = """
import io, sys
from PIL import Image
try:
    Image.open(io.BytesIO(sys.stdin.buffer.read())).load()
except OSError:
    pass
"""
AS_THE_GATEWAY = """
import faulthandler, logging, sys
from gateway.errors import ImageError
from gateway.pictures.picture import open_picture
from gateway.settings import Settings
from gateway.telemetry.logs import configure_logs

configure_logs("DEBUG", "json")
try:
    open_picture(sys.stdin.buffer.read(), Settings()).decode()
except ImageError as error:
    logging.getLogger("gateway").info("%s", error)
"""
AND_CRASHES = (
    AS_THE_GATEWAY
    + """
faulthandler.enable()
faulthandler._sigsegv()
"""
)


def damaged_tiff() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "TIFF", compression="tiff_lzw")
    data = bytearray(encoded.getvalue())
    middle = len(data) // 2
    data[middle : middle + 64] = b"\xff" * 64
    return bytes(data)


def said(program: str) -> list[str]:
    """Lines on stderr of a process that is given the damaged file."""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, input=damaged_tiff(), capture_output=True, timeout=60, check=False)
    return ended.stderr.decode().splitlines()


def test_a_damaged_tiff_leaves_records_only() -> None:
    assert said(PILLOW_ALONE)  # otherwise Pillow has learned it, and gateway/pictures/libtiff.py can go
    records = [json.loads(line) for line in said(AS_THE_GATEWAY)]
    assert any("cannot be decoded" in record["message"] for record in records)


def test_a_crash_is_still_told() -> None:
    assert any("Fatal Python error: Segmentation fault" in line for line in said(AND_CRASHES))
