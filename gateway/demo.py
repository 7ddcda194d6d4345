"""Starts the service, asks about one picture in Chinese and in English, shows what came back, stops it.

python -m gateway.demo [--image tests/data/board.png] [--out build/demo.png]
"""

import argparse
import json
import sys
import unicodedata
import urllib.error
import urllib.request
import uuid
from base64 import b64decode
from pathlib import Path
from typing import Any

from gateway.up import ServiceEndedError, free_port, service

LOG = Path("build/demo.log")  # of Triton and the gateway
PROMPTS = ("寻找相邻两条线路被铜连在一起的短路", "find a small bite out of the edge of a trace")


def ask(url: str, image: Path, prompts: tuple[str, ...]) -> dict[str, Any]:
    """Sends a picture and prompts as a form to POST /detect and returns its answer, the annotated picture within."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("annotated", "true"), *(("prompt", prompt) for prompt in prompts))
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
    body = b"".join(parts) + head.encode() + image.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/detect", body, headers), timeout=60) as reply:  # noqa: S310
        answer: dict[str, Any] = json.load(reply)
    return answer


def table(answer: dict[str, Any]) -> str:
    """The detections as aligned lines, Chinese characters counted as two columns."""
    rows = [("score", "defect", "x1", "y1", "x2", "y2", "prompt")]
    for found in answer["detections"]:
        corners = (f"{found['box'][name]:.0f}" for name in ("x1", "y1", "x2", "y2"))
        rows.append((f"{found['score']:.3f}", found["defect"] or "-", *corners, found["prompt"]))
    widths = [max(_columns(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def main() -> int:
    """Runs the command line; 1 when the service does not come up or refuses the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=Path("tests/data/board.png"))
    parser.add_argument("--out", type=Path, default=Path("build/demo.png"))
    parser.add_argument("--model-repository", type=Path, default=Path("model_repository"))
    arguments = parser.parse_args()
    if not arguments.image.is_file():
        print(f"error: {arguments.image} does not exist", file=sys.stderr)  # noqa: T201
        return 1
    try:
        with service(arguments.model_repository, free_port(), log=LOG) as url:
            answer = ask(url, arguments.image, PROMPTS)
    except ServiceEndedError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except urllib.error.HTTPError as error:
        print(f"error: {error.code}: {error.read().decode()}", file=sys.stderr)  # noqa: T201
        return 1
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(b64decode(answer["annotated"]["data"]))
    size = answer["image"]
    print(f"\n{arguments.image}, {size['width']} x {size['height']}: verdict {answer['verdict']}\n")  # noqa: T201
    print(table(answer))  # noqa: T201
    print("\n" + "  ".join(f"{stage} {value:.1f} ms" for stage, value in answer["timings_ms"].items()))  # noqa: T201
    print(f"annotated picture: {arguments.out}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
