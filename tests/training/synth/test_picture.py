from functools import cache

import numpy as np
import pytest

from export.contract.defects import BARE_BOARD
from training.synth import defects, picture
from training.synth.blemishes import HELD_OUT, LOOKS, Look, looks_of
from training.synth.defects import Finding, Inspection
from training.synth.picture import CATEGORIES, Picture, draw_picture

SIZE = 256  # pixels: the same 25 to 38 mm, quicker


@cache
def sound_board(index: int) -> Picture:
    return draw_picture(0, index, SIZE, wanted=[])


def looks(picture: Picture) -> list[Look]:
    return [Look(**region.attributes) for region in picture.regions if region.category == "blemish"]


def test_equal_seeds_give_equal_pixels_and_others_do_not() -> None:
    first, again, other = draw_picture(0, 3, SIZE), draw_picture(0, 3, SIZE), draw_picture(1, 3, SIZE)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.regions == again.regions
    assert (first.image != other.image).any()


def test_where_no_defects_are_wished_for_every_board_is_sound() -> None:
    for index in range(6):
        drawn = draw_picture(0, index, SIZE, mean_defects=0)
        assert drawn.regions == []
        np.testing.assert_array_equal(drawn.image, sound_board(index).image)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_appears_and_changes_what_its_box_shows(category: str) -> None:
    for index in range(8):
        spoilt = draw_picture(0, index, SIZE, wanted=[category])
        if spoilt.regions:
            break
    assert [region.category for region in spoilt.regions] == [category]
    sound = sound_board(index)
    assert sound.regions == []
    x, y, width, height = (round(value) for value in spoilt.regions[0].bbox)
    change = np.abs(spoilt.image.astype(int) - sound.image.astype(int)).max(axis=2)
    inside = change[y : y + height, x : x + width]
    margin = 24  # pixels: shadows, solder beside a part, and lens blur reach beyond a box
    outside = change.copy()
    outside[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin] = 0
    assert inside.max() > 25
    assert inside.mean() > 5 * outside.mean()


def test_changed_copper_does_not_hide_under_print(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = []

    def put_defect(name: str, inspection: Inspection, rng: np.random.Generator) -> Finding | None:
        before = inspection.board.silk.copy()
        finding = defects.put_defect(name, inspection, rng)
        if finding is not None:
            printed.append(int(before[finding.mask > 0].max()))
        np.testing.assert_array_equal(inspection.board.silk, before)
        return finding

    monkeypatch.setattr(picture, "put_defect", put_defect)
    for index in range(4):
        draw_picture(3, index, SIZE, wanted=[defect.id for defect in BARE_BOARD] * 3)
    assert len(printed) > 20
    assert max(printed) == 0


def test_a_box_encloses_its_polygons_and_lies_in_the_picture() -> None:
    regions = 0
    for index in range(4):
        for region in draw_picture(2, index, SIZE).regions:
            points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in region.polygons])
            x, y, width, height = region.bbox
            assert (x, y, x + width, y + height) == (*points.min(axis=0), *points.max(axis=0))
            assert x >= 0
            assert y >= 0
            assert x + width <= SIZE
            assert y + height <= SIZE
            assert 0 < region.area <= width * height
            regions += 1
    assert regions > 4


def test_every_picture_holds_what_only_looks_like_a_defect() -> None:
    for index in range(3):
        found = sound_board(index).hard_negatives
        assert {name for name, count in found.items() if count} >= {"dust", "fibre", "silk_line", "via_in_trace"}


def test_the_splits_share_no_look() -> None:
    train, held_out = set(looks_of("train")), set(looks_of("heldout"))
    assert held_out == set(HELD_OUT)
    assert train | held_out == set(LOOKS)
    assert not train & held_out
    for attribute in ("shape", "colour", "place", "component"):  # every word is learnt, only not together
        assert {getattr(look, attribute) for look in held_out} <= {getattr(look, attribute) for look in train}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_blemishes_show_only_the_looks_of_their_split(split: str) -> None:
    drawn = [
        look
        for index in range(2)
        for look in looks(draw_picture(5, index, SIZE, split, wanted=["blemish"] * 6))  # type: ignore[arg-type]
    ]
    assert len(drawn) > 3
    assert all((look in HELD_OUT) == (split == "heldout") for look in drawn)


def test_some_pictures_are_sound_and_none_is_overfull() -> None:
    counts = [len(draw_picture(7, index, 160).regions) for index in range(10)]
    assert 0 < counts.count(0) < 6
    assert max(counts) <= 8


def test_more_defects_come_where_more_are_wished_for() -> None:
    few, many = (
        sum(len(draw_picture(7, index, SIZE, mean_defects=mean).regions) for index in range(6)) for mean in (2, 12)
    )
    assert many > 2 * few


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_blemishes_have_the_share_that_is_wished_for(share: float) -> None:
    pictures = [draw_picture(7, index, SIZE, mean_defects=8, blemish_share=share) for index in range(4)]
    drawn = [region.category for picture in pictures for region in picture.regions]
    assert len(drawn) > 4
    assert {category == "blemish" for category in drawn} == {share == 1}
