"""Starts the service, asks about one picture in Chinese and in English, shows what came back, stops it.

python -m gateway.demo [--image tests/data/board.png] [--out build/demo.png]
"""

import argparse
import sys
from pathlib import Path

from gateway.client.asking import Outcome
from gateway.client.client import Client
from gateway.client.errors import ClientError
from gateway.client.table import console, table_of
from gateway.up import ServiceEndedError, service

LOG = Path("build/demo.log")  # of Triton and the gateway
PROMPTS = ("寻找相邻两条线路被铜连在一起的短路", "find a small bite out of the edge of a trace")
TIMEOUT_S = 60.0


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
        with (
            service(arguments.model_repository, 0, log=LOG) as url,
            Client(url, timeout_s=TIMEOUT_S) as client,
        ):
            answer = client.detect(arguments.image, PROMPTS, annotated=True)
    except (ServiceEndedError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if answer.annotated is not None:
        arguments.out.write_bytes(answer.annotated.data)
    size = answer.image
    print(f"\n{arguments.image}, {size.width} x {size.height}: verdict {answer.verdict}")  # noqa: T201
    console().print(table_of([Outcome(arguments.image, answer, None)]))
    print("  ".join(f"{stage} {value:.1f} ms" for stage, value in answer.timings_ms))  # noqa: T201
    print(f"annotated picture: {arguments.out}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
