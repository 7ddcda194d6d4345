"""What is drawn into a picture, looked at pixel by pixel; whether it is pleasant to read only people can say."""

import numpy as np
import pytest
from PIL import Image

from gateway.overlay.drawing import MAX_LABELS, Mark, draw
from gateway.overlay.labels import place_labels

RED, BLUE = "#ff0000", "#0000ff"


def mark(box: tuple[float, float, float, float], words: str = "短路", **options: object) -> Mark:
    return Mark(**{"box_xyxy": box, "words": words, "score": 0.5, "box_colour": RED, "mask_colour": BLUE, **options})  # type: ignore[arg-type]


def drawn(*marks: Mark, size: tuple[int, int] = (300, 200)) -> np.ndarray:
    return np.asarray(draw(Image.new("RGB", size, "white"), marks)).astype(int)


def test_draw_leaves_a_picture_without_marks_as_it_is() -> None:
    gray = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(20, 15))
    np.testing.assert_array_equal(np.asarray(draw(gray, [])), np.asarray(gray.convert("RGB")))


def test_draw_frames_the_box_and_leaves_what_it_shows() -> None:
    pixels = drawn(mark((100, 80, 150, 120)))
    assert (pixels[100, 99] == (255, 0, 0)).all()
    assert (pixels[79, 125] == (255, 0, 0)).all()
    assert (pixels[81:119, 101:149] == 255).all()


def test_draw_covers_polygons_translucently_and_nothing_beside_them() -> None:
    triangle = [[(110.0, 90.0), (140.0, 90.0), (110.0, 115.0)]]
    pixels = drawn(mark((100, 80, 150, 120), polygons=triangle))
    assert 100 < pixels[95, 115, 0] < 200
    assert pixels[95, 115, 2] == 255
    assert (pixels[110, 145] == 255).all()


@pytest.mark.parametrize("box", [(-5, -5, 10, 10), (290, 190, 310, 210), (0, 0, 300, 200), (5.5, 5.5, 5.6, 5.6)])
def test_draw_takes_boxes_at_and_over_the_edge(box: tuple[float, float, float, float]) -> None:
    polygon = [[(box[0], box[1]), (box[2], box[1]), (box[2], box[3])]]
    assert drawn(mark(box, polygons=polygon)).shape == (200, 300, 3)


@pytest.mark.parametrize("words", ["断路", "針孔", "insufficient solder", "焊锡不足", "红胶溢出", "龘"])
def test_draw_has_a_glyph_for_each_character(words: str) -> None:
    """A character that the font lacks would be drawn as that of an unassigned one."""
    for character in words.replace(" ", ""):
        known, unknown = (drawn(mark((100, 80, 150, 120), text)) for text in (character, "\U000f0000"))
        assert not np.array_equal(known, unknown), character


def test_draw_shortens_a_sentence() -> None:
    """A label of 400 characters would be longer than the picture."""
    pixels = drawn(mark((10, 100, 30, 120), "找" * 400), size=(900, 200))
    reddish = (pixels[..., 0] > 200) & (pixels[..., 1] < 100)
    assert np.flatnonzero(reddish.any(axis=0)).max() < 300


def test_draw_answers_for_thousands_of_boxes() -> None:
    corners = np.random.default_rng(0).uniform(0, 180, (MAX_LABELS + 700, 2))
    assert drawn(*(mark((x, y, x + 9, y + 9), "s") for x, y in corners)).shape == (200, 300, 3)


def test_place_labels_finds_room_off_other_labels_and_boxes() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 580, (25, 2))
    boxes = np.concatenate([corner, corner + 30], axis=1).astype(np.float32)
    places = place_labels(boxes, [(60, 14)] * 25, (640, 640))
    labels = np.concatenate([places, places + np.array([60, 14])], axis=1)
    assert (labels >= 0).all()
    assert (labels <= 640).all()
    for index, label in enumerate(labels):
        others = np.concatenate([np.delete(labels, index, axis=0), boxes[[index]]])
        width, height = (np.minimum(label[2:], others[:, 2:]) - np.maximum(label[:2], others[:, :2])).T
        assert not ((width > 0) & (height > 0)).any(), index


def test_place_labels_keeps_a_label_that_is_wider_than_the_picture() -> None:
    assert place_labels(np.array([[5, 5, 9, 9]], np.float32), [(90, 14)], (50, 40)).tolist() == [[0, 11]]
