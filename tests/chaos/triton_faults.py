"""Trials 4 and 5: Triton is killed under load, Triton is stuck."""

import time
from collections import Counter

from tests.chaos.grounds import HASTY_S, Grounds, wait_until
from tests.chaos.load import Load, p99
from tests.chaos.trial import Outcome, Scale

REFUSALS = {"429", "503", "504"}
HANG_S = 30.0  # in the short form, on a machine that may be busy with anything
STUCK_CLIENTS = 10


def judge_answers(load: Load, scale: Scale, outcome: Outcome) -> None:
    """Every client got an answer that is one of the gateway's own, and by its deadline."""
    statuses = load.statuses()
    outcome.note("answers", dict(statuses))
    outcome.same(
        "other_than_answered_or_refused", {s: n for s, n in statuses.items() if s not in {"200", *REFUSALS}}, {}
    )
    outcome.most("slowest_answer_s", load.slowest_s(), HANG_S if scale.short else HASTY_S + 0.5)


def killed(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Trial 4: SIGKILL to Triton under load, again and again."""
    triton, times, ready_s = grounds.triton, scale.number(20, 1), []
    gateway = grounds.hasty
    load = Load(gateway.url)
    with load.running(8):
        for _ in range(times):
            answered = load.statuses()["200"]
            wait_until(lambda enough=answered + 20: load.statuses()["200"] >= enough, "answers before the kill")
            triton.kill()
            wait_until(lambda: gateway.status("/readyz") == 503, "the gateway to notice")
            triton.start()
            ready_s.append(gateway.wait_ready())
    outcome.same("healthy", gateway.status("/healthz"), 200)
    outcome.note("kills", times)
    judge_answers(load, scale, outcome)
    outcome.quick("ready_after_triton_s", max(ready_s), 5)


def stuck(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Trial 5: a model that takes 30 s; requests end at the deadline and leave the queue, later ones are refused."""
    triton, gateway, delay_s = grounds.triton, grounds.hasty, 4.0 if scale.short else 30.0
    load, later = Load(gateway.url), Load(gateway.url)
    health_s: list[float] = []
    with grounds.delayed(delay_s):
        began = time.monotonic()
        with load.running(STUCK_CLIENTS):

            def is_open() -> bool:
                asked = time.perf_counter()
                assert gateway.status("/healthz") == 200
                health_s.append(time.perf_counter() - asked)
                return gateway.metric("pcbd_circuit_state") >= 1

            wait_until(is_open, "the breaker to open")
            outcome.quick("breaker_open_s", time.monotonic() - began, 10)
            later.by_clients(1, 1)
        outcome.same("later_answers_but_refusals", dict(later.statuses() - Counter({"429": 1, "503": 1})), {})
        outcome.same("later_answers_without_retry_after", sum(not answer.says_when for answer in later.answers), 0)
        outcome.quick("later_refused_s", later.slowest_s(), 0.1)
        late = load.seconds_of("504")
        outcome.least("late_answers", len(late), 1)
        outcome.quick("late_by_s", max(abs(each - HASTY_S) for each in late), 0.2)
        outcome.quick("healthz_p99_ms", p99(health_s) * 1e3, 50)
        # An instance drops what was cancelled when it is free to look. Work that nobody cancelled would be done first,
        # by two instances, in STUCK_CLIENTS / 2 times the delay.
        left_s = wait_until(lambda: triton.pending() == 0, "cancelled work to leave", STUCK_CLIENTS * delay_s)
        outcome.most("left_in_tritons_queue_s", left_s, 2 * delay_s)
    judge_answers(load, scale, outcome)
    if not scale.short:
        triton.kill()  # its instances would sleep on
        triton.start()
    outcome.note("ready_again_s", gateway.wait_ready())
