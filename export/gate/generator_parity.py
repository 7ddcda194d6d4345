"""Whether a generator answers what PyTorch answers: the same greedy tokens, image by image and prompt by prompt.

Twice: left to itself, reading a box at once where the checkpoint has learned that, and at each place knowing PyTorch's
tokens so far (teacher forcing), so that one other token does not spoil all behind it. In fp32 both must be all of them;
in less the second says how often it would choose otherwise.

The reference decodes with the checkpoint's own network and `transformers`' growing cache over the whole vocabulary, so
it shares with the engines nothing but the grammar.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.contract.locations import DRAFT_TOLERANCE, NUM_BINS
from export.contract.tensors import GENERATED_TOKENS, GENERATOR, STEP_BUCKETS
from export.contract.tiles import cut_tiles, tile_origins
from export.gate.tuned import Size, label, sized
from export.graphs.checkpoint import Checkpoint
from export.graphs.generator_graphs import box_slots, read_vocabulary
from export.runtime.engine import Arrays
from export.runtime.generator import Generator
from export.runtime.grammar import OUTLINE, START, Grammar

TILES = 4  # of an image at most, spread over it: one alone may well be answered with nothing
TUNED_TOKENS = 2 * STEP_BUCKETS[-1] - 1  # of an answer; with the token before it two of the widest steps


def compare(
    checkpoint: Checkpoint, generator: Generator, images: Mapping[str, NDArray[np.uint8]], prompts: Sequence[str]
) -> dict[str, Any]:
    """Has every prompt answered about TILES tiles of every image, by the generator and by PyTorch.

    Returns:
        `answers` and `tokens`, how many the reference has; `same_answers`, the share that the generator gives to the
        last token; `token_agreement`, the share of the reference's tokens that it chooses when it knows those before;
        `first_difference`, where its answers part; and `finite`, whether no log-prob is NaN or infinite.
    """
    inputs, asked = _inputs(checkpoint, images, prompts)
    one_by_one = greedy_tokens(checkpoint, inputs)
    expected = one_by_one if box_slots(checkpoint) is None else greedy_tokens(checkpoint, inputs, parallel=True)
    batches = [
        slice(start, start + GENERATOR.max_batch_size) for start in range(0, len(asked), GENERATOR.max_batch_size)
    ]
    got = [generator.run({name: array[batch] for name, array in inputs.items()}) for batch in batches]
    followed = np.concatenate(
        [
            generator.follow({name: array[batch] for name, array in inputs.items()}, one_by_one[batch])
            for batch in batches
        ]
    )
    tokens, log_probs = (np.concatenate([batch[name] for batch in got]) for name in ("TOKENS", "LOG_PROBS"))
    said = one_by_one != checkpoint.tokenizer.token_to_id("<pad>")  # (B, T), </s> among them
    differs = expected != tokens
    first = None
    if differs.any():
        row = int(differs.any(1).argmax())
        place = int(differs[row].argmax())
        first = {
            **asked[row],
            "place": place,
            "expected": int(expected[row, place]),
            "got": int(tokens[row, place]),
        }
    return {
        "answers": len(asked),
        "tokens": int(said.sum()),
        "same_answers": float((~differs.any(1)).mean()),
        "token_agreement": float((followed == one_by_one)[said].mean()),
        "first_difference": first,
        "finite": bool(np.isfinite(log_probs).all()),
    }


def compare_tuned(
    checkpoint: Checkpoint,
    generator: Generator,
    images: Mapping[str, NDArray[np.uint8]],
    prompts: Sequence[str],
    sizes: Sequence[Size],
) -> dict[str, float]:
    """Has answers followed in batches of these sizes, in steps of every width.

    Returns:
        By size and width, the share of PyTorch's first tokens that the generator chooses when it knows those before.
    """
    inputs, _ = _inputs(checkpoint, images, prompts)
    shares = {}
    for size in sizes:
        asked = sized(GENERATOR, inputs, size)
        # One pixel apart: images that are the same would be seen once, and make a smaller batch.
        asked["IMAGE"][:, 0, 0] = np.arange(len(asked["IMAGE"]))[:, None]
        expected = greedy_tokens(checkpoint, asked)[:, :TUNED_TOKENS]
        said = expected != checkpoint.tokenizer.token_to_id("<pad>")
        for step in STEP_BUCKETS:
            followed = generator.follow(asked, expected, step)
            shares[label({**size, "step": step})] = float((followed == expected)[said].mean())
    return shares


@torch.inference_mode()
def greedy_tokens(checkpoint: Checkpoint, inputs: Arrays, *, parallel: bool = False) -> NDArray[np.int64]:
    """PyTorch's greedy answers (B, GENERATED_TOKENS) under the grammar, as vocabulary ids with <pad> after </s>.

    Args:
        checkpoint: its network is run in fp32, one answer after the other, so that no padding is involved.
        inputs: GENERATOR's, the batch in front.
        parallel: whether boxes are read at once, through the checkpoint's slots.
    """
    slots = box_slots(checkpoint) if parallel else None
    rows = [
        _answer(
            checkpoint, slots, *(torch.from_numpy(inputs[tensor.name][row : row + 1]) for tensor in GENERATOR.inputs)
        )
        for row in range(len(inputs["IMAGE"]))
    ]
    return np.stack(rows)


def _answer(
    checkpoint: Checkpoint,
    slots: torch.Tensor | None,
    image: torch.Tensor,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
) -> NDArray[np.int64]:
    network: Any = checkpoint.network
    vocabulary = read_vocabulary(checkpoint)
    encoder, decoder = network.model.language_model.encoder, network.model.language_model.decoder
    input_ids = input_ids[:, attention_mask[0].bool()]
    features = network.image_features(network.normalise(image))
    states = encoder(
        inputs_embeds=torch.cat([features, network.get_input_embeddings()(input_ids)], 1)
    ).last_hidden_state
    region = vocabulary.region(input_ids[0].numpy())
    grammar = Grammar(vocabulary, 1, OUTLINE if region else START)
    ids = torch.from_numpy(vocabulary.token_ids)
    locations = slice(vocabulary.first_location, vocabulary.first_location + NUM_BINS)
    answer: list[int] = []
    located = 0

    def take(logits: torch.Tensor) -> None:
        nonlocal located
        weights = logits[ids].masked_fill(torch.from_numpy(grammar.allowed()[0] == 0), float("-inf")).softmax(-1)
        if weights[vocabulary.eos] < weights[locations].sum():  # else an outline ends
            weights[vocabulary.eos] = 0
        best = weights.argmax()
        grammar.advance(best[None].numpy())
        answer.append(int(best))
        located += locations.start <= answer[-1] < locations.stop

    certain, cache = [vocabulary.start, vocabulary.bos, *region], None
    drafts: list[int] = []  # of x2 and y2
    while not grammar.done and len(answer) < GENERATED_TOKENS:
        asked = slots is not None and not region and located % 4 == 1  # behind an x1
        embeds = decoder.embed_tokens(ids[certain + drafts])
        embeds = torch.cat([embeds, slots]) if slots is not None and asked else embeds
        output = decoder(
            inputs_embeds=embeds[None], encoder_hidden_states=states, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        logits = network.lm_head(output.last_hidden_state)[0, len(certain) - 1 :]
        left = len(logits) - 1  # columns to forget
        take(logits[0])
        for draft, behind in zip(drafts, logits[1:], strict=not asked):
            if abs(answer[-1] - draft) > DRAFT_TOLERANCE or len(answer) == GENERATED_TOKENS:
                break
            left -= 1
            take(behind)
        if left:
            cache.crop(-left)
        drafts = (logits[1:, ids[locations]].argmax(-1) + vocabulary.first_location).tolist() if asked else []
        certain = answer[-1:]
    return vocabulary.token_ids[answer + [vocabulary.pad] * (GENERATED_TOKENS - len(answer))]


def _inputs(
    checkpoint: Checkpoint, images: Mapping[str, NDArray[np.uint8]], prompts: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], list[dict[str, str]]]:
    tile = checkpoint.dimensions.tile
    tiles: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for name, image in images.items():
        origins = tile_origins((image.shape[1], image.shape[0]), tile)
        chosen = cut_tiles(image, origins[:: max(1, len(origins) // TILES)][:TILES], tile)
        tiles += list(chosen)
        names += [name] * len(chosen)
    asked = checkpoint.prompt_inputs(prompts)
    inputs: dict[str, NDArray[Any]] = {
        "IMAGE": np.repeat(np.stack(tiles), len(prompts), axis=0),
        **{name: np.tile(array, (len(tiles), 1)) for name, array in asked.items()},
    }
    return inputs, [{"image": name, "prompt": prompt} for name in names for prompt in prompts]
