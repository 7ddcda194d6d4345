"""Trial 6: the network between gateway and Triton is cut in five ways, again and again, under load."""

import time
from collections import Counter

from tests.chaos.grounds import HASTY_S, Grounds, wait_until
from tests.chaos.load import Load
from tests.chaos.proxy import FAULTS, Proxy
from tests.chaos.trial import Outcome, Scale
from tests.chaos.triton_faults import judge_answers

CUT_S = 2.5  # longer than the deadline: nobody is saved by patience; at every scale
SHORT_CUT_S = 1.0  # of faults that do not end when the network is back


def cut(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Nobody hangs while it is cut, which somebody must feel, and requests are answered within 5 s of its end."""
    times = scale.number(20, 1)
    faults = ("refuse", "forget") if scale.short else FAULTS
    recovered_s: dict[str, list[float]] = {fault: [] for fault in faults}
    unfelt: Counter[str] = Counter()
    with (
        Proxy(grounds.triton.url) as proxy,
        grounds.gateway(triton_url=proxy.url, deadline_s=str(HASTY_S)) as gateway,
    ):
        load = Load(gateway.url)
        with load.running(4):
            for fault in faults * times:
                answered = load.statuses()["200"]
                wait_until(lambda enough=answered + 10: load.statuses()["200"] >= enough, "answers before the cut")
                first, connections = len(load.answers), proxy.connections
                proxy.fail(fault)
                time.sleep(0 if fault == "reset" else SHORT_CUT_S if scale.short else CUT_S)
                proxy.heal()
                answered = load.statuses()["200"]
                recovered_s[fault].append(
                    wait_until(lambda enough=answered + 10: load.statuses()["200"] >= enough, f"answers after {fault}")
                )
                failed = any(answer.status != "200" for answer in load.answers[first:])
                unfelt[fault] += not (failed or (fault == "reset" and proxy.connections > connections))
    outcome.note("cuts_of_each_kind", times)
    outcome.same("cuts_that_nobody_felt", dict(+unfelt), {})
    judge_answers(load, scale, outcome)
    for fault, seconds in recovered_s.items():
        outcome.quick(f"recovered_after_{fault}_s", max(seconds), 5)
