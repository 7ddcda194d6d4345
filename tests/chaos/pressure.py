"""Trials 1 to 3: a steady load, too much of it, and much of it for long."""

from concurrent.futures import ThreadPoolExecutor

from tests.chaos.grounds import PATIENCE_S, Gateway, Grounds, wait_until
from tests.chaos.load import Load, p99
from tests.chaos.trial import Outcome, Scale

MEGABYTE = 1e6
OVERLOAD = 3  # times the capacity
RECOVERY_S = 5.0


def capacity_per_s(gateway: Gateway, scale: Scale) -> float:
    """Requests that are answered a second while eight clients ask without a pause."""
    load = Load(gateway.url)
    load.by_clients(8, max(60, scale.number(400, 60)))
    times = sorted(answer.at for answer in load.answers)
    return (len(times) - 1) / (times[-1] - times[0])


def steady_share(scale: Scale) -> float:
    """Of the capacity that was measured: what is asked for all the time, and must be answered."""
    return 0.3 if scale.short else 0.7  # a machine at other work may slow down to half meanwhile


def steady(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Trial 1: 70 % of capacity; no error, no queue, and Prometheus counts as the client does."""
    gateway, load = grounds.shared, Load(grounds.shared.url)
    capacity = capacity_per_s(gateway, scale)
    outcome.note("capacity_per_s", capacity)
    before = gateway.metric("pcbd_requests_total", route="/detect", status="200")
    load.at_rate(steady_share(scale) * capacity, scale.seconds(600, 3))
    outcome.note("requests", len(load.answers))
    outcome.note("load_s", scale.seconds(600, 3))
    outcome.same("answers", dict(load.statuses()), {"200": len(load.answers)})
    outcome.quick("p99_ms", p99(load.seconds_of("200")) * 1e3, 250)
    counted = gateway.metric("pcbd_requests_total", route="/detect", status="200") - before
    outcome.same("counted_by_prometheus", counted, float(len(load.answers)))


def overload(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Trial 2: three times the capacity; what fits is answered, the rest refused at once, and it is over when it is."""
    capacity, seconds = capacity_per_s(grounds.shared, scale), scale.seconds(60, 2)
    load, after = Load(grounds.shared.url), Load(grounds.shared.url)
    outcome.note("capacity_per_s", capacity)
    with ThreadPoolExecutor(1) as pool:
        overloading = pool.submit(load.at_rate, OVERLOAD * capacity, seconds)
        number = round(OVERLOAD * capacity * seconds)
        wait_until(lambda: load.asked == number, "the last request of too many", seconds + PATIENCE_S)
        with after.running(1):  # as soon as it is over, while its own requests are still at work
            wait_until(lambda: after.statuses()["200"] > 0, "an answer after the overload")
        overloading.result()
    statuses = load.statuses()
    outcome.note("answers", dict(statuses))
    times = sorted(answer.at for answer in load.answers if answer.status == "200")
    outcome.brisk("goodput_of_capacity", (len(times) - 1) / (times[-1] - times[0]) / capacity, 0.9)
    refused = [answer for answer in load.answers if answer.status in {"429", "503"}]
    outcome.least("refused", len(refused), 1)
    outcome.same("neither_answered_nor_refused", len(load.answers) - len(refused) - statuses["200"], 0)
    outcome.same("refused_without_retry_after", sum(not answer.says_when for answer in refused), 0)
    outcome.quick("refused_p99_ms", p99([answer.seconds for answer in refused]) * 1e3, 100)
    over = max(answer.due for answer in load.answers)
    outcome.quick("drained_s", max(answer.at for answer in load.answers) - over, RECOVERY_S)
    first = min(answer.at for answer in after.answers if answer.status == "200")
    outcome.quick("recovered_s", first - over, RECOVERY_S)


def growth(grounds: Grounds, scale: Scale, outcome: Outcome) -> None:
    """Trial 3: 20,000 requests, 20 at a time; memory, descriptors and shared memory stay what they were."""
    requests = scale.number(20_000, 200)
    with grounds.gateway(max_in_flight="32") as gateway, grounds.delayed(0):
        Load(gateway.url).by_clients(20, 40)
        wait_until(lambda: gateway.metric("pcbd_in_flight") == 0, "the first requests to end")
        descriptors, regions = gateway.descriptors, grounds.triton.shared_memory()
        first, second = Load(gateway.url), Load(gateway.url)
        first.by_clients(20, requests // 2)
        at_half = gateway.rss_bytes
        second.by_clients(20, requests // 2)
        outcome.note("requests", requests)
        outcome.same("answers", dict(first.statuses() + second.statuses()), {"200": requests})
        outcome.most("rss_growth_mb", (gateway.rss_bytes - at_half) / MEGABYTE, 100)
        slack = 8  # the database's pool and the clients' last connections
        wait_until(lambda: gateway.descriptors <= descriptors + slack, "connections to close")
        outcome.most("descriptors_growth", gateway.descriptors - descriptors, slack)
        outcome.most("shared_memory_regions_growth", grounds.triton.shared_memory() - regions, 0)
