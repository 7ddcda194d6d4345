"""Trial 7: SIGTERM with at least fifty requests under way, to the gateway and to Triton."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.chaos.grounds import Gateway, Grounds, wait_until
from tests.chaos.load import Load
from tests.chaos.stub import STUB_S
from tests.chaos.trial import Outcome, Scale

UNDER_WAY = 60
AT_LEAST = 50
DRAIN_S = 1.0
SHORT_DRAIN_S = 5.0  # on a machine at other work one more request takes its time to come
GATHERING_S = 5.0  # a tile, until all of them have reached Triton
INSTANCES = 2  # which hold one each


@dataclass(frozen=True)
class TritonStop:
    """What became of the requests under way when Triton was asked to end, and of Triton."""

    answers: Counter[str]
    after_readiness: int  # answers that came after the gateway's had failed
    code: int
    seconds: float


def sigterm(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """What was accepted is answered, readiness fails while requests are still taken, the exit code is 0."""
    times = scale.number(20, 1)
    stops = [_stop_gateway(grounds) for _ in range(times)]
    outcome.note("stops_of_the_gateway", times)
    outcome.least("under_way_at_sigterm", min(under_way for under_way, _, _, _ in stops), AT_LEAST)
    outcome.same("gateway_lost", sum(lost for _, lost, _, _ in stops), 0)
    outcome.same("gateway_exit_codes", sorted({code for _, _, code, _ in stops}), [0])
    outcome.most("gateway_stopped_s", max(seconds for *_, seconds in stops), 30)
    if not scale.short:  # Triton takes its time to gather and to end
        _judge_triton(grounds, times, outcome)


def _judge_triton(grounds: Grounds, times: int, outcome: Outcome) -> None:
    with grounds.gateway(max_in_flight="64", deadline_s="30") as gateway:
        stops = [_stop_triton(grounds, gateway) for _ in range(times)]
    outcome.note("stops_of_triton", times)
    answers = sum((stop.answers for stop in stops), Counter[str]())
    outcome.same("triton_answers", dict(answers), {"200": UNDER_WAY * times})
    outcome.least("triton_answers_after_readiness_failed", min(stop.after_readiness for stop in stops), 1)
    outcome.same("triton_exit_codes", sorted({stop.code for stop in stops}), [0])
    outcome.most("triton_stopped_s", max(stop.seconds for stop in stops), 30)


def _stop_gateway(grounds: Grounds) -> tuple[int, int, int, float]:
    """Requests under way, those of them that got no answer, the exit code, and the seconds until then."""
    drain_s = SHORT_DRAIN_S if grounds.scale.short else DRAIN_S
    with (
        grounds.gateway(max_in_flight="64", deadline_s="30", drain_s=str(drain_s)) as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        load = Load(gateway.url)
        asking = pool.submit(load.by_clients, UNDER_WAY, UNDER_WAY)
        under_way = _wait_for(lambda: gateway.metric("pcbd_in_flight"), AT_LEAST)
        gateway.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        wait_until(lambda: gateway.status("/readyz") == 503, "readiness to fail")
        late = Load(gateway.url)  # as from a load balancer that has not noticed yet
        late.by_clients(1, 1)
        asking.result()
        code = gateway.process.wait(60)
        lost = UNDER_WAY + 1 - (load.statuses() + late.statuses())["200"]
        return under_way, lost, code, time.monotonic() - began


def _stop_triton(grounds: Grounds, gateway: Gateway) -> TritonStop:
    with ThreadPoolExecutor(1) as pool, grounds.delayed(GATHERING_S):
        load = Load(gateway.url)
        asking = pool.submit(load.by_clients, UNDER_WAY, UNDER_WAY)
        _wait_for(lambda: grounds.triton.pending() + INSTANCES, UNDER_WAY)
        grounds.triton.delay(STUB_S)
        began = time.monotonic()
        grounds.triton.ask_to_end()
        wait_until(lambda: gateway.status("/readyz") == 503, "readiness to fail")
        unready = time.perf_counter()
        code = grounds.triton.wait()
        seconds = time.monotonic() - began
        asking.result()
    grounds.triton.start()
    gateway.wait_ready()
    return TritonStop(load.statuses(), sum(answer.at > unready for answer in load.answers), code, seconds)


def _wait_for(count: Callable[[], float], least: int) -> int:
    found = 0.0

    def enough() -> bool:
        nonlocal found
        found = count()
        return found >= least

    wait_until(enough, f"{least} requests under way")
    return int(found)
