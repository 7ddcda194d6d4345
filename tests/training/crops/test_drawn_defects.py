import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.contract.defects import BARE_BOARD
from training.crops.drawn_defects import BOX_MARGIN, draw_defect

NOTHING = np.zeros((0, 4), np.float32)
NAMES = [defect.id for defect in BARE_BOARD]


def board() -> NDArray[np.uint8]:
    """Six horizontal tracks on bare board; copper is 0."""
    image = np.full((256, 256), 255, np.uint8)
    for row in range(20, 256, 40):
        image[row : row + 14] = 0
    return image


def parts(image: NDArray[np.uint8], *, copper: bool) -> int:
    """Connected areas of copper or of bare board, crumbs left out."""
    mask = ((image < 128) == copper).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return int((stats[1:, cv2.CC_STAT_AREA] >= 14).sum())


# What a class does to the number of copper parts and of bare parts of the whole board.
EFFECTS = {
    "open": (1, -1),
    "short": (-1, 1),
    "mousebite": (0, 0),
    "spur": (0, 0),
    "spurious_copper": (1, 0),
    "pin_hole": (0, 1),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_drawn_defect_does_to_the_copper_what_its_class_says(name: str) -> None:
    rng = np.random.default_rng(0)
    agreeing = drawn = 0
    for _ in range(80):
        image = board()
        box = draw_defect(image, NAMES.index(name), NOTHING, rng)
        if box is None:
            continue
        drawn += 1
        change = (
            parts(image, copper=True) - parts(board(), copper=True),
            (parts(image, copper=False) - parts(board(), copper=False)),
        )
        agreeing += change == EFFECTS[name]
    assert drawn > 20
    assert agreeing > 0.7 * drawn  # scratches leave crumbs that count as parts


@pytest.mark.parametrize("name", NAMES)
def test_the_box_holds_every_changed_pixel_and_its_margin(name: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        image = board()
        box = draw_defect(image, NAMES.index(name), NOTHING, rng)
        rows, columns = np.nonzero(image != board())
        assert (box is None) == (len(rows) == 0)
        if box is not None:
            x1, y1, x2, y2 = box
            assert 0 <= x1 <= columns.min() - BOX_MARGIN
            assert columns.max() + 1 + BOX_MARGIN <= x2 <= 256
            assert 0 <= y1 <= rows.min() - BOX_MARGIN
            assert rows.max() + 1 + BOX_MARGIN <= y2 <= 256


def test_a_place_that_is_taken_is_left_alone() -> None:
    image = board()
    everywhere = np.array([[0, 0, 256, 256]], np.float32)
    assert draw_defect(image, 0, everywhere, np.random.default_rng(0)) is None
    np.testing.assert_array_equal(image, board())


def test_a_board_without_copper_has_nothing_to_cut() -> None:
    image = np.full((128, 128), 255, np.uint8)
    assert draw_defect(image, NAMES.index("open"), NOTHING, np.random.default_rng(0)) is None
