"""The circuit breaker by itself: what opens it, what closes it. test_failures.py has it before a real Triton."""

import asyncio
import time
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.errors import AwayError, DeadlineError, ModelError, ServiceError, UnavailableError
from gateway.models.circuit import Circuit
from gateway.request.deadline import Deadline

FAILURES = 3
AWAY = AwayError("Triton is away")


def circuit(registry: CollectorRegistry | None = None, clock: Callable[[], float] = time.monotonic) -> Circuit:
    state, opened = Gauge("state", "", registry=registry), Counter("opened", "", registry=registry)
    return Circuit(FAILURES, 2.5, state, opened, clock)


def request(circuit: Circuit, error: BaseException | None = None) -> None:
    with circuit.guard(Deadline.within(60)):
        if error is not None:
            raise error


def fail(circuit: Circuit, error: BaseException) -> None:
    with pytest.raises(type(error)):
        request(circuit, error)


def test_an_open_circuit_refuses_and_says_when_to_try_again() -> None:
    breaker = circuit()
    for _ in range(FAILURES):
        request(breaker)
        fail(breaker, AWAY)
    assert breaker.state == "closed"  # never in a row
    for _ in range(FAILURES - 1):
        fail(breaker, AWAY)
    assert breaker.state == "open"
    with pytest.raises(UnavailableError, match="away") as refused:
        request(breaker)
    assert refused.value.retry_after_s == 2.5


def test_one_look_after_another_must_fail_unless_a_request_has() -> None:
    breaker = circuit()
    breaker.look_failed(AWAY)
    breaker.look_succeeded()
    breaker.look_failed(AWAY)
    assert breaker.state == "closed"
    breaker.look_failed(AWAY)
    assert breaker.state == "open"
    doubted = circuit()
    fail(doubted, AWAY)
    assert doubted.doubted.is_set()
    doubted.look_failed(AWAY)
    assert doubted.state == "open"


def test_a_trial_closes_it_or_opens_it_again() -> None:
    breaker = circuit()
    for _ in range(2):
        breaker.look_failed(AWAY)
    breaker.trying()
    assert breaker.state == "half-open"
    with pytest.raises(UnavailableError):
        breaker.check()
    breaker.look_failed(AWAY)
    assert breaker.state == "open"
    breaker.trying()
    breaker.look_succeeded()
    request(breaker)
    assert (breaker.state, breaker.is_doubtful) == ("closed", False)


def test_each_opening_is_counted_and_a_trial_that_fails_is_none() -> None:
    registry = CollectorRegistry()
    breaker = circuit(registry)
    for _ in range(3):  # each over before the next scrape: the state that one sees is the same
        for _ in range(2):
            breaker.look_failed(AWAY)
        breaker.trying()
        breaker.look_failed(AWAY)
        breaker.trying()
        breaker.look_succeeded()
    assert (registry.get_sample_value("state"), registry.get_sample_value("opened_total")) == (0, 3)


@pytest.mark.parametrize("late", [DeadlineError("late"), asyncio.CancelledError()])
@pytest.mark.parametrize(
    ("waited_s", "answers_another", "opens"), [(2.0, False, True), (2.0, True, False), (0.2, False, False)]
)
def test_being_late_counts_where_triton_had_time_and_answered_nobody(
    late: BaseException, waited_s: float, answers_another: bool, opens: bool
) -> None:
    now = 0.0
    breaker = circuit(clock=lambda: now)

    def be_late() -> None:
        nonlocal now
        with breaker.guard(Deadline.within(-1)):
            now += waited_s
            if answers_another:
                request(breaker)
            raise late

    for _ in range(FAILURES):
        with pytest.raises(type(late)):
            be_late()
    assert breaker.state == ("open" if opens else "closed")
    assert breaker.is_doubtful == opens


@pytest.mark.parametrize("other", [ModelError("wrong"), ServiceError("other"), asyncio.CancelledError()])
def test_other_faults_and_clients_that_go_say_nothing_of_triton(other: BaseException) -> None:
    breaker = circuit()
    for _ in range(FAILURES):
        fail(breaker, other)
    assert not breaker.is_doubtful
