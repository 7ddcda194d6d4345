"""The expected wait: from the tiles ahead and the rate of late, by a clock that the test turns."""

from contextlib import closing

import pytest
from fastapi.testclient import TestClient

from gateway.app import create_app
from gateway.models.queue import TileQueue
from gateway.settings import Settings
from gateway.up import free_port
from tests.conftest import BOARD


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def known(clock: Clock, seconds_per_tile: float) -> TileQueue:
    """A queue that has seen tiles at that rate."""
    queue = TileQueue(clock)
    with closing(queue.promise(10)) as promise:
        clock.now += 10 * seconds_per_tile
        promise.came_back(10)
    return queue


def test_a_new_and_an_idle_queue_expect_no_wait() -> None:
    queue = TileQueue(Clock())
    with closing(queue.promise(1000)):
        assert queue.expected_wait_s == 0  # nothing is known yet
    clock = Clock()
    queue = known(clock, 2.0)
    clock.now += 3600
    assert (queue.ahead, queue.expected_wait_s) == (0, 0)


def test_the_wait_is_the_tiles_ahead_at_the_rate_of_late() -> None:
    clock = Clock()
    queue = known(clock, 0.5)
    clock.now += 3600  # a pause is no work
    with closing(queue.promise(8)) as first, closing(queue.promise(24)):
        assert queue.expected_wait_s == pytest.approx(16)
        clock.now += 4
        first.came_back(8)
        assert queue.expected_wait_s == pytest.approx(12)
    for _ in range(100):
        with closing(queue.promise(10)) as promise:
            clock.now += 1
            promise.came_back(10)
    with closing(queue.promise(10)):
        assert queue.expected_wait_s == pytest.approx(1, rel=0.05)  # what was long ago is forgotten


def test_a_slower_machine_is_seen_soon() -> None:
    """Ten times slower from one moment to the next: after twelve boards of nine tiles most of it is known."""
    clock = Clock()
    queue = known(clock, 0.02)
    for seconds, boards in ((0.02, 100), (0.2, 12)):
        for _ in range(boards):
            with closing(queue.promise(9)) as promise:
                clock.now += 9 * seconds
                promise.came_back(9)
    with closing(queue.promise(10)):
        assert 1.2 < queue.expected_wait_s < 2


def test_a_queue_that_stands_still_is_not_expected_to_move_at_once() -> None:
    clock = Clock()
    queue = known(clock, 0.02)
    with closing(queue.promise(10)) as promise:
        clock.now += 0.1
        assert queue.expected_wait_s == pytest.approx(0.2)
        clock.now += 4.9
        assert queue.expected_wait_s == pytest.approx(5)
        promise.came_back(10)
    assert queue.expected_wait_s == 0


def test_batches_that_come_back_together_count_as_side_by_side() -> None:
    clock = Clock()
    queue = TileQueue(clock)
    with closing(queue.promise(16)) as promise:
        clock.now += 2
        promise.came_back(8)
        promise.came_back(8)
        with closing(queue.promise(16)):
            assert queue.expected_wait_s == pytest.approx(2, rel=0.05)


def test_what_is_given_up_is_not_waited_for() -> None:
    queue = known(Clock(), 1.0)
    with closing(queue.promise(50)) as promise:
        promise.came_back(8)
        assert queue.ahead == 42
    assert queue.ahead == 0


def test_a_request_that_would_be_too_late_is_refused_with_the_time_to_wait() -> None:
    settings = Settings(triton_url=f"127.0.0.1:{free_port()}", deadline_s=10)
    app = create_app(settings)
    files = {"image": BOARD.read_bytes()}
    with TestClient(app) as client:
        queue = app.state.service.queues["grounding"] = known(Clock(), 1.0)
        assert client.post("/detect", files=files).status_code == 503  # no Triton, but no wait either
        with closing(queue.promise(40)):
            refused = client.post("/detect", files=files)
            line = client.post("/detect/batch", files=files).json()
        assert client.post("/detect", files=files).status_code == 503
    assert (refused.status_code, "40 tiles" in refused.json()["detail"]) == (429, True)
    assert 30 <= int(refused.headers["Retry-After"]) <= 40
    assert line["problem"]["status"] == 429
