"""Trial 6: the network between gateway and Triton is cut in five ways, again and again, under load."""

import time

from tests.chaos.grounds import HASTY_S, Grounds, wait_until
from tests.chaos.load import Load
from tests.chaos.proxy import FAULTS, Proxy
from tests.chaos.trial import Outcome, Scale
from tests.chaos.triton_faults import judge_answers

CUT_S = 2.5  # longer than the deadline: nobody is saved by patience


def cut(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Nobody hangs while it is cut, and requests are answered within 5 s of its end."""
    times = scale.number(20, 1)
    faults = ("refuse", "forget") if scale.short else FAULTS
    recovered_s: dict[str, list[float]] = {fault: [] for fault in faults}
    with (
        Proxy(grounds.triton.url) as proxy,
        grounds.gateway(triton_url=proxy.url, deadline_s=str(HASTY_S)) as gateway,
    ):
        load = Load(gateway.url)
        with load.running(4):
            for fault in faults * times:
                answered = load.statuses()["200"]
                wait_until(lambda enough=answered + 10: load.statuses()["200"] >= enough, "answers before the cut")
                proxy.fail(fault)
                time.sleep(scale.seconds(CUT_S, 1.0) if fault != "reset" else 0)
                proxy.heal()
                answered = load.statuses()["200"]
                recovered_s[fault].append(
                    wait_until(lambda enough=answered + 10: load.statuses()["200"] >= enough, f"answers after {fault}")
                )
    outcome.note("cuts_of_each_kind", times)
    judge_answers(load, scale, outcome)
    for fault, seconds in recovered_s.items():
        outcome.quick(f"recovered_after_{fault}_s", max(seconds), 5)
