"""Trial 12: pictures and bodies that are more than they seem, each refused with exactly its status, at once."""

import io
import json
import struct
import time
import zlib
from typing import Any

import httpx
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.chaos.grounds import Grounds
from tests.chaos.load import tile
from tests.chaos.mutants import of_many_samples
from tests.chaos.peak import forget_peak, peak_rss_bytes
from tests.chaos.trial import Outcome, Scale

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def bombs(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Thirty-one of them: 400, 413, 415 or 422, within 200 ms, for little memory."""
    del scale
    gateway = grounds.shared
    with grounds.delayed(0), httpx.Client(base_url=gateway.url, timeout=60) as client:
        client.post("/detect", content=tile(), headers={"Content-Type": "image/jpeg"})
        before = gateway.rss_bytes
        forget_peak(gateway.process.pid)
        came, expected, milliseconds = {}, {}, {}
        for name, (request, status) in cases().items():
            content = client.build_request("POST", "/detect", **request)
            began = time.perf_counter()
            came[name], expected[name] = client.send(content).status_code, status
            milliseconds[name] = (time.perf_counter() - began) * 1e3
        outcome.note("cases", len(came))
        outcome.same("other_answers", {name: status for name, status in came.items() if status != expected[name]}, {})
        slowest = max(milliseconds, key=lambda name: milliseconds[name])
        outcome.note("slowest", slowest)
        outcome.quick("slowest_ms", milliseconds[slowest], 200)
        outcome.most("peak_rss_growth_mb", (peak_rss_bytes(gateway.process.pid) - before) / 1e6, 100)


def cases() -> dict[str, tuple[dict[str, Any], int]]:
    """Requests by name, and their statuses."""
    huge = 30_000
    pictures: dict[str, tuple[bytes, int]] = {
        "png of 900 megapixels": (png(huge, huge), 413),
        "png of 2**31 on a side": (png(2**31 - 1, 2**31 - 1), 413),
        "png long and thin": (png(70_000, 1), 413),
        "png of 0 x 0": (png(0, 0), 415),
        "png without pixels": (png(64, 64), 422),
        "png whose pixels end early": (png(5_000, 5_000, zlib.compress(bytes(1_000))), 422),
        "png with 100 MB of packed text": (packed_text(), 415),
        "jpeg of 900 megapixels": (jpeg(huge, huge), 413),
        "jpeg of 0 x 0": (jpeg(0, 0), 415),
        "jpeg cut in the middle": (whole("JPEG")[:-2_000], 422),
        "bmp of 900 megapixels": (bmp(huge, huge), 413),
        "bmp of 2**31 on a side": (bmp(2**31 - 1, 2**31 - 1), 413),
        "bmp whose pixels end early": (bmp(4_000, 4_000), 422),
        "tiff of 900 megapixels": (tiff(huge, huge), 413),
        "tiff of 2**32 on a side": (tiff(2**32 - 1, 2**32 - 1), 413),
        "tiff whose pixels end early": (tiff(4_000, 4_000), 422),
        "tiff of 4,389 samples a pixel": (of_many_samples(), 422),
        "gif": (b"GIF89a" + bytes(100), 415),
        "svg with an entity bomb": (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaa'>]><svg>&a;</svg>", 415),
        "nothing": (b"", 422),
    }
    found: dict[str, tuple[dict[str, Any], int]] = {
        name: ({"files": {"image": data}}, status) for name, (data, status) in pictures.items()
    }
    deep = '{"image": "", "prompt": ' + "[" * 5_000 + "]" * 5_000 + "}"
    found |= {
        "json nested 5,000 deep": ({"content": deep, "headers": JSON}, 400),
        "json of 200,000 values": ({"json": {"image": "", "prompt": [""] * 200_000}}, 413),
        "json with a name twice": ({"content": '{"image": "", "image": ""}', "headers": JSON}, 400),
        "json with a number of 10,000 digits": (
            {"content": '{"image": "", "score_threshold": ' + "9" * 10_000 + "}", "headers": JSON},
            400,
        ),
        "json cut off": ({"content": json.dumps({"image": "A" * 1_000})[:-5], "headers": JSON}, 400),
        "form of 1,000 fields": ({"files": {"image": tile()}, "data": {"prompt": ["x"] * 1_000}}, 400),
        "form without an end": (
            {"content": b'--x\r\nContent-Disposition: form-data; name="image"', "headers": FORM},
            422,
        ),
        "form of two pictures": ({"files": [("image", tile()), ("image", tile())]}, 400),
        "gzip bomb": (
            {
                "content": zlib.compress(bytes(10_000_000)),
                "headers": {"Content-Type": "image/png", "Content-Encoding": "deflate"},
            },
            415,
        ),
        "boundary of 3,000": (
            {"content": b"", "headers": {"Content-Type": f"multipart/form-data; boundary={'x' * 3_000}"}},
            400,
        ),
        "region of 10,000 corners": (
            {"files": {"image": tile()}, "data": {"regions": json.dumps([[[0, 0]] * 10_000])}},
            400,
        ),
    }
    return found


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A gray PNG that says that size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A real one with another size in its frame header."""
    data = bytearray(whole("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    """A real one with another size in its header."""
    data = bytearray(whole("BMP"))
    data[18:26] = struct.pack("<II", width, height)
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    """A real one with another size in its directory."""
    data = whole("TIFF")
    for tag, size in ((256, width), (257, height)):
        data = data.replace(struct.pack("<HHII", tag, 4, 1, 64), struct.pack("<HHII", tag, 4, 1, size))
    return data


def whole(kind: str) -> bytes:
    """A gray picture of 64 x 64."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, kind)
    return encoded.getvalue()


def packed_text() -> bytes:
    """A PNG of 100 kB whose comment would be 100 MB."""
    info = PngInfo()
    info.add_text("Comment", "x" * 100_000_000, zip=True)
    encoded = io.BytesIO()
    Image.new("L", (8, 8)).save(encoded, "PNG", pnginfo=info)
    return encoded.getvalue()
