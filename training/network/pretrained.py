"""A published Florence-2 with a new grounding head, ready to be fine-tuned.

Takes a folder or a name on the Hugging Face hub, in either published layout. Everything is loaded but
the grounding head; a weight that is missing or left over is an error, never a random start.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import BartConfig, GenerationConfig
from transformers.initialization import no_init_weights
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from export.contract.locations import NUM_BINS, location_token
from training.image_tokens import Places, tile_fault
from training.network.building import initialise_by_fan_in
from training.network.modeling_florence2_grounding import Florence2ForGrounding, Florence2GroundingConfig
from training.network.published import (
    EMBEDDINGS,
    TASK_TOKENS,
    PretrainedError,
    is_older_layout,
    read_shape,
    read_weights,
)
from training.network.tokenizer import BOS, EOS, IMAGE, PAD, UNK, token_id

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, per channel of RGB: preprocessor_config.json of every Florence-2
IMAGE_STD = (0.229, 0.224, 0.225)
CONFIG, TOKENIZER, WEIGHTS = FILES = ("config.json", "tokenizer.json", "model.safetensors")
VOCABULARY_MULTIPLE = 64  # transformers' conversion pads the embeddings with unused rows up to a multiple of it


def load_pretrained(
    source: str | Path, *, tile_size: int, boxes_per_tile: int, fine_tokens: bool = False
) -> tuple[Florence2ForGrounding, Tokenizer]:
    """A published Florence-2 in fp32 for square tiles of `tile_size` pixels, and its tokenizer.

    The grounding head is drawn from torch's global generator. The vocabulary is cut or extended to the
    tokenizer's, which is given <image> where it has none.

    Raises:
        PretrainedError: the source is missing, unreadable or no Florence-2, its weights or its vocabulary
            are not complete, or tiles of this size do not fit its positions.
    """
    fields = _read_config(_find(source, CONFIG))
    vision, text = read_shape(fields)
    _check_tile(vision, text, tile_size, boxes_per_tile)
    tokenizer = _read_tokenizer(_find(source, TOKENIZER), is_older_layout(fields), text.vocab_size)
    weights = _read_weights(_find(source, WEIGHTS), is_older_layout(fields))
    special = {token: token_id(tokenizer, token) for token in (BOS, PAD, EOS, IMAGE, location_token(0))}
    published_rows, text.vocab_size = text.vocab_size, tokenizer.get_vocab_size()
    text.bos_token_id = text.forced_bos_token_id = special[BOS]
    text.eos_token_id = text.decoder_start_token_id = special[EOS]
    text.pad_token_id, text.forced_eos_token_id = special[PAD], None
    config = Florence2GroundingConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=special[IMAGE],
        tile_size=tile_size,
        boxes_per_tile=boxes_per_tile,
        location_token_id=special[location_token(0)],
        fine_tokens=fine_tokens,
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
    )
    with no_init_weights():  # drawing 0.23 billion numbers only to replace them takes ten seconds
        network = Florence2ForGrounding(config)
    network.tie_weights()
    network.grounding = network.new_grounding_head()
    initialise_by_fan_in(network.grounding)
    network.generation_config = GenerationConfig(
        bos_token_id=special[BOS],
        eos_token_id=special[EOS],
        pad_token_id=special[PAD],
        decoder_start_token_id=special[EOS],
        forced_bos_token_id=special[BOS],
    )
    if EMBEDDINGS in weights and len(weights[EMBEDDINGS]) == published_rows:
        weights[EMBEDDINGS] = _resize(weights[EMBEDDINGS], text.vocab_size)
    _load(network, weights, source)
    return network, tokenizer


def _find(source: str | Path, name: str) -> Path:
    """A file of a folder, or of a hub repository, fetched if it is not in the local cache."""
    folder = Path(source)
    if folder.is_dir():
        missing = [file for file in FILES if not (folder / file).is_file()]
        if missing:
            raise PretrainedError(f"{folder} is no published Florence-2: {', '.join(missing)} missing")
        return folder / name
    if str(source).count("/") != 1 or folder.is_absolute():
        raise PretrainedError(f"{source} is neither a folder nor a name on the hub such as microsoft/Florence-2-base")
    try:
        return Path(hf_hub_download(str(source), name))
    except (OSError, ValueError) as error:  # what the hub's client raises is one or the other
        raise PretrainedError(
            f"{source}: no such folder, and {name} cannot be had from the hub: {error}; fetch the repository "
            f"elsewhere and give the folder that holds {', '.join(FILES)}"
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PretrainedError(f"{path} is not JSON: {error}") from error
    return fields


def _check_tile(vision: Florence2VisionConfig, text: BartConfig, tile_size: int, boxes_per_tile: int) -> None:
    rows, positions = vision.max_position_embeddings, text.max_position_embeddings
    fault = tile_fault(tile_size, boxes_per_tile, Places(math.prod(vision.patch_stride), rows, positions))
    if fault is not None:
        raise PretrainedError(fault)


def _read_tokenizer(path: Path, older: bool, rows: int) -> Tokenizer:
    """The tokenizer with all of Florence-2's tokens; `rows` is the height of the published embeddings."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise PretrainedError(f"{path} is no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if older and tokenizer.token_to_id(location_token(0)) is None:  # its processor adds them, not its tokenizer
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in TASK_TOKENS])
    faults = [f"{token} is missing" for token in (BOS, PAD, EOS, UNK) if tokenizer.token_to_id(token) is None]
    ids = [tokenizer.token_to_id(location_token(index)) for index in range(NUM_BINS)]
    if ids[0] is None or ids != list(range(ids[0], ids[0] + NUM_BINS)):
        faults.append(f"{location_token(0)} to {location_token(NUM_BINS - 1)} are not {NUM_BINS} consecutive tokens")
    tokens = tokenizer.get_vocab_size()
    if not tokens <= rows < tokens + VOCABULARY_MULTIPLE:
        faults.append(f"it has {tokens} tokens and the network {rows} embeddings")
    if faults:
        raise PretrainedError(f"{path} is not this Florence-2's vocabulary: " + "; ".join(faults))
    tokenizer.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])  # no effect if it is there
    return tokenizer


def _read_weights(path: Path, older: bool) -> dict[str, Tensor]:
    try:
        return read_weights(load_file(path), older)
    except SafetensorError as error:
        raise PretrainedError(f"{path} is damaged: {error}; fetch it again") from error


def _resize(embeddings: Tensor, rows: int) -> Tensor:
    """Embeddings (V, D) without the padding, or with the mean of all for a new token, which nothing is known of."""
    new = embeddings.mean(0, keepdim=True).expand(max(0, rows - len(embeddings)), -1)
    return torch.cat([embeddings[:rows], new])


def _load(network: Florence2ForGrounding, weights: dict[str, Tensor], source: str | Path) -> None:
    wanted = {name: weight for name, weight in network.state_dict().items() if not name.startswith("grounding.")}
    shared = {weight.data_ptr() for name, weight in wanted.items() if name in weights}
    faults = {
        "missing": [name for name, weight in wanted.items() if weight.data_ptr() not in shared],
        "unexpected": [name for name in weights if name not in wanted],
        "of another shape": [
            f"{name} {tuple(weight.shape)} instead of {tuple(wanted[name].shape)}"
            for name, weight in weights.items()
            if name in wanted and weight.shape != wanted[name].shape
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
        raise PretrainedError(f"{source}: the weights are not those of its config.json: {listed}")
    network.load_state_dict(weights, strict=False, assign=True)  # a copy would take longer than reading the file
    network.tie_weights()
