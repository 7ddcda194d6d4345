"""Trial 11's fuzzer: the seeds of mutants.py, changed by what atheris learns of the code that they reach."""

import json
import re
import subprocess
import sys
from pathlib import Path

from gateway.parent import stop_with_parent
from tests.chaos.mutants import seeds
from tests.chaos.trial import Outcome, Scale
from tests.conftest import ROOT

RUNS, SHORT_RUNS = 500_000, 600
PEAK = re.compile(r"stat::peak_rss_mb:\s+(\d+)")  # as libFuzzer says it at its end


def fuzz(folder: Path, scale: Scale, slow_s: float, most_mb: float, outcome: Outcome) -> None:
    """Nothing crashes or raises what is no refusal; a decode takes `slow_s` at most, the RSS `most_mb`."""
    runs = scale.number(RUNS, SHORT_RUNS)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    with (folder / "log").open("wb") as log:
        code = subprocess.run(
            [sys.executable, "-m", "tests.chaos.fuzz_target", str(folder), "--runs", str(runs)],
            cwd=ROOT,
            stderr=log,
            check=False,
            preexec_fn=stop_with_parent,
        ).returncode
    said = (folder / "log").read_text(errors="replace")
    tally = json.loads((folder / "tally.json").read_text()) if (folder / "tally.json").exists() else {}
    outcome.same("fuzzed", tally.get("decodes", 0), runs)
    outcome.note("fuzzed_to", tally.get("results"))
    outcome.same("fuzzer_findings", {path.name: path.read_bytes().hex() for path in folder.glob("findings/*")}, {})
    outcome.same("fuzzer_ended_with", f"{code} {said[-2000:]}" if code else "0", "0")
    outcome.quick("slowest_fuzzed_decode_processor_s", tally.get("slowest_s", float("nan")), slow_s)
    outcome.note("slowest_fuzzed", tally.get("slowest"))
    outcome.most("fuzzer_peak_rss_mb", max(map(float, PEAK.findall(said)), default=float("nan")), most_mb)
