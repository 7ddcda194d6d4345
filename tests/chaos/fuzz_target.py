"""What trial 11's fuzzer runs: atheris (libFuzzer) over the decoding of pictures, in a process of its own.

    python -m tests.chaos.fuzz_target FOLDER --runs 500000

FOLDER/corpus has the seeds. Coverage is that of the Python code of the gateway and of Pillow; the C libraries below
them are fuzzed blindly. What is no refusal of the gateway's own ends the run, as do a crash, a hang and too much
memory, and libFuzzer leaves the input in FOLDER/findings. FOLDER/tally.json is what became of the others.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway.pictures", "PIL"]):  # so nothing above may import them
    from gateway.settings import Settings
    from tests.chaos.decoding import decoded_to

LARGEST_BYTES = 2**16  # of an input: larger ones are slower, and no odder
HANG_S = 60
RSS_MB = 1024  # where it breaks off: twice what trial 11 allows, so that a miss is told together with all the rest
TOLD_EACH = 1000  # decodes, so that a run that is broken off has figures
SEED = 11


class Tally:
    """Decodes, by what they came to; the slowest one, in seconds of the processor."""

    def __init__(self, file: Path, runs: int) -> None:
        self._file = file
        self._runs = runs
        self._results: Counter[str] = Counter()
        self._slowest: tuple[float, bytes] = (0.0, b"")

    def add(self, result: str, seconds: float, data: bytes) -> None:
        """One more; the file is written before the last ends, since libFuzzer then ends without a word to Python."""
        self._results[result] += 1
        self._slowest = max(self._slowest, (seconds, data))
        decodes = self._results.total()
        if decodes % TOLD_EACH == 0 or decodes == self._runs:
            slowest_s, slowest = self._slowest
            told = {"decodes": decodes, "results": self._results, "slowest_s": slowest_s, "slowest": slowest.hex()}
            self._file.write_text(json.dumps(told))


def main() -> None:
    """Runs the command line; does not return."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, required=True)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    (folder / "findings").mkdir()
    logging.disable()  # Pillow tells what it thinks of each
    settings, tally = Settings(), Tally(folder / "tally.json", arguments.runs)

    def decode_one(data: bytes) -> None:
        began = time.process_time()  # nothing in it waits, and other processes' share of the machine is none of its
        result = decoded_to(data, settings)
        tally.add(result, time.process_time() - began, data)

    options = {
        "runs": arguments.runs,
        "seed": SEED,
        "max_len": LARGEST_BYTES,
        "keep_seed": 1,  # those too that differ in C alone
        "timeout": HANG_S,
        "rss_limit_mb": RSS_MB,
        "artifact_prefix": f"{folder}/findings/",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(folder / "corpus")], decode_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
