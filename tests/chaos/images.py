"""Trial 11: damaged pictures, decoded in a process of their own, fuzzed, and sent over HTTP: pixels, or a refusal."""

import collections
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized

import httpx

from gateway.parent import stop_with_parent
from gateway.settings import Settings
from tests.chaos.decoding import decoded_to
from tests.chaos.fuzz import fuzz
from tests.chaos.grounds import Grounds
from tests.chaos.mutants import mutant, seeds
from tests.chaos.peak import forget_peak, peak_rss_bytes
from tests.chaos.trial import Outcome, Scale

EXPECTED = {"200", "413", "415", "422"}
SLOW_S = 2.0
HANG_S = 60.0  # at one picture
MOST_MB = 512
CLIENTS = 4
ONE_TILE = {"prompt": "短路", "regions": "[[0, 0, 0.5, 0.5]]"}  # the stub takes no batches; a tile may begin at 1


def images(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Each is over within 2 s, nothing crashes, memory stays within 512 MB, and no answer is a 5xx."""
    outcome.note("seeds", len(seeds()))
    _decode(scale.number(20_000, 600), outcome)
    fuzz(grounds.folder / "fuzz", scale, SLOW_S, MOST_MB, outcome)
    _send(grounds, scale.number(20_000, 120), outcome)


@dataclass
class Decoded:
    """What came of the mutants from 0 on; seconds and memory are NaN where the decoder did not live to tell them."""

    results: dict[str, int] = field(default_factory=dict)
    slowest_s: float = float("nan")
    slowest: int | None = None  # mutant
    peak_bytes: float = float("nan")
    died_at: int | None = None  # mutant
    hung_at: int | None = None  # mutant


def decode(work: Callable[[int, "Synchronized[int]", Connection], None], number: int, hang_s: float) -> Decoded:
    """Runs the decoder `work` in a process of its own, which is killed where it looks at one mutant for `hang_s`."""
    context = multiprocessing.get_context("spawn")
    at: Synchronized[int] = context.Value("i", -1)
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(number, at, theirs))
    worker.start()
    theirs.close()
    before, hung_at = -1, None
    while hung_at is None and not ours.poll(hang_s):
        if before >= 0 and at.value == before:  # before the first it may still be starting
            hung_at = before
            worker.kill()
        before = at.value
    try:
        decoded: Decoded = ours.recv()
    except EOFError:
        decoded = Decoded(hung_at=hung_at)
    worker.join()
    if worker.exitcode and hung_at is None:
        decoded.died_at = at.value
    return decoded


def _decode(number: int, outcome: Outcome) -> None:
    decoded = decode(decode_all, number, HANG_S)
    outcome.note("decoded", number)
    outcome.same("decoder_died_at_mutant", decoded.died_at, None)
    outcome.same("decoder_hung_at_mutant", decoded.hung_at, None)
    outcome.note("decoded_to", decoded.results)
    others = {name: times for name, times in decoded.results.items() if name.startswith("mutant ")}
    outcome.same("other_errors", others, {})
    outcome.note("slowest_mutant", decoded.slowest)
    outcome.quick("slowest_decode_s", decoded.slowest_s, SLOW_S)
    outcome.most("decoder_peak_rss_mb", decoded.peak_bytes / 1e6, MOST_MB)


def decode_all(number: int, at: "Synchronized[int]", told: Connection) -> None:
    """Decodes so many mutants; `at` is the one at work."""
    stop_with_parent()
    logging.disable()  # Pillow tells what it thinks of each
    settings, results, decoded = Settings(), collections.Counter[str](), Decoded(slowest_s=0.0)
    for at.value in range(number):
        data = mutant(at.value)
        began = time.perf_counter()
        try:
            result = decoded_to(data, settings)
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            result = f"mutant {at.value}: {error!r}"
        seconds = time.perf_counter() - began
        if seconds > decoded.slowest_s:
            decoded.slowest_s, decoded.slowest = seconds, at.value
        results[result] += 1
    decoded.results, decoded.peak_bytes = dict(results), peak_rss_bytes(os.getpid())
    told.send(decoded)


def _send(grounds: Grounds, number: int, outcome: Outcome) -> None:
    gateway = grounds.shared
    forget_peak(gateway.process.pid)
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
    outcome.most("gateway_peak_rss_mb", peak_rss_bytes(gateway.process.pid) / 1e6, MOST_MB)
    lines = gateway.log.read_bytes().splitlines()
    outcome.same("log_lines_that_are_no_record", sum(not line.startswith(b"{") for line in lines), 0)
    outcome.same("healthy", gateway.status("/healthz"), 200)
