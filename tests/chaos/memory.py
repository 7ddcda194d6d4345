"""Trial 8: the kernel's OOM killer, in memory cgroups of the gateway's own and of Triton's own, with a limit each.

The gateway is sent a picture that its settings allow and its limit does not; Triton's model takes a workspace that is
larger than Triton's limit. Which process then dies is the kernel's choice, and what comes of it the service's own. The
trial starts it again within the same limit, at once, as a container's restart policy does.
"""

import io
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx
from PIL import Image

from tests.chaos.alerts import PROMETHEUS, Alerts, alerts
from tests.chaos.cgroup import GroupError, MemoryGroup
from tests.chaos.grounds import HASTY_S, PATIENCE_S, Gateway, Grounds, wait_until
from tests.chaos.images import ONE_TILE
from tests.chaos.load import Load, tile
from tests.chaos.stub import StubTriton
from tests.chaos.trial import Outcome, Scale
from tests.chaos.triton_faults import judge_answers

GATEWAY_MB = 350  # it has 150 to 220 at work, and the picture below takes some 280 more
TRITON_MB = 600
LARGE_SIDE = 6_300  # pixels; its square is nearly the default of PCBD_MAX_IMAGE_PIXELS
BACK_S = 10.0
CONNECTION_LOST = 0


def memory(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """What was killed answers again within 10 s, the other one has served on, and the alert fires while it is away."""
    times = scale.number(5, 1)
    outcome.note("kills_each", times)
    if scale.short:
        outcome.note("alerts", "not in the short form")
    elif PROMETHEUS is None:
        outcome.lacking("alerts", "prometheus is not on the PATH")
    try:
        with MemoryGroup(GATEWAY_MB * 2**20) as group:
            _gateway(grounds, group, times, outcome)
        with MemoryGroup(TRITON_MB * 2**20) as group:
            _triton(grounds, group, times, scale, outcome)
    except GroupError as error:
        outcome.lacking("not_here", str(error))


def _gateway(grounds: Grounds, group: MemoryGroup, times: int, outcome: Outcome) -> None:
    triton, codes, back_s = grounds.triton.server.pid, set(), []
    other = Load(grounds.shared.url)  # a gateway beside it, before the same Triton
    with (
        grounds.gateway(group.prefix) as gateway,
        _watched(grounds, gateway, grounds.triton) as watching,
        other.running(1),
    ):
        for number in range(times):
            wait_until(lambda: _ask(gateway, large()) == CONNECTION_LOST, "the kernel to kill the gateway")
            codes.add(gateway.process.wait(PATIENCE_S))
            ended, answered = time.monotonic(), other.statuses()["200"]
            wait_until(lambda enough=answered + 2: other.statuses()["200"] >= enough, "Triton to serve on")
            if watching and number == times - 1:
                _judge_alert(watching, "PcbdGatewayDown", outcome)
                ended = time.monotonic()
            gateway.start()
            wait_until(lambda: _ask(gateway, tile()) == 200, "the gateway to answer again")
            back_s.append(time.monotonic() - ended)
        if watching:
            wait_until(lambda: not watching.fires("PcbdGatewayDown"), "the alert on the gateway to be taken back")
    outcome.same("gateway_exit_codes", sorted(codes), [-signal.SIGKILL])
    outcome.same("gateway_killed_by_the_kernel", group.kills(), times)
    outcome.note("gateway_back_each_s", [round(each, 1) for each in back_s])
    outcome.quick("gateway_back_s", max(back_s), BACK_S)
    outcome.same("answers_of_the_gateway_beside_it", sorted(other.statuses()), ["200"])
    outcome.same("triton_survived", grounds.triton.server.pid, triton)


def _triton(grounds: Grounds, group: MemoryGroup, times: int, scale: Scale, outcome: Outcome) -> None:
    triton, away_s, back_s = StubTriton(grounds.folder / "small-triton", group.prefix), [], []
    triton.start()
    settings = {"triton_url": triton.url, "model_repository": str(triton.repository), "deadline_s": str(HASTY_S)}
    try:
        with (
            grounds.gateway(**settings) as gateway,
            _watched(grounds, gateway, triton) as watching,
        ):
            load = Load(gateway.url)
            with load.running(4):
                for number in range(times):
                    answered, kills = load.statuses()["200"], group.kills()
                    wait_until(lambda enough=answered + 20: load.statuses()["200"] >= enough, "answers before the kill")
                    triton.workspace(TRITON_MB)
                    wait_until(lambda before=kills: group.kills() > before, "the kernel to kill a process of Triton's")
                    killed = time.monotonic()
                    triton.workspace(0)
                    triton.wait()
                    away_s.append(time.monotonic() - killed)
                    wait_until(lambda: gateway.status("/readyz") == 503, "the gateway to notice")
                    if watching and number == times - 1:
                        _judge_alert(watching, "PcbdTritonDown", outcome)
                        killed = time.monotonic() - away_s[-1]
                    triton.start()
                    wait_until(lambda: _ask(gateway, tile()) == 200, "the gateway to answer again")
                    back_s.append(time.monotonic() - killed)
            if watching:
                wait_until(lambda: not watching.fires("PcbdTritonDown"), "the alert on Triton to be taken back")
            outcome.same("gateway_survived", gateway.process.poll(), None)
            outcome.same("healthy", gateway.status("/healthz"), 200)
    finally:
        triton.stop()
    outcome.least("killed_by_the_kernel_in_triton", group.kills(), times)
    outcome.note("triton_ended_after_the_kill_s", max(away_s))
    outcome.note("triton_back_each_s", [round(each, 1) for each in back_s])
    outcome.quick("triton_back_s", max(back_s), BACK_S)
    judge_answers(load, scale, outcome)
    outcome.least("refused_while_triton_was_away", load.statuses()["503"], 1)


@contextmanager
def _watched(grounds: Grounds, gateway: Gateway, triton: StubTriton) -> Iterator[Alerts | None]:
    """In the full form, and where Prometheus is installed."""
    if grounds.scale.short or PROMETHEUS is None:
        yield None
        return
    with alerts(gateway.folder / "prometheus", httpx.URL(gateway.url).netloc.decode(), triton.metrics) as watching:
        yield watching


def _judge_alert(watching: Alerts, name: str, outcome: Outcome) -> None:
    """While it is not started again: one that is back within the rule's minute pages nobody, as it should be."""
    seconds = wait_until(lambda: watching.fires(name), f"{name} to fire")
    outcome.note(f"{name}_fires_after_s_of_a_minute_that_lasts_one", seconds)


def _ask(gateway: Gateway, picture: bytes) -> int:
    """The status of an answer about that picture; CONNECTION_LOST where there was none."""
    try:
        return gateway.client.post("/detect", files={"image": picture}, data=ONE_TILE).status_code
    except httpx.TransportError:
        return CONNECTION_LOST


@cache
def large() -> bytes:
    """A PNG of few bytes and nearly as many pixels as the gateway takes."""
    encoded = io.BytesIO()
    Image.new("RGB", (LARGE_SIDE, LARGE_SIDE), (0, 90, 40)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
