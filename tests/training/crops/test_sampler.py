from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.contract.boxes import iou_matrix
from export.contract.defects import BARE_BOARD, Defect
from tests.training.boards import write_boards
from training.config import CameraConfig, CropConfig, PasteConfig
from training.crops.crop import Crop
from training.crops.paste import Paster
from training.crops.sampler import CropSampler, is_binarised
from training.data.dataset import Dataset, DatasetError, Sample
from training.data.deeppcb import read_deeppcb
from training.data.images import ImageStore, read_image

PLAIN = CropConfig(
    near_defect=1.0,
    scale_jitter=1.25,
    aspect_jitter=1.2,
    template_share=0,
    drawn_defects=0,
    threshold_jitter=0,
    level_jitter=0,
    min_visible=0.5,
    cache_mb=64,
)


def sampler(root: Path, config: CropConfig = PLAIN) -> CropSampler:
    return CropSampler(read_deeppcb(write_boards(root), "train"), config)


@pytest.mark.parametrize("mosaic", [False, True])
def test_boxes_stay_on_their_defects(mosaic: bool, tmp_path: Path) -> None:
    """Every drawn defect is a patch of other gray inside a track: the middle of its box must not be copper."""
    crops = sampler(tmp_path)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        crop = crops.draw(128, mosaic, rng)
        for x1, y1, x2, y2 in crop.boxes_xyxy:
            if x1 <= 0 or y1 <= 0 or x2 >= 128 or y2 >= 128 or (mosaic and (x1 < 64 < x2 or y1 < 64 < y2)):
                continue
            if mosaic and any(edge % 64 == 0 for edge in (x1, y1, x2, y2)):
                continue  # cut by a seam: its middle is elsewhere
            middle = crop.image[round((y1 + y2) / 2), round((x1 + x2) / 2), 0]
            assert middle > 80, (middle, x1, y1, x2, y2)
            seen += 1
    assert seen > 30


def test_magnification_makes_defects_larger(tmp_path: Path) -> None:
    boards = read_deeppcb(write_boards(tmp_path), "train")

    def mean_width(magnification: float) -> float:
        steady = {"magnification": magnification, "scale_jitter": 1, "aspect_jitter": 1}
        crops = CropSampler(boards, PLAIN.model_copy(update=steady))
        rng = np.random.default_rng(0)
        boxes = np.concatenate([crops.draw(256, False, rng).boxes_xyxy for _ in range(20)])
        whole = ((boxes > 0) & (boxes < 256)).all(axis=1)
        return float((boxes[whole, 2] - boxes[whole, 0]).mean())

    assert mean_width(2.0) == pytest.approx(2 * mean_width(1.0), rel=0.1)


def test_the_same_generator_gives_the_same_crop(tmp_path: Path) -> None:
    everything = {"template_share": 0.5, "drawn_defects": 3, "threshold_jitter": 1, "level_jitter": 1}
    crops = sampler(tmp_path, PLAIN.model_copy(update=everything))
    one, other = (crops.draw(64, True, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_boards(tmp_path)
    (tmp_path / "images" / "11111001.jpg").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"11111001\.jpg"):
        read_image(tmp_path / "images" / "11111001.jpg")


def test_templates_show_drawn_defects_only(tmp_path: Path) -> None:
    drawn = sampler(tmp_path / "drawn", PLAIN.model_copy(update={"template_share": 1, "drawn_defects": 3}))
    bare = sampler(tmp_path / "bare", PLAIN.model_copy(update={"template_share": 1}))
    rng = np.random.default_rng(0)
    assert sum(len(drawn.draw(128, False, rng).class_ids) for _ in range(20)) > 10
    assert sum(len(bare.draw(128, False, rng).class_ids) for _ in range(20)) == 0


def steepness(crop: Crop) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Between neighbours on either side of an edge: the steps of gray within boxes, and elsewhere."""
    gray = crop.image[..., 0].astype(np.int64)
    shown = np.zeros(gray.shape, bool)
    for x1, y1, x2, y2 in crop.boxes_xyxy.round().astype(int):
        shown[y1:y2, x1:x2] = True
    step = np.abs(np.diff(gray, axis=0))
    edge = (gray[1:] < 128) != (gray[:-1] < 128)
    within = shown[1:] & shown[:-1]
    return step[edge & within], step[edge & ~within]


def test_the_edges_of_drawn_defects_are_as_steep_as_those_of_sound_copper(tmp_path: Path) -> None:
    crops = sampler(tmp_path, PLAIN.model_copy(update={"template_share": 1, "drawn_defects": 3}))
    rng = np.random.default_rng(0)
    drawn, sound = zip(*(steepness(crops.draw(128, False, rng)) for _ in range(60)), strict=True)
    within, elsewhere = np.concatenate(drawn), np.concatenate(sound)
    assert len(within) > 500
    assert np.mean(within > 240) < np.mean(elsewhere > 240) + 0.1


def test_another_threshold_undoes_no_drawn_cut(tmp_path: Path) -> None:
    """Open tracks of a board of its own stay open, whatever the threshold made of the copper."""
    image = np.full((300, 300), 255, np.uint8)
    image[140:150] = 0
    Image.fromarray(image).save(tmp_path / "track.png")
    track = Sample(tmp_path / "track.png", (300, 300), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())
    steady = {"scale_jitter": 1, "aspect_jitter": 1, "template_share": 1, "drawn_defects": 2, "threshold_jitter": 1}
    crops = CropSampler(Dataset((BARE_BOARD[0],), (track,)), PLAIN.model_copy(update=steady))
    rng, cuts = np.random.default_rng(0), 0
    for _ in range(40):
        crop = crops.draw(256, False, rng)
        for x1, y1, x2, y2 in crop.boxes_xyxy.round().astype(int):
            copper = (crop.image[y1:y2, x1:x2, 0] < 128).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(copper, connectivity=4)
            assert (stats[1:, cv2.CC_STAT_AREA] >= 14).sum() >= 2
            cuts += 1
    assert cuts > 20


@pytest.mark.parametrize("scale", [1.0, 1.35, 2.0])
@pytest.mark.parametrize("x", [15, 150])
def test_the_defect_that_is_aimed_at_is_shown_however_large(scale: float, x: int, tmp_path: Path) -> None:
    sample = coloured(tmp_path).samples[0]
    aimed = replace(sample, boxes_xyxy=np.array([[x - 5, 95, x + 5, 105]], np.float32))
    magnified = {"magnification": scale, "scale_jitter": 1, "aspect_jitter": 1}
    crops = CropSampler(Dataset((BARE_BOARD[0],), (aimed,)), PLAIN.model_copy(update=magnified))
    rng = np.random.default_rng(0)
    assert all(len(crops.draw(64, False, rng).boxes_xyxy) == 1 for _ in range(30))


@pytest.mark.parametrize("box", [(20, 20, 580, 580), (20, 290, 580, 310)])
def test_a_defect_larger_than_a_crop_is_no_sound_board(box: tuple[int, int, int, int], tmp_path: Path) -> None:
    Image.new("RGB", (600, 600)).save(tmp_path / "large.png")
    boxes = np.array([box], np.float32)
    large = Sample(tmp_path / "large.png", (600, 600), boxes, np.zeros(1, np.int64), ((),), ((),))
    crops = CropSampler(Dataset((BARE_BOARD[0],), (large,)), PLAIN)
    rng = np.random.default_rng(0)
    assert all(len(crops.draw(64, False, rng).boxes_xyxy) == 1 for _ in range(30))


def test_a_crop_is_what_the_whole_picture_shows_there(tmp_path: Path) -> None:
    """The picture is smooth, so that a rounded place costs less than a level."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (200, 300)), (0, 0), 3)
    image = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
    assert not is_binarised(image)
    Image.fromarray(image).save(tmp_path / "smooth.png")
    box = np.array([[140, 90, 150, 98]], np.float32)
    sample = Sample(tmp_path / "smooth.png", (300, 200), box, np.zeros(1, np.int64), ((),), ((),))
    upright = PLAIN.model_copy(update={"flips": False, "turns": False})
    crops = CropSampler(Dataset((BARE_BOARD[0],), (sample,)), upright)
    rng, seen = np.random.default_rng(0), 0
    for _ in range(30):
        crop = crops.draw(128, False, rng)
        for shown in crop.boxes_xyxy.astype(np.float64):
            if shown.min() <= 0 or shown.max() >= 128:
                continue
            scale = (shown[2:] - shown[:2]) / (box[0, 2:] - box[0, :2])
            offset = shown[:2] - scale * box[0, :2] + scale / 2 - 0.5  # between the centres of pixels
            matrix = np.column_stack([np.diag(scale), offset])
            wanted = cv2.warpAffine(image, matrix, (128, 128), borderMode=cv2.BORDER_REPLICATE)
            np.testing.assert_allclose(crop.image[..., 0].astype(int), wanted, atol=2)
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("magnification", [1.0, 0.5])
def test_a_line_scan_is_cut_however_long(magnification: float, tmp_path: Path) -> None:
    image = Image.new("RGB", (70_000, 64), (30, 90, 40))
    image.paste((200, 30, 30), (69_900, 20, 69_940, 50))
    image.save(tmp_path / "long.png")
    boxes = np.array([[69_900, 20, 69_940, 50]], np.float32)
    sample = Sample(tmp_path / "long.png", image.size, boxes, np.zeros(1, np.int64), ((),), ((),))
    steady = {"magnification": magnification, "scale_jitter": 1, "aspect_jitter": 1}
    crops = CropSampler(Dataset((BARE_BOARD[0],), (sample,)), PLAIN.model_copy(update=steady))
    rng = np.random.default_rng(0)
    for _ in range(10):
        crop = crops.draw(128, False, rng)
        ((x1, y1, x2, y2),) = crop.boxes_xyxy
        assert crop.image[int(y1 + y2) // 2, int(x1 + x2) // 2].tolist() == [200, 30, 30]


def test_the_sound_twin_of_a_defect_is_shown(tmp_path: Path) -> None:
    """A board that is copper only where the picture has its defect: of the template that place is cut out."""
    flawless = np.full((600, 600), 255, np.uint8)
    flawless[500:520, 40:60] = 0
    Image.fromarray(flawless).save(tmp_path / "template.png")
    Image.fromarray(np.full((600, 600), 255, np.uint8)).save(tmp_path / "picture.png")
    box = np.array([[40, 500, 60, 520]], np.float32)
    board = Sample(
        tmp_path / "picture.png",
        (600, 600),
        box,
        np.zeros(1, np.int64),
        ((),),
        ((),),
        template=tmp_path / "template.png",
    )
    twins = PLAIN.model_copy(update={"template_share": 1})
    crops = CropSampler(Dataset((BARE_BOARD[0],), (board,)), twins)
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = crops.draw(64, False, rng)
        assert not len(crop.boxes_xyxy)
        assert (crop.image < 128).any()


def test_a_picture_that_becomes_smaller_is_averaged(tmp_path: Path) -> None:
    """Stripes of one pixel are gray from afar, not black or white."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = (200, 180, 220)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    far = Sample(
        tmp_path / "stripes.png", (400, 400), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), (), ("stripes",)
    )
    crops = CropSampler(Dataset((BARE_BOARD[0],), (far,)), PLAIN.model_copy(update={"near_defect": 0.0}))
    crop = crops.draw(128, False, np.random.default_rng(0))
    assert crop.image[..., 0].std() < 20


def test_templates_that_are_missing_are_named(tmp_path: Path) -> None:
    write_boards(tmp_path)
    for template in (tmp_path / "templates").iterdir():
        template.unlink()
    with pytest.raises(DatasetError, match="template_share"):
        CropSampler(read_deeppcb(tmp_path, "train"), PLAIN.model_copy(update={"template_share": 0.5}))


def coloured(root: Path, **labels: tuple[str, ...]) -> Dataset:
    """One colour picture, 300 x 200, with a red square of 40 pixels at 100, 60."""
    image = Image.new("RGB", (300, 200), (30, 90, 40))
    image.paste((200, 30, 30), (100, 60, 140, 100))
    image.save(root / "colour.png")
    boxes = np.array([[100, 60, 140, 100]], np.float32)[: 0 if "image_descriptions" in labels else 1]
    sample = Sample(
        path=root / "colour.png",
        resolution_wh=(300, 200),
        boxes_xyxy=boxes,
        class_ids=np.zeros(len(boxes), np.int64),
        polygons=((),) * len(boxes),
        descriptions=(("a red square",),) * len(boxes),
        **labels,
    )
    return Dataset((Defect("square", ("square",), ("方块",), (), ()),), (sample,))


def test_a_colour_picture_keeps_its_colours_and_its_sentences(tmp_path: Path) -> None:
    degraded = PLAIN.model_copy(update={"threshold_jitter": 1, "level_jitter": 1, "drawn_defects": 5})
    crops = CropSampler(coloured(tmp_path), degraded)
    rng = np.random.default_rng(0)
    for _ in range(10):
        crop = crops.draw(128, False, rng)
        assert crop.descriptions == (("a red square",),) * len(crop.class_ids)
        for x1, y1, x2, y2 in crop.boxes_xyxy:
            if min(x1, y1) > 0 and max(x2, y2) < 128:
                assert crop.image[round((y1 + y2) / 2), round((x1 + x2) / 2)].tolist() == [200, 30, 30]


def test_colour_pictures_have_magnifications_of_their_own(tmp_path: Path) -> None:
    steady = {"scale_jitter": 1, "aspect_jitter": 1, "colour_magnification": (0.5, 2.0)}
    config = PLAIN.model_copy(update=steady)

    def widths(dataset: Dataset) -> NDArray[np.float32]:
        crops, rng = CropSampler(dataset, config), np.random.default_rng(0)
        boxes = np.concatenate([crops.draw(256, False, rng).boxes_xyxy for _ in range(60)])
        whole = boxes[((boxes > 0) & (boxes < 256)).all(axis=1)]
        return np.asarray(whole[:, 2] - whole[:, 0])

    seen = widths(coloured(tmp_path))
    assert seen.min() == pytest.approx(20, abs=3)  # of 40 pixels
    assert seen.max() == pytest.approx(80, abs=8)
    assert np.ptp(widths(read_deeppcb(write_boards(tmp_path), "train"))) < 1  # gray: as the others


def direction(channel: NDArray[np.uint8]) -> str:
    """Where a ramp (H, W) rises."""
    down, right = (float(step.mean()) for step in np.gradient(channel.astype(float)))
    return ("right" if right > 0 else "left") if abs(right) > abs(down) else ("down" if down > 0 else "up")


def ramps(width: int, height: int) -> NDArray[np.uint8]:
    """Red rises to the right and green downwards."""
    columns, rows = np.meshgrid(np.linspace(60, 200, width), np.linspace(60, 200, height))
    return np.stack([columns, rows, np.full_like(rows, 90)], axis=2).astype(np.uint8)


MIRRORED = {("right", "down"), ("left", "down")}
TURNED = {("right", "down"), ("down", "left"), ("left", "up"), ("up", "right")}
EVERY_WAY = {(x, y) for x in ("left", "right") for y in ("up", "down")} | {
    (y, x) for x in ("left", "right") for y in ("up", "down")
}


@pytest.mark.parametrize(
    ("flips", "turns", "ways"),
    [
        (False, False, {("right", "down")}),
        (True, False, MIRRORED),
        (False, True, TURNED),
        (True, True, EVERY_WAY),
    ],
)
def test_crops_and_pasted_defects_are_mirrored_and_turned_where_that_is_switched_on(
    flips: bool, turns: bool, ways: set[tuple[str, str]], tmp_path: Path
) -> None:
    Image.fromarray(ramps(300, 200)).save(tmp_path / "ramps.png")
    corners = np.array([[100, 60], [140, 60], [140, 100], [100, 100]], np.float32)
    box = np.array([[100, 60, 140, 100]], np.float32)
    sample = Sample(tmp_path / "ramps.png", (300, 200), box, np.zeros(1, np.int64), ((corners,),), ((),))
    dataset = Dataset((BARE_BOARD[0],), (sample,))
    crops = CropSampler(dataset, PLAIN.model_copy(update={"flips": flips, "turns": turns}))
    rng, usual = np.random.default_rng(0), np.random.default_rng(0)
    shown = [crops.draw(128, False, rng).image for _ in range(60)]
    for _ in shown:
        CropSampler(dataset, PLAIN).draw(128, False, usual)
    assert rng.bit_generator.state == usual.bit_generator.state  # a switch leaves all other draws as they are
    assert {(direction(image[..., 0]), direction(image[..., 1])) for image in shown} == ways

    one = PasteConfig(categories=(BARE_BOARD[0].id,), mean=1)
    paste = Paster(dataset, one, ImageStore(0), flips=flips, turns=turns)
    plain = Crop(np.full((128, 128, 3), 90, np.uint8), box[:0], np.zeros(0, np.int64), (), ())
    pasted = set()
    for _ in range(120):
        crop = paste(plain, 1.0, rng)
        for x1, y1, x2, y2 in crop.boxes_xyxy.round().astype(int):
            patch = crop.image[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3]
            pasted.add((direction(patch[..., 0]), direction(patch[..., 1])))
    assert pasted == ways


def gray(root: Path) -> Dataset:
    """One picture of a mono camera, 300 x 200."""
    levels = np.random.default_rng(0).integers(70, 180, (200, 300)).astype(np.uint8)
    assert not is_binarised(levels)
    Image.fromarray(levels).save(root / "gray.png")
    box = np.array([[100, 60, 140, 100]], np.float32)
    sample = Sample(root / "gray.png", (300, 200), box, np.zeros(1, np.int64), ((),), ((),))
    return Dataset((BARE_BOARD[0],), (sample,))


@pytest.mark.parametrize("name", CameraConfig.model_fields)
def test_a_gray_picture_is_taken_by_another_camera_and_stays_gray(name: str, tmp_path: Path) -> None:
    share = {field: float(field == name) for field in CameraConfig.model_fields}
    camera = PLAIN.model_copy(update={"camera": CameraConfig(**share)})
    dataset = gray(tmp_path)
    for seed in range(5):
        plain, taken = (
            CropSampler(dataset, config).draw(128, False, np.random.default_rng(seed)) for config in (PLAIN, camera)
        )
        np.testing.assert_array_equal(taken.boxes_xyxy, plain.boxes_xyxy)
        np.testing.assert_array_equal(taken.image, np.repeat(taken.image[..., :1], 3, axis=2))
        assert (taken.image != plain.image).any() == (name != "colour")  # there is none to change


def test_a_binarised_picture_is_taken_by_no_camera(tmp_path: Path) -> None:
    always = CameraConfig(illumination=1, colour=1, blur=1, noise=1, compression=1)
    plain, camera = sampler(tmp_path), sampler(tmp_path / "again", PLAIN.model_copy(update={"camera": always}))
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(5):
        one, other = (crops.draw(128, False, rng) for crops, rng in zip((plain, camera), rngs, strict=True))
        np.testing.assert_array_equal(one.image, other.image)


def test_a_picture_with_a_sparse_label_is_shown_whole(tmp_path: Path) -> None:
    crops = CropSampler(coloured(tmp_path, image_descriptions=("a red square somewhere",)), PLAIN)
    crop = crops.draw(128, False, np.random.default_rng(0))
    assert crop.sparse == ("a red square somewhere",)
    assert crop.image[35, 51].tolist() == [200, 30, 30]  # 80 and 120 of 300 pixels in 128
    assert len(crop.boxes_xyxy) == 0


def test_a_store_keeps_no_more_than_it_may(tmp_path: Path) -> None:
    coloured(tmp_path)
    Image.new("L", (20, 10)).save(tmp_path / "gray.png")
    for room, kept in ((0, False), (10**6, True)):
        store = ImageStore(room)
        first = store.read(tmp_path / "colour.png")
        assert (store.read(tmp_path / "colour.png") is first) == kept
        np.testing.assert_array_equal(first, read_image(tmp_path / "colour.png"))
        assert store.read(tmp_path / "gray.png").shape == (10, 20)


def test_a_picture_is_read_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it by 90 degrees; the gateway does not
    Image.new("L", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (40, 60, 3)


def test_a_pasted_defect_brings_its_pixels_its_class_and_its_sentences(tmp_path: Path) -> None:
    """The second picture is plain; whatever is in its crops was pasted there."""
    source = coloured(tmp_path)
    square = np.array([[100, 60], [140, 60], [140, 100], [100, 100]], np.float32)
    donor = replace(source.samples[0], polygons=((square,),))
    Image.new("RGB", (300, 200), (30, 90, 40)).save(tmp_path / "plain.png")
    nothing = Sample(tmp_path / "plain.png", (300, 200), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())
    pasting = PLAIN.model_copy(update={"near_defect": 0.0, "paste": PasteConfig(categories=("square",), mean=2)})
    crops = CropSampler(Dataset(source.categories, (donor, nothing)), pasting)
    rng, seen = np.random.default_rng(0), 0
    for _ in range(30):
        crop = crops.draw(128, False, rng)
        assert len(crop.descriptions) == len(crop.class_ids) == len(crop.boxes_xyxy)
        outlined = zip(crop.boxes_xyxy, crop.descriptions, crop.outlines, strict=True)
        for (x1, y1, x2, y2), texts, outline in outlined:
            np.testing.assert_allclose([*outline.min(axis=0), *outline.max(axis=0)], [x1, y1, x2, y2], atol=1e-3)
            assert texts == ("a red square",)
            middle = crop.image[min(127, round((y1 + y2) / 2)), min(127, round((x1 + x2) / 2))]
            assert abs(middle.astype(int) - (200, 30, 30)).max() < 8
            seen += 1
        overlaps = iou_matrix(crop.boxes_xyxy, crop.boxes_xyxy) - np.eye(len(crop.boxes_xyxy))
        assert len(crop.boxes_xyxy) < 2 or overlaps.max() <= 1e-6
    assert seen > 30


def test_a_defect_pasted_on_a_gray_picture_is_gray(tmp_path: Path) -> None:
    """All crops are of the sound picture, which is gray; the defect was cut out of a colour picture."""
    source = coloured(tmp_path)
    square = np.array([[100, 60], [140, 60], [140, 100], [100, 100]], np.float32)
    donor = replace(source.samples[0], polygons=((square,),))
    Image.new("L", (300, 200), 150).save(tmp_path / "sound.png")
    sound = Sample(tmp_path / "sound.png", (300, 200), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (), ())
    pasting = {"template_share": 1, "paste": PasteConfig(categories=("square",), mean=2)}
    crops = CropSampler(Dataset(source.categories, (donor, sound)), PLAIN.model_copy(update=pasting))
    rng, seen = np.random.default_rng(0), 0
    for _ in range(20):
        crop = crops.draw(128, False, rng)
        np.testing.assert_array_equal(crop.image, np.repeat(crop.image[..., :1], 3, axis=2))
        for x1, y1, x2, y2 in crop.boxes_xyxy:
            assert abs(int(crop.image[round((y1 + y2) / 2), round((x1 + x2) / 2), 0]) - 81) < 4  # (200, 30, 30) in gray
            seen += 1
    assert seen > 20


def test_pasting_what_cannot_be_cut_out_is_refused(tmp_path: Path) -> None:
    dataset = coloured(tmp_path)  # its box has no polygon
    for categories, named in ((("square",), "polygon"), (("circle",), "circle")):
        with pytest.raises(DatasetError, match=named):
            CropSampler(dataset, PLAIN.model_copy(update={"paste": PasteConfig(categories=categories, mean=1)}))


@pytest.mark.parametrize("mosaic", [False, True])
def test_outlines_stay_on_their_defects(mosaic: bool, tmp_path: Path) -> None:
    """The square is red; its second, smaller piece is not told of. What an outline encloses is red, and all of it."""
    source = coloured(tmp_path)
    square = np.array([[100, 60], [140, 60], [140, 100], [100, 100]], np.float32)
    sample = replace(source.samples[0], polygons=((square[:3] / 9, square),))
    crops = CropSampler(Dataset(source.categories, (sample,)), PLAIN.model_copy(update={"min_visible": 0.01}))
    rng, seen = np.random.default_rng(0), 0
    for _ in range(20):
        crop = crops.draw(128, mosaic, rng)
        assert len(crop.outlines) == len(crop.boxes_xyxy)
        inside = np.zeros((128, 128), np.uint8)
        for outline, (x1, y1, x2, y2) in zip(crop.outlines, crop.boxes_xyxy, strict=True):
            np.testing.assert_allclose(outline.min(axis=0), [x1, y1], atol=1e-3)
            np.testing.assert_allclose(outline.max(axis=0), [x2, y2], atol=1e-3)
            cv2.fillPoly(inside, [np.floor(outline).astype(np.int32)], (1,))
            seen += 1
        shown = (crop.image[..., 0] > 115) & (inside == 0)
        assert shown.sum() <= 2  # a rounded corner
        assert (crop.image[inside == 1, 0] > 115).mean() > 0.9 or inside.sum() < 200  # fillPoly fills the border too
    assert seen > 15


def test_drawn_defects_are_outlined_by_the_pixels_that_changed(tmp_path: Path) -> None:
    crops = sampler(tmp_path, PLAIN.model_copy(update={"template_share": 1, "drawn_defects": 3}))
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(20):
        crop = crops.draw(128, False, rng)
        for outline, box in zip(crop.outlines, crop.boxes_xyxy, strict=True):
            np.testing.assert_array_less(box[:2], outline.min(axis=0))
            np.testing.assert_array_less(outline.max(axis=0), box[2:])
            seen += 1
    assert seen > 10


def test_boxes_without_polygons_have_empty_outlines(tmp_path: Path) -> None:
    crop = CropSampler(coloured(tmp_path), PLAIN).draw(128, False, np.random.default_rng(0))
    assert [len(outline) for outline in crop.outlines] == [0]
