"""What one batch is asked and what it should answer, for both readings."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from export.contract.defects import ASSEMBLY, BARE_BOARD, DEFECTS
from export.contract.locations import location_token, quantise
from training.crops import Crop
from training.prompts import ALL_DEFECTS, LANGUAGES, PHRASINGS, draw_phrasing, names, words
from training.tokenizer import BOS, EOS, PAD, encode_batch, token_id

ABSENT_CLASSES = 2  # classes per step that no image shows, so that words matter
IGNORED = -100


@dataclass(frozen=True)
class Positives:
    """The image tokens that answer for a defect, M of them in the batch."""

    image_ids: Tensor  # (M,)
    token_ids: Tensor  # (M,) index in the grid, row by row
    class_ids: Tensor  # (M,)
    boxes_xyxy: Tensor  # (M, 4) fractions of the tile


def assign(crops: Sequence[Crop], grid: int, size: int) -> Positives:
    """The tokens whose centre lies in the central quarter of a box; the nearest one where none does.

    A token inside two boxes answers for the smaller.
    """
    step = size / grid
    centres = (np.arange(grid) + 0.5) * step
    rows: list[tuple[int, int, int]] = []
    boxes: list[NDArray[np.float32]] = []
    for image_id, crop in enumerate(crops):
        taken: set[int] = set()
        area = np.prod(crop.boxes_xyxy[:, 2:] - crop.boxes_xyxy[:, :2], axis=1)
        for index in np.argsort(area, kind="stable"):
            box = crop.boxes_xyxy[index]
            columns = _central(centres, box[0], box[2])
            lines = _central(centres, box[1], box[3])
            for token in (int(y * grid + x) for y in lines for x in columns):
                if token not in taken:
                    taken.add(token)
                    rows.append((image_id, token, int(crop.class_ids[index])))
                    boxes.append(box / np.float32(size))
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
    return Positives(
        table[:, 0], table[:, 1], table[:, 2], torch.from_numpy(np.array(boxes, np.float32)).reshape(-1, 4)
    )


def _central(centres: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    middle, reach = (low + high) / 2, (high - low) / 4
    inside = np.flatnonzero(np.abs(centres - middle) <= reach)
    return inside if len(inside) else np.array([np.abs(centres - middle).argmin()])


@dataclass(frozen=True)
class GroundingPrompts:
    """Texts of one step and the class that each asks for; an index past BARE_BOARD is absent from every image."""

    texts: list[str]
    class_ids: Tensor  # (P,)


def draw_grounding_prompts(rng: random.Random) -> GroundingPrompts:
    """Every trained class once in each language, and some absent classes, all in random phrasings."""
    absent = rng.sample(range(len(BARE_BOARD), len(BARE_BOARD) + len(ASSEMBLY)), ABSENT_CLASSES)
    asked = [(class_id, language) for class_id in range(len(BARE_BOARD)) for language in LANGUAGES]
    asked += [(class_id, rng.choice(LANGUAGES)) for class_id in absent]
    texts = [draw_phrasing(DEFECTS[class_id], language, rng) for class_id, language in asked]
    return GroundingPrompts(texts, torch.tensor([class_id for class_id, _ in asked]))


@dataclass(frozen=True)
class GenerativeBatch:
    """Prompts and answers of the generative reading."""

    input_ids: Tensor  # (G, L)
    attention_mask: Tensor  # (G, L)
    labels: Tensor  # (G, T) IGNORED on padding


def draw_generative_batch(
    crops: Sequence[Crop], size: int, tokenizer: Tokenizer, rng: random.Random
) -> GenerativeBatch:
    """One prompt per crop: 40 % ask for everything, else for one class, a fifth of these absent."""
    prompts, answers = zip(*(_question(crop, size, rng) for crop in crops), strict=True)
    input_ids, attention_mask = encode_batch(tokenizer, prompts)
    bos, eos = (token_id(tokenizer, token) for token in (BOS, EOS))
    encoded = [[bos, *tokenizer.encode(answer, add_special_tokens=False).ids, eos] for answer in answers]
    labels = torch.full((len(crops), max(map(len, encoded))), IGNORED, dtype=torch.int64)
    for row, ids in enumerate(encoded):
        labels[row, : len(ids)] = torch.tensor(ids)
    return GenerativeBatch(input_ids, attention_mask, labels)


def decoder_inputs(labels: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Labels (G, T) shifted right behind </s>, as BART's decoder starts."""
    start = torch.full_like(labels[:, :1], token_id(tokenizer, EOS))
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == IGNORED, token_id(tokenizer, PAD))


def _question(crop: Crop, size: int, rng: random.Random) -> tuple[str, str]:
    language = rng.choice(LANGUAGES)
    present = sorted({int(class_id) for class_id in crop.class_ids})
    if rng.random() < 0.4:
        prompt, chosen = rng.choice(ALL_DEFECTS[language]), list(range(len(crop.class_ids)))
    else:
        absent = [index for index in range(len(DEFECTS)) if index not in present]
        class_id = rng.choice(absent) if not present or rng.random() < 0.2 else rng.choice(present)
        label = rng.choice(words(DEFECTS[class_id], language))
        prompt = rng.choice(PHRASINGS[language]).format(label=label)
        chosen = [index for index, found in enumerate(crop.class_ids) if found == class_id]
    rng.shuffle(chosen)
    bins = quantise(crop.boxes_xyxy, (size, size))
    return prompt, "".join(
        names(DEFECTS[int(crop.class_ids[index])], language)[0] + "".join(map(location_token, bins[index].tolist()))
        for index in chosen
    )
