"""A canary's share of the boards."""

import pytest

from gateway.models.canary import Canary

BOARDS = [f"board-{number}" for number in range(10_000)]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_canary_gets_its_share_of_the_boards(share: float) -> None:
    taken = sum(Canary(2, share).takes(board) for board in BOARDS)
    assert taken == pytest.approx(share * len(BOARDS), abs=200)


def test_a_larger_share_keeps_the_boards_of_a_smaller_one() -> None:
    small, large = Canary(2, 0.1), Canary(3, 0.3)
    assert all(large.takes(board) for board in BOARDS if small.takes(board))


def test_without_a_version_there_is_no_canary() -> None:
    assert not any(Canary(None, 1.0).takes(board) for board in BOARDS[:10])
