"""The training configuration: a strict schema of the YAML files under training/configs/."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from training.image_tokens import Places, tile_fault

SCRATCH, PRETRAINED, CONTINUED = MODEL_KINDS = ("<from scratch>", "<pretrained>", "<continued>")  # forms of `model`
PUBLISHED_BASE = re.compile(r"(microsoft|florence-community)/Florence-2-base(-ft)?")  # whose shape is known


class ConfigError(ValueError):
    """A configuration file is not usable; the message lists every fault."""


class Strict(BaseModel):
    """Unknown fields are faults, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(Strict):
    """One dataset."""

    path: Path  # COCO file with descriptions, or DeepPCB folder
    split: str = "train"  # of a DeepPCB folder


class SourceConfig(DatasetConfig):
    """One that is learned from."""

    repeat: int = Field(default=1, ge=1)  # its pictures count as that many each, so that they are drawn more often


class PromptTemplatesConfig(Strict):
    """The ways of asking for a label, instead of those of training.prompts; what asks for all defects stays."""

    en: tuple[str, ...] = Field(min_length=1)
    zh: tuple[str, ...] = Field(min_length=1)

    @field_validator("en", "zh")
    @classmethod
    def _one_label_each(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [template for template in templates if template.count("{label}") != 1]
        if wrong:
            raise ValueError(f"{wrong} must hold {{label}} exactly once")
        return templates


class ReplayConfig(Strict):
    """Learning again from pictures of earlier runs, and keeping some for later ones."""

    checkpoint: Path | None  # an earlier one whose buffer is mixed in; none: the first run
    ratio: float = Field(ge=0, le=1)  # share of crops drawn from that buffer
    capacity: int = Field(default=1000, gt=0)  # pictures
    save: bool  # the checkpoint then holds copies of that many of the earlier and of this run's pictures

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.checkpoint is None and not self.save:
            raise ValueError("there is nothing to mix in or to keep; name a checkpoint, set save, or leave replay out")
        return self


class DataConfig(Strict):
    """What is learned from, and what judges during training."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    holdout_groups: tuple[str, ...] = ()  # groups of the sources that only judge
    holdout: tuple[DatasetConfig, ...] = ()  # further datasets that only judge
    replay: ReplayConfig | None = None  # none: the checkpoint holds no pictures
    text_prompt_templates: PromptTemplatesConfig | None = None  # none: the phrasings of training.prompts

    @model_validator(mode="after")
    def _something_judges(self) -> Self:
        if not self.holdout_groups and not self.holdout:
            raise ValueError("nothing judges; name holdout_groups of the sources, or holdout datasets of their own")
        return self


class ModelConfig(Strict):
    """Shape of a Florence-2 built from scratch."""

    text_vocab: int = Field(gt=260)  # text tokens of the tokenizer, before the 1,000 locations
    vision_widths: tuple[int, ...]
    vision_depths: tuple[int, ...]
    vision_heads: tuple[int, ...]
    patch_sizes: tuple[int, ...]
    patch_strides: tuple[int, ...]
    window_size: int
    width: int  # d_model of encoder and decoder, and of prompt embeddings
    layers: int  # of the encoder, and as many of the decoder
    heads: int
    ffn: int
    tile_size: int  # pixels
    boxes_per_tile: int
    fine_tokens: bool = False  # four tokens of the grounding reading where the backbone has one


class CameraConfig(Strict):
    """Shares of crops that are changed as another camera would; 0 switches one off."""

    illumination: float = Field(ge=0, le=1)  # brightness, contrast, gamma, or light from one side
    colour: float = Field(ge=0, le=1)  # hue and saturation, where a picture has colour
    blur: float = Field(ge=0, le=1)  # out of focus, or moving
    noise: float = Field(ge=0, le=1)  # of the sensor
    compression: float = Field(ge=0, le=1)  # JPEG


class LoraConfig(Strict):
    """Low-rank adapters on a frozen backbone; Hu et al., LoRA: Low-Rank Adaptation, 2021."""

    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)  # the adapter's output is scaled by alpha / rank
    dropout: float = Field(ge=0, lt=1)  # of the adapter's input, while training
    target_modules: tuple[str, ...] = Field(min_length=1)  # last part of the names of the linear layers adapted


class PretrainedConfig(Strict):
    """A published Florence-2 to start from; its folder knows its own shape."""

    pretrained: str  # folder, or owner/name on the Hugging Face hub
    input_resolution: int = Field(gt=0)  # pixels, side of the square tile
    boxes_per_tile: int = Field(gt=0)
    fine_tokens: bool = False  # four tokens of the grounding reading where the backbone has one, for small defects
    lora: LoraConfig | None  # none: every weight is trained

    @property
    def tile_size(self) -> int:
        """The resolution, by the name that a network built from scratch gives it."""
        return self.input_resolution

    @model_validator(mode="after")
    def _fits_what_is_known(self) -> Self:
        """Others are judged by their own config.json, once it has been fetched."""
        known = PUBLISHED_BASE.fullmatch(self.pretrained)
        fault = tile_fault(self.input_resolution, self.boxes_per_tile, Places()) if known else None
        if fault is not None:
            raise ValueError(fault)
        return self


class ContinuedConfig(Strict):
    """A checkpoint of this project to go on from: its weights, its tokenizer, its shape."""

    checkpoint: Path  # folder that training wrote
    add_fine_tokens: bool = False  # to one that has none: they start as copies of the tokens that it has
    vision_depths: tuple[int, ...] | None = None  # DaViT blocks of each stage; those added start as identities
    lora: LoraConfig | None = None  # none: every weight is trained


class PasteConfig(Strict):
    """Labelled defects with polygons laid on other crops; not of binarised pictures."""

    categories: tuple[str, ...] = Field(min_length=1)  # ids of those that may be anywhere on a board
    mean: float = Field(gt=0)  # mean number laid on a crop


def _ascending(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    if bounds is not None and bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)} must be the least and the largest, in this order")
    return bounds


class CropConfig(Strict):
    """How training crops are drawn."""

    near_defect: float = Field(ge=0, le=1)  # share centred near a defect
    magnification: float = Field(default=1.0, gt=0)  # of the pictures in crops, on average
    scale_jitter: float = Field(ge=1)  # and times 1/this to this
    colour_magnification: Annotated[tuple[PositiveFloat, PositiveFloat] | None, AfterValidator(_ascending)] = (
        None  # least and largest of colour pictures, instead of these; none: as the others
    )
    aspect_jitter: float = Field(ge=1)  # and stretched along one axis by 1/this to this
    flips: bool = True  # half of the crops, and of the defects that are pasted, are mirrored
    turns: bool = True  # and they are turned by none to three quarters
    template_share: float = Field(ge=0, le=1)  # share cut from defect-free boards; only drawn defects there
    drawn_defects: float = Field(ge=0)  # mean number of defects drawn into a whole crop, a mosaic's four together
    threshold_jitter: float = Field(ge=0, le=1)  # share re-thresholded: thinner or thicker copper
    level_jitter: float = Field(ge=0, le=1)  # share with other gray levels and noise
    paste: PasteConfig | None = None
    camera: CameraConfig | None = None  # colour and gray pictures, not binarised ones
    cache_mb: int = Field(ge=0)  # MiB of decoded pictures kept in memory; the others are read each time
    min_visible: float = Field(gt=0, le=1)  # a box cut by the crop's edge is kept from this share on


class StageConfig(Strict):
    """One stretch of the run."""

    share: float = Field(gt=0, le=1)  # of the run's steps
    mosaic: float = Field(ge=0, le=1)  # share of crops that are 2 x 2 mosaics
    decoder_only: bool = False  # everything else frozen: the generative reading learns, grounding stays as it is
    input_resolution: int | None = Field(default=None, gt=0)  # pixels, side of the crops; none: the model's tile


class EarlyStoppingConfig(Strict):
    """Ends the joint training once the held-out mAP@0.5 rises no more; the best checkpoint is kept."""

    patience: int = Field(gt=0)  # validations without a rise
    min_delta: float = Field(ge=0, lt=1)  # a smaller rise of mAP@0.5 counts as none


class TrainConfig(Strict):
    """Optimisation."""

    seed: int = 0
    max_epochs: float = Field(gt=0)  # length of the run; in an epoch as many crops are drawn as there are pictures
    batch_size: int = Field(gt=0)  # crops that go through the network at once
    accumulation: int = Field(default=1, gt=0)  # batches whose gradients are averaged into one step
    generative_share: float = Field(ge=0, le=1)  # part of each batch that also trains the decoder
    lr: float = Field(gt=0)  # peak, of embeddings, norms, biases and convolutions (AdamW)
    matrix_lr: float | None = Field(gt=0)  # peak, of weight matrices with Muon; none: AdamW at `lr` for these too
    weight_decay: float = Field(ge=0)  # on matrices only
    warmup_steps: int = Field(ge=0)  # a quarter of the steps at most
    clip_norm: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    location_sigma: float = Field(gt=0)  # width of location targets, bins
    precision: Literal["fp32", "bf16"]  # of activations; weights and losses are fp32
    threads: int = Field(gt=0)
    validate_every: int = Field(gt=0)  # steps
    save_every: int = Field(gt=0)  # steps between states to resume from
    box_slots: bool = False  # the decoder learns to read a box's locations at once; one that did goes on with it
    outline_share: float = Field(
        default=0.0, ge=0, le=1
    )  # of the questions of decoder_only stages: outlines of defects
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    early_stopping: EarlyStoppingConfig | None = None  # none: the last averaged weights become the checkpoint
    class_weights: dict[str, Annotated[float, Field(gt=0)]] | None = None  # of the matching loss, by category id
    size_balance: float = Field(default=0.0, ge=0, le=1)  # 0: all image tokens count alike, 1: all defects do
    gradient_checkpointing: bool = False  # BART computes its activations twice instead of keeping them: less memory
    compile: bool = False  # torch.compile of the layers of DaViT and BART: minutes before the first step

    @model_validator(mode="after")
    def _decoder_last(self) -> Self:
        if [stage.decoder_only for stage in self.stages] != sorted(stage.decoder_only for stage in self.stages):
            raise ValueError("stages with decoder_only come last: the rest must not change under a trained decoder")
        return self

    @model_validator(mode="after")
    def _stopping_stops_something(self) -> Self:
        if self.early_stopping is not None and all(stage.decoder_only for stage in self.stages):
            raise ValueError(
                "early_stopping ends the joint training, and every stage has decoder_only; set early_stopping to null"
            )
        return self

    @model_validator(mode="after")
    def _outlines_alone(self) -> Self:
        if self.outline_share and not any(stage.decoder_only for stage in self.stages):
            raise ValueError(
                "outline_share needs a stage with decoder_only: an outline is asked for in a view of its own"
            )
        return self

    @model_validator(mode="after")
    def _shares_of_one_run(self) -> Self:
        total = sum(Fraction(str(stage.share)) for stage in self.stages)  # as written: 0.1 + 0.2 + 0.7 is 1
        if total != 1:
            raise ValueError(f"the shares of the stages sum to {float(total):g}, expected 1")
        return self


def _model_kind(model: Any) -> str:  # noqa: ANN401
    given = model if isinstance(model, dict) else vars(model) if isinstance(model, BaseModel) else {}
    return PRETRAINED if "pretrained" in given else CONTINUED if "checkpoint" in given else SCRATCH


class Config(Strict):
    """A whole training run."""

    name: str  # of the checkpoint
    out: Path  # folder of the run: log, states to resume from, checkpoint
    data: DataConfig
    model: Annotated[
        Annotated[ModelConfig, Tag(SCRATCH)]
        | Annotated[PretrainedConfig, Tag(PRETRAINED)]
        | Annotated[ContinuedConfig, Tag(CONTINUED)],
        Discriminator(_model_kind),
    ]
    crops: CropConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _whole_decoder(self) -> Self:
        adapters = None if isinstance(self.model, ModelConfig) else self.model.lora
        if adapters is not None and any(stage.decoder_only for stage in self.train.stages):
            raise ValueError(
                "a stage with decoder_only trains the decoder in full; set model.lora to null or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _another_checkpoint(self) -> Self:
        own = (self.out / "checkpoint").resolve()
        replayed = self.data.replay.checkpoint if self.data.replay is not None else None
        continued = self.model.checkpoint if isinstance(self.model, ContinuedConfig) else None
        for field, earlier in (("model.checkpoint", continued), ("data.replay.checkpoint", replayed)):
            if earlier is not None and earlier.resolve() == own:
                raise ValueError(f"{field} {earlier} is what this run will replace; give another 'out'")
        return self


def _parse(text: str, origin: str) -> Any:  # noqa: ANN401
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is no YAML: {' '.join(str(error).split())}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r}: expected section.field=value")
    *sections, field = key.split(".")
    node = tree
    for depth, section in enumerate(sections, start=1):
        inner = node.setdefault(section, {})
        if not isinstance(inner, dict):
            whole = ".".join(sections[:depth])
            raise ConfigError(
                f"override {override!r}: {whole} is {inner!r}, which has no fields; give all of it, {whole}={{...}}"
            )
        node = inner
    node[field] = _parse(value, f"override {override!r}")


def read_config(path: Path, overrides: list[str]) -> Config:
    """A YAML file with `section.field=value` overrides applied.

    Raises:
        ConfigError: lists every unknown, missing or invalid field.
    """
    if not path.is_file():
        raise ConfigError(f"configuration {path} does not exist")
    tree = _parse(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {tree!r}, expected sections with fields")
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'] if part not in MODEL_KINDS)}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ConfigError(f"{path}: " + "; ".join(faults)) from error
