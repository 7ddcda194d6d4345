import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.contract.defects import BARE_BOARD, Defect
from tests.conftest import ROOT
from tests.training.boards import write_boards
from training.config import Config, ConfigError, CropConfig, read_config
from training.crops.sampler import CropSampler
from training.data.coco import write_coco
from training.data.dataset import Dataset, DatasetError, Sample, category
from training.data.images import read_image
from training.learning.batches import Batch, Draws
from training.learning.replay import GOOD_BOARD, SPARSE_LABEL, ReplayBuffer
from training.learning.start import start_network
from training.network.checkpoint import load_checkpoint, save_checkpoint
from training.train import Run

COMMON, RARE, OTHER = CATEGORIES = tuple(category(name) for name in ("common", "rare", "other"))
NO_TEXT = Defect("corrosion", ("corrosion",), ("腐蚀",), ("green crust on copper",), ())


def sample(path: Path, *class_ids: int, sparse: tuple[str, ...] = ()) -> Sample:
    """A sample with one box per class; a buffer reads a picture's bytes and not its pixels."""
    if not path.exists():
        path.write_text(f"picture {path.name}")
    boxes = np.array([[10 * row, 0, 10 * row + 8, 8] for row in range(len(class_ids))], np.float32).reshape(-1, 4)
    empty = ((),) * len(class_ids)
    return Sample(path, (100, 100), boxes, np.array(class_ids, np.int64), empty, empty, sparse)


def pictures(root: Path, name: str, count: int, *class_ids: int, sparse: tuple[str, ...] = ()) -> Dataset:
    samples = (sample(root / f"{name}{index}.png", *class_ids, sparse=sparse) for index in range(count))
    return Dataset(CATEGORIES, tuple(samples))


def filled(capacity: int, seed: int, datasets: Iterable[Dataset]) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity, seed)
    for dataset in datasets:
        buffer.update(dataset)
    return buffer


def kept(buffer: ReplayBuffer) -> set[str]:
    return {sample.path.stem for sample in buffer.as_dataset().samples}


@pytest.mark.parametrize("stretches", [1, 3])
def test_a_buffer_keeps_every_sample_of_a_class_equally_often(stretches: int, tmp_path: Path) -> None:
    """Offered at once, or in stretches with another class between them: chi-square over 200 seeds."""
    common = pictures(tmp_path, "common", 36, 0).samples
    rare = pictures(tmp_path, "rare", 18, 1)
    length = len(common) // stretches
    stream = [Dataset(CATEGORIES, common[:length]), rare]
    stream += [Dataset(CATEGORIES, common[start : start + length]) for start in range(length, len(common), length)]
    times: Counter[str] = Counter()
    seeds = 200
    for seed in range(seeds):
        times.update(kept(filled(16, seed, stream)))
    for name, offered in (("common", 36), ("rare", 18)):
        observed = np.array([times[f"{name}{index}"] for index in range(offered)])
        expected = seeds * 8 / offered
        assert observed.sum() == pytest.approx(seeds * 8, rel=0.01)
        chi_square = ((observed - expected) ** 2).sum() / (expected * (1 - 8 / offered))
        freedom = offered - 1
        assert chi_square < freedom + 4 * np.sqrt(2 * freedom), (name, observed)


@pytest.mark.parametrize(("rare", "expected"), [(10, {"common": 10, "rare": 10}), (5, {"common": 15, "rare": 5})])
def test_a_buffer_is_balanced_whatever_the_stream(rare: int, expected: dict[str, int], tmp_path: Path) -> None:
    stream = [pictures(tmp_path, "common", 100 * rare, 0), pictures(tmp_path, "rare", rare, 1)]
    for order in (stream, stream[::-1]):
        assert filled(20, 0, order).counts() == expected


def test_a_class_that_comes_late_gets_its_share(tmp_path: Path) -> None:
    stream = [pictures(tmp_path, name, 40, class_id) for class_id, name in enumerate(("a", "b", "c"))]
    assert filled(12, 0, stream).counts() == {"common": 4, "rare": 4, "other": 4}


def test_a_sample_of_a_common_and_a_rare_class_counts_as_rare(tmp_path: Path) -> None:
    stream = [pictures(tmp_path, "both", 10, 0, 1), pictures(tmp_path, "common", 200, 0)]
    for order in (stream, stream[::-1]):
        assert filled(20, 0, order).counts() == {"common": 20, "rare": 10}


def test_good_boards_and_sparse_labels_are_classes_of_their_own(tmp_path: Path) -> None:
    stream = [
        pictures(tmp_path, "common", 90, 0),
        pictures(tmp_path, "good", 5),
        pictures(tmp_path, "sparse", 5, sparse=("a stain somewhere",)),
    ]
    assert filled(15, 0, stream).counts() == {"common": 5, GOOD_BOARD: 5, SPARSE_LABEL: 5}


def test_a_buffer_never_holds_more_than_its_capacity(tmp_path: Path) -> None:
    buffer = ReplayBuffer(7, 0)
    for class_ids in ((0,), (1,), (0, 1), (2,), ()):
        buffer.update(pictures(tmp_path, f"{class_ids}", 12, *class_ids))
        assert len(buffer) == len(buffer.as_dataset().samples) == 7


def test_the_seed_decides_what_is_kept(tmp_path: Path) -> None:
    stream = [pictures(tmp_path, "common", 40, 0), pictures(tmp_path, "rare", 20, 1)]
    assert kept(filled(10, 3, stream)) == kept(filled(10, 3, stream))
    assert kept(filled(10, 3, stream)) != kept(filled(10, 4, stream))


def test_a_picture_offered_again_stays_one_with_its_newest_labels(tmp_path: Path) -> None:
    before = pictures(tmp_path, "board", 5, 0)
    corrected = Dataset((OTHER,), (replace(before.samples[2], class_ids=np.zeros(1, np.int64)),))
    buffer = filled(10, 0, [before, before, corrected])
    assert buffer.counts() == {"common": 4, "other": 1}
    dataset = buffer.as_dataset()
    (other,) = [index for index, each in enumerate(dataset.categories) if each.id == "other"]
    assert {each.path.stem: each.class_ids.tolist() for each in dataset.samples}["board2"] == [other]


def coloured(path: Path, colour: Sequence[int], *class_ids: int) -> Sample:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 100), tuple(colour)).save(path)
    return sample(path, *class_ids)


def test_a_saved_buffer_needs_nothing_else_and_goes_on_as_if_never_saved(tmp_path: Path) -> None:
    full = replace(
        coloured(tmp_path / "one" / "board.png", (200, 30, 30), 0),
        polygons=((np.array([[0, 0], [8, 0], [8, 8]], np.float32),),),
        descriptions=(("a red corner", "红色的角"),),
        image_descriptions=("somewhere red",),
        group="lot-4",
        template=coloured(tmp_path / "templates" / "board.png", (1, 2, 3)).path,
    )
    same_name = coloured(tmp_path / "two" / "board.png", (30, 30, 200), 1)
    stream = [Dataset(CATEGORIES, (full, same_name)), pictures(tmp_path, "more", 0)]
    buffer = filled(4, 5, stream)
    folder = tmp_path / "checkpoint" / "replay"
    folder.parent.mkdir()
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "left_over.png").write_text("of an earlier save")
    size_bytes = buffer.save(folder)
    assert len(list((folder / "images").iterdir())) == 3
    assert size_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    moved = folder.rename(tmp_path / "elsewhere")
    for path in (full.path, full.template, same_name.path):
        assert path is not None
        path.unlink()

    loaded = ReplayBuffer.load(moved, 4).as_dataset()
    assert [each.id for each in loaded.categories] == ["common", "rare", "other"]
    first, second = loaded.samples
    assert all(each.path.is_relative_to(moved) for each in loaded.samples)
    assert read_image(first.path)[50, 50].tolist() == [200, 30, 30]
    assert first.template is not None
    assert read_image(first.template)[50, 50].tolist() == [1, 2, 3]
    assert read_image(second.path)[50, 50].tolist() == [30, 30, 200]
    np.testing.assert_array_equal(first.polygons[0][0], full.polygons[0][0])
    np.testing.assert_array_equal(first.boxes_xyxy, full.boxes_xyxy)
    assert (first.descriptions, first.image_descriptions, first.group) == (
        full.descriptions,
        full.image_descriptions,
        "lot-4",
    )


def test_a_loaded_buffer_keeps_what_the_unsaved_one_would(tmp_path: Path) -> None:
    def board(number: int, class_id: int) -> Sample:
        return coloured(tmp_path / "boards" / f"{number}.png", (number, 0, 0), class_id)

    early = Dataset(CATEGORIES, tuple(board(number, number % 2) for number in range(30)))
    late = Dataset(CATEGORIES, tuple(board(number, number % 3) for number in range(30, 90)))
    for seed in range(5):
        buffer = filled(8, seed, [early])
        buffer.save(tmp_path / "replay")
        loaded = ReplayBuffer.load(tmp_path / "replay", 8)
        buffer.update(late)
        loaded.update(late)
        digests = [{read_image(each.path)[0, 0, 0] for each in b.as_dataset().samples} for b in (buffer, loaded)]
        assert digests[0] == digests[1]
        assert len(ReplayBuffer.load(tmp_path / "replay", 3)) == 3


def test_a_folder_that_is_no_buffer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing.*replay\.json.*data\.replay"):
        ReplayBuffer.load(tmp_path / "nothing", 10)
    filled(4, 0, []).save(tmp_path / "replay")
    file = tmp_path / "replay" / "replay.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"info": {}}))
    with pytest.raises(DatasetError, match=r"replay\.json: info\.seed"):
        ReplayBuffer.load(tmp_path / "replay", 10)


PLAIN = CropConfig(
    near_defect=0.5,
    scale_jitter=1,
    aspect_jitter=1,
    template_share=0,
    drawn_defects=0,
    threshold_jitter=0,
    level_jitter=0,
    cache_mb=1,
    min_visible=0.5,
)


@pytest.mark.parametrize("mosaic", [False, True])
def test_the_ratio_is_the_share_of_crops_that_are_replayed(mosaic: bool, tmp_path: Path) -> None:
    new = Dataset(CATEGORIES, (coloured(tmp_path / "new.png", (200, 30, 30), 0),))
    old = (coloured(tmp_path / "old.png", (30, 30, 200), 1),)
    for ratio in (0.0, 0.3, 1.0):
        crops = CropSampler(new, PLAIN, old, ratio)
        rng = np.random.default_rng(0)
        drawn = [crops.draw(16, mosaic, rng) for _ in range(300)]
        blue = np.mean([crop.image[..., 2] == 200 for crop in drawn])
        assert blue == pytest.approx(ratio, abs=0.08)
        for crop in drawn:
            assert set(crop.class_ids) <= {0 if row[0] == 200 else 1 for row in crop.image.reshape(-1, 3)}


def test_a_ratio_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="ratio"):
        CropSampler(pictures(tmp_path, "new", 1, 0), PLAIN, (), 0.3)


def run_config(out: Path, *settings: str) -> Config:
    """A run of two steps of a small network."""
    overrides = [
        f"out={out}",
        "train.batch_size=4",
        "train.max_epochs=4",
        "train.threads=1",
        "train.precision=fp32",
        "train.stages=[{share: 1, mosaic: 0.5}]",
    ]
    return read_config(ROOT / "training" / "configs" / "deeppcb_tiny.yaml", [*overrides, *settings])


SCRATCH = (
    "{text_vocab: 600, vision_widths: [8, 16], vision_depths: [0, 1], vision_heads: [1, 2], patch_sizes: [7, 3], "
    "patch_strides: [8, 2], window_size: 4, width: 32, layers: 1, heads: 2, ffn: 64, tile_size: 128, boxes_per_tile: 8}"
)


def corroded(root: Path) -> Path:
    """Two pictures of a class that no other data has, one of them to judge by."""
    samples = [
        replace(coloured(root / f"{name}.png", (40, number, 40), 0), group=name)
        for number, name in enumerate(("learned", "judged"))
    ]
    write_coco(Dataset((NO_TEXT,), tuple(samples)), root / "own.json", {})
    return root / "own.json"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a first run, on the six classes of bare boards, that kept its pictures."""
    root = tmp_path_factory.mktemp("first")
    data = write_boards(root / "data")
    settings = (f"data.sources=[{{path: {data}}}]", "data.holdout_groups=['22222']", f"model={SCRATCH}")
    replay = "data.replay={checkpoint: null, ratio: 0.5, save: true}"
    Run(run_config(root / "run", *settings, replay)).train()
    return root


def second_config(first: Path, root: Path, *settings: str) -> Config:
    """A run that goes on from the first one's checkpoint with another class."""
    checkpoint = first / "run" / "checkpoint"
    return run_config(
        root / "run",
        f"data.sources=[{{path: {corroded(root)}}}]",
        "data.holdout_groups=[judged]",
        f"data.replay={{checkpoint: {checkpoint}, ratio: 0.5, save: true}}",
        f"model={{checkpoint: {checkpoint}}}",
        "train.max_epochs=8",
        *settings,
    )


def test_a_run_keeps_pictures_only_where_it_is_told_to(first: Path, tmp_path: Path) -> None:
    manifest = json.loads((first / "run" / "checkpoint" / "manifest.json").read_text())
    assert manifest["data"]["replay"]["images"] == 3
    loaded = ReplayBuffer.load(first / "run" / "checkpoint" / "replay", 10)
    assert {each.group for each in loaded.as_dataset().samples} == {"11111"}  # the others judge
    Run(second_config(first, tmp_path, "data.replay.save=false")).train()
    assert not (tmp_path / "run" / "checkpoint" / "replay").exists()
    assert not (tmp_path / "run" / "replay").exists()


def test_a_run_goes_on_from_a_checkpoint_with_its_classes_and_pictures(first: Path, tmp_path: Path) -> None:
    config = second_config(first, tmp_path)
    run = Run(config)
    earlier, tokenizer, _ = load_checkpoint(first / "run" / "checkpoint")
    start, _ = start_network(config, run.dataset)
    assert all(torch.equal(weight, start.state_dict()[name]) for name, weight in earlier.state_dict().items())
    assert run.tokenizer.to_str() == tokenizer.to_str()
    assert run.tokenizer.decode(run.tokenizer.encode("腐蚀").ids) == "腐蚀"  # by its bytes: the first run never saw it

    ids = [each.id for each in run.dataset.categories]
    assert ids == ["corrosion", *(defect.id for defect in BARE_BOARD)]
    replayed = run.batches.sampler.replayed.samples
    original = {
        each.path: each for each in ReplayBuffer.load(first / "run" / "checkpoint" / "replay", 10).as_dataset().samples
    }
    for each in replayed:
        np.testing.assert_array_equal(each.class_ids, original[each.path].class_ids + 1)
    batch = run.batches.draw(run.schedule.stage(0), Draws.of(0, 0, 0))
    assert isinstance(batch, Batch)
    assert set(range(len(ids))) <= set(batch.prompts.asked)

    run.train()
    weights, _, manifest = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert any(not torch.equal(weight, earlier.state_dict()[name]) for name, weight in weights.state_dict().items())
    assert manifest["data"]["categories"] == ids
    assert (manifest["data"]["images"], manifest["data"]["replayed_images"]) == (1, 3)
    merged = ReplayBuffer.load(tmp_path / "run" / "checkpoint" / "replay", 10)
    assert len(merged) == 4
    assert merged.counts()["corrosion"] == 1


def test_a_checkpoint_without_a_buffer_is_named(first: Path, tmp_path: Path) -> None:
    network, tokenizer, manifest = load_checkpoint(first / "run" / "checkpoint")
    save_checkpoint(tmp_path / "bare", network, tokenizer, manifest, log="")
    load_checkpoint(tmp_path / "bare")
    with pytest.raises(DatasetError, match="bare"):
        Run(second_config(first, tmp_path, f"data.replay.checkpoint={tmp_path / 'bare'}"))


def test_pictures_of_a_group_that_judges_are_not_replayed(first: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="11111"):
        Run(second_config(first, tmp_path, f"data.holdout=[{{path: {first / 'data'}}}]"))


@pytest.mark.parametrize("field", ["model", "data.replay"])
def test_a_run_does_not_replace_the_checkpoint_that_it_goes_on_from(field: str, first: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=field):
        second_config(first, tmp_path, f"{field}.checkpoint={tmp_path / 'run' / 'checkpoint'}")


def test_a_replay_of_nothing_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.replay"):
        second_config(first, tmp_path, "data.replay={checkpoint: null, ratio: 0.5, save: false}")
