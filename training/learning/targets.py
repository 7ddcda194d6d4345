"""What one batch is asked and what it should answer, for both readings."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from export.contract.defects import DEFECTS, Defect, known_defect
from export.contract.locations import location_token, quantise
from export.contract.tensors import GENERATED_TOKENS, LENGTH_BUCKETS
from training.crops.crop import Crop
from training.crops.view import View
from training.data.dataset import is_chinese, known_category
from training.learning.sentences import Sentences
from training.network.regions import locations
from training.network.tokenizer import BOS, EOS, PAD, encode_batch, token_id
from training.prompts import ALL_DEFECTS, LANGUAGES, PHRASINGS, Phrasings, ask_for, draw_phrasing, names, words

MAX_CLASSES = 16  # asked for in one step
ABSENT_CLASSES = 2  # known classes per step that the dataset does not have, so that words matter
SENTENCES = 16  # about single defects or whole pictures, asked for in one step
NEAR_MISSES = 8  # sentences of other defects that are like these, asked for in one step
CONTRAST = 3.0  # what a defect counts against a sentence about another one of its class: they differ by a word or two
CENTRE_RADIUS = 1.5  # tokens: those of one defect are at most so far from its centre each way
IGNORED = -100


@dataclass(frozen=True)
class Positives:
    """The image tokens that answer for a defect, M of them in the batch."""

    image_ids: Tensor  # (M,)
    token_ids: Tensor  # (M,) index in the grid, row by row
    class_ids: Tensor  # (M,)
    boxes_xyxy: Tensor  # (M, 4) fractions of the tile
    weights: Tensor  # (M,) what each counts in the losses
    descriptions: list[tuple[str, ...]]  # of the M defects
    # By row what else the token shows: classes and sentences of defects that got few tokens since these were taken.
    hidden: Mapping[int, frozenset[int | str]] = field(default_factory=dict)


def assign(crops: Sequence[Crop], grid: int, size: int, size_balance: float = 0.0) -> Positives:
    """The tokens whose centre lies in the central quarter of a box; the nearest one where none does.

    None is farther from its centre than one and a half tokens each way, so that a large defect does not outweigh
    small ones (the centre sampling of Tian et al., FCOS, 2019). A token inside two boxes answers for the smaller;
    where that leaves the larger one less than half of its tokens, the others are not taken for being without it.
    Each of a defect's n tokens counts n ** -size_balance: with 0 all tokens alike, with 1 all defects.
    """
    step = size / grid
    centres = (np.arange(grid) + 0.5) * step
    rows: list[tuple[int, int, int]] = []
    boxes: list[NDArray[np.float32]] = []
    weights: list[float] = []
    descriptions: list[tuple[str, ...]] = []
    hidden: dict[int, frozenset[int | str]] = {}
    for image_id, crop in enumerate(crops):
        taken: dict[int, int] = {}  # the row of each token
        area = np.prod(crop.boxes_xyxy[:, 2:] - crop.boxes_xyxy[:, :2], axis=1)
        for index in np.argsort(area, kind="stable"):
            box = crop.boxes_xyxy[index]
            columns = _central(centres, box[0], box[2], CENTRE_RADIUS * step)
            lines = _central(centres, box[1], box[3], CENTRE_RADIUS * step)
            central = [int(y * grid + x) for y in lines for x in columns]
            own = [token for token in central if token not in taken]
            if 2 * len(own) < len(central):
                for row in (taken[token] for token in central if token in taken):
                    also = {int(crop.class_ids[index]), *crop.descriptions[index]}
                    hidden[row] = hidden.get(row, frozenset()) | also
            taken.update(zip(own, range(len(rows), len(rows) + len(own)), strict=True))
            rows += [(image_id, token, int(crop.class_ids[index])) for token in own]
            boxes += [box / np.float32(size)] * len(own)
            weights += [len(own) ** -size_balance for _ in own]  # which may be none
            descriptions += [crop.descriptions[index]] * len(own)
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
    placed = torch.from_numpy(np.array(boxes, np.float32)).reshape(-1, 4)
    return Positives(table[:, 0], table[:, 1], table[:, 2], placed, torch.tensor(weights), descriptions, hidden)


def _central(centres: NDArray[np.float64], low: float, high: float, farthest: float) -> NDArray[np.int64]:
    middle, reach = (low + high) / 2, min((high - low) / 4, farthest)
    inside = np.flatnonzero(np.abs(centres - middle) <= reach)
    return inside if len(inside) else np.array([np.abs(centres - middle).argmin()])


@dataclass(frozen=True)
class GroundingPrompts:
    """Texts of one step and what each asks for: a class, by its index, or the defects that carry a sentence.

    An index past the dataset's categories is of a class that no image shows. `near_misses` are sentences of defects
    that no image shows, and the classes of these; `said` are the classes that a sentence describes as a whole;
    `unsure` are, for a class asked for, those that may be the same by another name.
    """

    texts: list[str]
    asked: list[int | str]
    near_misses: Mapping[str, frozenset[int]] = field(default_factory=dict)
    said: Mapping[str, frozenset[int]] = field(default_factory=dict)
    unsure: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def relevance(self, found: Positives) -> tuple[Tensor, Tensor]:
        """Whether M positives answer P prompts (M, P) of 0 and 1, and what each pair counts (M, P).

        A sentence is known not to hold for a defect that has sentences of its own, and for one of a class of which
        no defect carries it; another one of the same class counts CONTRAST against it, or nothing where it has no
        sentences, since then nothing is known. Nor is it of any such defect where no class is known to be meant, as
        with most sparse labels. Nothing is known of what a token shows beside its defect: see `Positives.hidden`.
        """
        classes = found.class_ids.tolist()
        answers = torch.zeros(len(classes), len(self.asked))
        counts = torch.ones_like(answers)
        for column, asked in enumerate(self.asked):
            if isinstance(asked, int):
                answers[:, column] = (found.class_ids == asked).to(answers.dtype)
                same = self.unsure.get(asked, frozenset())
                counts[:, column] = torch.tensor([float(class_id not in same) for class_id in classes])
                continue
            whole = self.said.get(asked, frozenset())
            described = [
                asked in texts or class_id in whole for class_id, texts in zip(classes, found.descriptions, strict=True)
            ]
            answers[:, column] = torch.tensor(described, dtype=answers.dtype)
            alike = {class_id for class_id, hit in zip(classes, described, strict=True) if hit}
            alike |= self.near_misses.get(asked, frozenset()) | whole
            for row, (class_id, texts) in enumerate(zip(classes, found.descriptions, strict=True)):
                if described[row]:
                    continue
                if not alike:
                    counts[row, column] = float(bool(texts))
                elif class_id in alike:
                    counts[row, column] = CONTRAST if texts else 0
        for row, also in found.hidden.items():
            for column, asked in enumerate(self.asked):
                if not answers[row, column] and also & {asked, *self._meant(asked)}:
                    counts[row, column] = 0
        return answers, counts

    def _meant(self, asked: int | str) -> frozenset[int]:
        """Other classes that may answer: those called alike, or those that a sentence describes as a whole."""
        return self.unsure.get(asked, frozenset()) if isinstance(asked, int) else self.said.get(asked, frozenset())


def draw_grounding_prompts(
    categories: Sequence[Defect],
    crops: Sequence[Crop],
    rng: random.Random,
    phrasings: Phrasings = PHRASINGS,
    known: Sentences | None = None,
) -> GroundingPrompts:
    """Classes in each language, some absent ones, and sentences that the crops carry, all in random phrasings.

    Of `known` sentences some that no crop carries are asked for as well, each like one that a crop does. A class of
    the dataset that is no known defect may be an absent one by a name of its own.
    """
    shown = sorted({int(class_id) for crop in crops for class_id in crop.class_ids})
    hidden = [index for index in range(len(categories)) if index not in set(shown)]
    chosen = rng.sample(shown, min(len(shown), MAX_CLASSES))
    chosen += rng.sample(hidden, min(len(hidden), MAX_CLASSES - len(chosen)))
    absent = _absent(categories)
    absent = rng.sample(absent, min(len(absent), ABSENT_CLASSES))
    pairs: list[tuple[str, int | str]] = [
        (draw_phrasing(categories[index], language, rng, phrasings), index)
        for index in sorted(chosen)
        for language in LANGUAGES
    ]
    pairs += [
        (draw_phrasing(defect, rng.choice(LANGUAGES), rng, phrasings), len(categories) + number)
        for number, defect in enumerate(absent)
    ]
    own = sorted({text for crop in crops for texts in crop.descriptions for text in texts})
    sparse = sorted({text for crop in crops for text in crop.sparse})
    sentences = rng.sample(own, min(len(own), SENTENCES - min(len(sparse), SENTENCES // 2)))
    sentences += rng.sample(sparse, min(len(sparse), SENTENCES - len(sentences)))
    near_misses: dict[str, frozenset[int]] = {}
    if known is not None:
        others = [known.near_miss(text, {*own, *sparse}, rng) for text in sentences[:NEAR_MISSES]]
        near_misses = {other: known.classes[other] for other in others if other is not None}
    pairs += [(_ask_for_sentence(text, rng, phrasings), text) for text in dict.fromkeys([*sentences, *near_misses])]
    own_names = frozenset(index for index, category in enumerate(categories) if not _is_known(category))
    return GroundingPrompts(
        [text for text, _ in pairs],
        [asked for _, asked in pairs],
        near_misses,
        said=_said(categories),
        unsure={len(categories) + number: own_names for number in range(len(absent))},
    )


def _is_known(category: Defect) -> bool:
    return any(known_defect(word) for word in (category.id, *category.names_en, *category.names_zh))


def _said(categories: Sequence[Defect]) -> dict[str, frozenset[int]]:
    """The classes, by each sentence that describes the whole of them."""
    said: dict[str, frozenset[int]] = {}
    for index, category in enumerate(categories):
        for text in (*category.descriptions_en, *category.descriptions_zh):
            said[text] = said.get(text, frozenset()) | {index}
    return said


def _absent(categories: Sequence[Defect]) -> list[Defect]:
    """Known defects that the dataset does not have, under whatever name."""
    present = {known_category(word).id for each in categories for word in (each.id, *each.names_en, *each.names_zh)}
    return [defect for defect in DEFECTS if defect.id not in present]


def _not_shown(categories: Sequence[Defect], present: Sequence[int]) -> list[Defect]:
    """What a picture that shows these classes is known not to show."""
    hidden = [category for index, category in enumerate(categories) if index not in present]
    if all(_is_known(categories[index]) for index in present):  # else an absent one may be there by another name
        hidden += _absent(categories)
    return hidden


def _ask_for_sentence(text: str, rng: random.Random, phrasings: Phrasings) -> str:
    return text if rng.random() < 0.5 else ask_for(text, "zh" if is_chinese(text) else "en", rng, phrasings)


@dataclass(frozen=True)
class GenerativeBatch:
    """Prompts and answers of the generative reading."""

    input_ids: Tensor  # (G, L)
    attention_mask: Tensor  # (G, L)
    labels: Tensor  # (G, T) IGNORED on padding


def draw_generative_batch(
    categories: Sequence[Defect],
    crops: Sequence[Crop],
    size: int,
    tokenizer: Tokenizer,
    rng: random.Random,
    phrasings: Phrasings = PHRASINGS,
    views: Sequence[View | None] | None = None,
) -> GenerativeBatch:
    """One prompt per crop: 40 % ask for everything, else for one class or sentence, a fifth of these absent.

    Where a view stands in a crop's place, the region in it is asked for its outline instead. An answer has at most
    GENERATED_TOKENS, more than which the service never reads.
    """
    asked = [
        _question(categories, crop, size, rng, phrasings)
        if view is None
        else (locations(view.region), [locations(view.region) + locations(view.outline)])
        for crop, view in zip(crops, views or [None] * len(crops), strict=True)
    ]
    input_ids, attention_mask = encode_batch(tokenizer, [prompt for prompt, _ in asked], LENGTH_BUCKETS[-1])
    encoded = [_encode_answer(tokenizer, pieces) for _, pieces in asked]
    labels = torch.full((len(crops), max(map(len, encoded))), IGNORED, dtype=torch.int64)
    for row, (ids, crop) in enumerate(zip(encoded, crops, strict=True)):
        if not crop.sparse:  # its boxes are not complete: there is no right answer to learn
            labels[row, : len(ids)] = torch.tensor(ids)
    return GenerativeBatch(input_ids, attention_mask, labels)


def _encode_answer(tokenizer: Tokenizer, pieces: Sequence[str]) -> list[int]:
    """<s>, the boxes or the outline, and </s>; of more than fit the first, without an end, which is not there yet."""
    bos, eos = (token_id(tokenizer, token) for token in (BOS, EOS))
    ids = [bos]
    for encoding in tokenizer.encode_batch(list(pieces), add_special_tokens=False):
        if len(ids) + len(encoding.ids) >= GENERATED_TOKENS:
            return ids
        ids += encoding.ids
    return [*ids, eos]


def decoder_inputs(labels: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Labels (G, T) shifted right behind </s>, as BART's decoder starts."""
    start = torch.full_like(labels[:, :1], token_id(tokenizer, EOS))
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == IGNORED, token_id(tokenizer, PAD))


def _question(
    categories: Sequence[Defect], crop: Crop, size: int, rng: random.Random, phrasings: Phrasings
) -> tuple[str, list[str]]:
    """A prompt, and its answer box by box."""
    language = rng.choice(LANGUAGES)
    present = sorted({int(class_id) for class_id in crop.class_ids})
    sentences = sorted({text for texts in crop.descriptions for text in texts})
    if rng.random() < 0.4:
        prompt, chosen = rng.choice(ALL_DEFECTS[language]), list(range(len(crop.class_ids)))
    elif sentences and rng.random() < 0.3:
        sentence = rng.choice(sentences)
        language = "zh" if is_chinese(sentence) else "en"
        prompt = _ask_for_sentence(sentence, rng, phrasings)
        chosen = [index for index, texts in enumerate(crop.descriptions) if sentence in texts]
    elif (not present or rng.random() < 0.2) and (hidden := _not_shown(categories, present)):
        defect = rng.choice(hidden)
        prompt, chosen = ask_for(rng.choice(words(defect, language)), language, rng, phrasings), []
    else:
        class_id = rng.choice(present)
        prompt = ask_for(rng.choice(words(categories[class_id], language)), language, rng, phrasings)
        chosen = [index for index, found in enumerate(crop.class_ids) if found == class_id]
    rng.shuffle(chosen)
    bins = quantise(crop.boxes_xyxy, (size, size))
    return prompt, [
        names(categories[int(crop.class_ids[index])], language)[0] + "".join(map(location_token, bins[index].tolist()))
        for index in chosen
    ]
