"""Trial 11: damaged pictures, decoded in a process of their own, fuzzed, and sent over HTTP: pixels, or a refusal."""

import collections
import logging
import multiprocessing
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized

import httpx

from gateway.settings import Settings
from tests.chaos.decoding import decoded_to
from tests.chaos.fuzz import fuzz
from tests.chaos.grounds import Grounds
from tests.chaos.mutants import mutant, seeds
from tests.chaos.trial import Outcome, Scale

EXPECTED = {"200", "413", "415", "422"}
SLOW_S = 2.0
MOST_MB = 512
CLIENTS = 4
ONE_TILE = {"prompt": "短路", "regions": "[[0, 0, 0.5, 0.5]]"}  # the stub takes no batches; a tile may begin at 1


def images(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Each is over within 2 s, nothing crashes, memory stays within 512 MB, and no answer is a 5xx."""
    outcome.note("seeds", len(seeds()))
    _decode(scale.number(20_000, 600), outcome)
    fuzz(grounds.folder / "fuzz", scale, SLOW_S, MOST_MB, outcome)
    _send(grounds, scale.number(5_000, 120), outcome)


def _decode(number: int, outcome: Outcome) -> None:
    context = multiprocessing.get_context("spawn")
    at: Synchronized[int] = context.Value("i", -1)
    ours, theirs = context.Pipe()
    worker = context.Process(target=_decode_all, args=(number, at, theirs))
    worker.start()
    theirs.close()
    try:
        results, slowest_s, slowest, peak_mb = ours.recv()
    except EOFError:  # it died: `at` is the mutant that did it
        results, slowest_s, slowest, peak_mb = {}, float("nan"), -1, float("nan")
    worker.join()
    outcome.note("decoded", number)
    outcome.same("decoder_died_at_mutant", at.value if worker.exitcode else None, None)
    outcome.note("decoded_to", results)
    outcome.same("other_errors", {name: n for name, n in results.items() if name.startswith("mutant ")}, {})
    outcome.note("slowest_mutant", slowest)
    outcome.quick("slowest_decode_s", slowest_s, SLOW_S)
    outcome.most("decoder_peak_rss_mb", peak_mb, MOST_MB)


def _decode_all(number: int, at: "Synchronized[int]", told: Connection) -> None:
    logging.disable()  # Pillow tells what it thinks of each
    settings, results = Settings(), collections.Counter()
    slowest_s, slowest = 0.0, -1
    for at.value in range(number):
        data = mutant(at.value)
        began = time.perf_counter()
        try:
            result = decoded_to(data, settings)
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            result = f"mutant {at.value}: {error!r}"
        seconds = time.perf_counter() - began
        if seconds > slowest_s:
            slowest_s, slowest = seconds, at.value
        results[result] += 1
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    told.send((dict(results), slowest_s, slowest, peak_mb))


def _send(grounds: Grounds, number: int, outcome: Outcome) -> None:
    gateway = grounds.shared
    with (
        grounds.delayed(0),
        httpx.Client(base_url=gateway.url, timeout=60) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):

        def ask(which: int) -> tuple[str, float]:
            began = time.perf_counter()
            answer = client.post("/detect", files={"image": mutant(which)}, data=ONE_TILE)
            return str(answer.status_code), time.perf_counter() - began

        answers = list(pool.map(ask, range(number)))
    outcome.note("sent", number)
    outcome.note("answers", dict(collections.Counter(status for status, _ in answers)))
    outcome.same("other_answers", {n: s for n, (s, _) in enumerate(answers) if s not in EXPECTED}, {})
    outcome.quick("slowest_answer_s", max(seconds for _, seconds in answers), SLOW_S)
    outcome.most("gateway_rss_mb", gateway.rss_bytes / 1e6, MOST_MB)
    lines = gateway.log.read_bytes().splitlines()
    outcome.same("log_lines_that_are_no_record", sum(not line.startswith(b"{") for line in lines), 0)
    outcome.same("healthy", gateway.status("/healthz"), 200)
