"""What a run starts from: its datasets, the pictures of earlier runs, its network and its tokenizer."""

import sys
from collections.abc import Collection, Mapping, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from export.contract.defects import DEFECTS, Defect
from training.config import Config, ConfigError, ContinuedConfig, DataConfig, ModelConfig, PretrainedConfig
from training.data.dataset import Dataset, DatasetError, Sample, sentences
from training.data.lengths import MOST_TOKENS, check_lengths, too_long
from training.data.source import join_datasets, read_dataset
from training.learning.replay import DIGEST, ReplayBuffer, digest
from training.network.building import add_fine_tokens, build_network, deepen_vision
from training.network.checkpoint import REPLAY, load_checkpoint
from training.network.lora import add_adapters
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.pretrained import load_pretrained
from training.network.tokenizer import train_tokenizer
from training.prompts import LANGUAGES, PHRASINGS, Phrasings, corpus, names


def open_buffer(config: Config) -> ReplayBuffer:
    """The buffer of the earlier checkpoint, an empty one where there is none.

    Raises:
        DatasetError: the checkpoint holds no buffer, or a faulty one.
    """
    replay = config.data.replay
    if replay is None:
        return ReplayBuffer()
    if replay.checkpoint is None:
        return ReplayBuffer(replay.capacity, config.train.seed)
    return ReplayBuffer.load(replay.checkpoint / REPLAY, replay.capacity)


def read_datasets(config: DataConfig, replayed: Dataset) -> tuple[Dataset, Dataset, Dataset]:
    """What is learned from, what judges, and `replayed`, which is learned again; all with the same categories.

    Raises:
        DatasetError: a source is faulty, a holdout group has no picture or is one of those replayed, or nothing is
            left to learn from.
    """
    sources = [read_dataset(source.path, source.split) for source in config.sources]
    apart = [read_dataset(source.path, source.split) for source in config.holdout]
    everything = join_datasets([*sources, *apart, replayed])
    count = sum(len(source.samples) for source in sources)
    end = len(everything.samples) - len(replayed.samples)
    held = set(config.holdout_groups)
    unknown = held - {sample.group for sample in everything.samples[:count]}
    if unknown:
        raise DatasetError(
            f"holdout groups {sorted(unknown)} have no picture in the sources; set data.holdout_groups to groups of "
            "theirs, or to [] where data.holdout judges"
        )
    repeats = [own.repeat for own, source in zip(config.sources, sources, strict=True) for _ in source.samples]
    drawn = zip(everything.samples[:count], repeats, strict=True)
    learned = [sample for sample, repeat in drawn if sample.group not in held for _ in range(repeat)]
    judging = [sample for sample in everything.samples[:count] if sample.group in held]
    if not learned:
        raise DatasetError(f"nothing is left to learn from: every picture is of a holdout group, {sorted(held)}")
    judging = [sample for sample in (*judging, *everything.samples[count:end]) if sample.fully_labelled]
    if not any(len(sample.class_ids) for sample in judging):
        raise DatasetError("no picture that judges shows a defect with a box; name other holdout groups or datasets")
    again = everything.samples[end:]
    for origin, known in (("this run learns", learned), ("an earlier run has learned", again)):
        leaked = {sample.group for sample in judging} & {sample.group for sample in known} - {""}
        leaked |= _same_pictures(judging, known)
        if leaked:
            raise DatasetError(f"{_some(leaked)} judge, but {origin} from them; judge by others")
    learned_dataset, judging_dataset, again_dataset = (
        Dataset(everything.categories, tuple(samples)) for samples in (learned, judging, again)
    )
    return learned_dataset, judging_dataset, again_dataset


def _same_pictures(judging: Sequence[Sample], known: Sequence[Sample]) -> set[str]:
    """The pictures that judge and are known: of the same file, or of the same bytes as one that a buffer has copied."""
    files = {sample.path.resolve() for sample in known}
    copies = {path.stem for path in files if DIGEST.fullmatch(path.stem)}
    return {
        str(sample.path)
        for sample in judging
        if sample.path.resolve() in files or (copies and digest(sample.path) in copies)
    }


def _some(names: Collection[str], most: int = 5) -> str:
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def phrasings_of(config: DataConfig) -> Phrasings:
    """The ways of asking for a label, by language: the configuration's own, or the built-in ones."""
    templates = config.text_prompt_templates
    return PHRASINGS if templates is None else {"en": templates.en, "zh": templates.zh}


def weights_by_class(
    weights: Mapping[str, float] | None, categories: Sequence[Defect], device: torch.device
) -> Tensor | None:
    """The weight of each category (C,), 1 where none is given; None where no category has one.

    Raises:
        ConfigError: names every id that is no category.
    """
    if weights is None:
        return None
    ids = [category.id for category in categories]
    unknown = sorted(set(weights) - set(ids))
    if unknown:
        raise ConfigError(
            f"train.class_weights: {', '.join(unknown)} is no category of the data; there are {', '.join(ids)}"
        )
    return torch.tensor([weights.get(category_id, 1.0) for category_id in ids], device=device)


def start_network(config: Config, dataset: Dataset) -> tuple[Florence2ForGrounding, Tokenizer]:
    """The network to train and its tokenizer; torch's global generator decides the weights that are new.

    Of a sentence that is too long for a prompt the beginning is learned, and stderr tells it: one among thousands of
    reviews must not hold up all others.

    Raises:
        DatasetError: tells the names that are too long for a prompt.
        PretrainedError: the published checkpoint cannot be used.
        CheckpointError: the checkpoint to go on from cannot be used.
        ConfigError: an adapter is asked for where there is no layer of that name.
    """
    model = config.model
    if not isinstance(model, ModelConfig):
        network, tokenizer = _load(model)
        if model.lora is not None:
            add_adapters(network, model.lora)
    else:
        own = [category for category in dataset.categories if category not in DEFECTS]
        texts = corpus([*DEFECTS, *own], sentences(dataset), phrasings_of(config.data))
        tokenizer = train_tokenizer(texts, model.text_vocab)
        network = build_network(model, tokenizer)
    categories = dataset.categories
    check_lengths((name for each in categories for language in LANGUAGES for name in names(each, language)), tokenizer)
    said = [text for each in categories for text in each.descriptions_en + each.descriptions_zh]
    if long := too_long([*said, *sentences(dataset)], tokenizer):
        print(  # noqa: T201
            f"warning: a prompt has {MOST_TOKENS} tokens at most; only the beginning is learned of {long}",
            file=sys.stderr,
        )
    return _as_trained(network, config), tokenizer


def _as_trained(network: Florence2ForGrounding, config: Config) -> Florence2ForGrounding:
    if config.train.box_slots and network.box_slots is None:
        network.add_box_slots()
    if network.box_slots is not None:
        network.box_slots.requires_grad_(True)  # adapters have frozen them
    if config.train.outline_share:
        network.config.outlines = True
    return network


def _load(model: PretrainedConfig | ContinuedConfig) -> tuple[Florence2ForGrounding, Tokenizer]:
    if isinstance(model, ContinuedConfig):
        network, tokenizer, _ = load_checkpoint(model.checkpoint)
        if model.add_fine_tokens:
            add_fine_tokens(network)
        if model.vision_depths is not None:
            try:
                network = deepen_vision(network, model.vision_depths)
            except ValueError as error:
                raise ConfigError(f"model.vision_depths: {error}; leave it out to keep the network's shape") from error
        return network, tokenizer
    return load_pretrained(
        model.pretrained,
        tile_size=model.tile_size,
        boxes_per_tile=model.boxes_per_tile,
        fine_tokens=model.fine_tokens,
    )
