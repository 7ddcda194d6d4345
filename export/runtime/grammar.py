"""The grammar of an answer, as a table of what may follow: `(label <loc_x1><loc_y1><loc_x2><loc_y2>)* </s>`.

A label is one or more text tokens. A prompt that holds a region is answered by the outline of what is in it:
`(<loc_x><loc_y>){3,16} </s>`, behind the region itself, which is given. Tokens are indices into the generator's own
vocabulary, which leaves out what an answer never holds; a file beside the engines says which ids they stand for. Knows
nothing of networks.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.contract.locations import FEWEST_POINTS, MOST_POINTS, NUM_BINS

FILE = "vocabulary.json"
# States: before a label, in one, after 1, 2 and 3 locations of a box, the end.
START, LABELLED, X1_READ, Y1_READ, X2_READ, DONE = range(6)
OUTLINE = 6  # and behind it the states of an outline after 1 to 32 locations
REGION = 4  # locations: x1, y1, x2, y2


class VocabularyError(ValueError):
    """The file of a generator's vocabulary is missing or is none."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a generator knows, in the order of the checkpoint's ids."""

    token_ids: NDArray[np.int64]  # (V,) of the checkpoint, ascending
    bos: int  # this and the others: indices into `token_ids`
    pad: int
    eos: int
    start: int  # what the decoder is given before <s>
    first_location: int  # <loc_0>; the other 999 follow
    slots: int  # learned inputs in place of a box's y1 and x2, with the indices behind the vocabulary's: 2, or 0
    labels: tuple[tuple[int, ...], ...]  # that the checkpoint learned to write; others are possible

    def region(self, input_ids: NDArray[np.int64]) -> list[int]:
        """The region that a prompt (L,) holds, as indices of its four locations; none in a prompt of words alone."""
        bins = input_ids - self.token_ids[self.first_location]
        located = bins[(bins >= 0) & (bins < NUM_BINS)]
        return (located + self.first_location).tolist() if len(located) == REGION else []

    def save(self, folder: Path) -> None:
        """Writes it beside the engines of a version."""
        content = {name: value for name, value in vars(self).items() if name != "token_ids"}
        text = json.dumps({**content, "token_ids": self.token_ids.tolist()})
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            VocabularyError: it is missing, or is not what `save` writes.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            token_ids = np.array(content["token_ids"], dtype=np.int64)
            labels = tuple(map(tuple, content["labels"]))
            return cls(**{**content, "token_ids": token_ids, "labels": labels})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise VocabularyError(
                f"{path} is not the vocabulary of a generator ({error!r}); export the model again"
            ) from error


class Grammar:
    """Which tokens may follow, for a batch of answers under way."""

    def __init__(self, vocabulary: Vocabulary, batch: int, start: int = START) -> None:
        """`start` is the state that the answers begin in: START, or OUTLINE."""
        text, location, end, nothing = np.zeros((4, len(vocabulary.token_ids)), dtype=np.uint8)
        location[vocabulary.first_location : vocabulary.first_location + NUM_BINS] = 1
        text[:] = 1 - location
        text[[vocabulary.bos, vocabulary.pad, vocabulary.eos]] = 0
        end[vocabulary.eos] = nothing[vocabulary.pad] = 1
        kinds = np.stack([text | end, text | location, location, nothing, location | end, end])  # (6, V)
        written = np.arange(2 * MOST_POINTS + 1)  # locations of an outline
        whole = (written % 2 == 0) & (written >= 2 * FEWEST_POINTS)
        outline = np.where(written == written[-1], 5, np.where(whole, 4, 2))
        self._allowed, self._rows = kinds, np.concatenate([[0, 1, 2, 2, 2, 3], outline])
        # The next state, from each state by the kind of token: text, location or slot, </s> or <pad>.
        self._kinds = np.append(np.where(text, 0, np.where(location, 1, 2)), np.full(vocabulary.slots, 1))
        boxes = [[1, 0, 5], [1, 2, 5], [2, 3, 5], [3, 4, 5], [4, 0, 5], [5, 5, 5]]
        self._next = np.array(boxes + [[OUTLINE + n, OUTLINE + min(n + 1, written[-1]), DONE] for n in written])
        self._states = np.full(batch, start)

    @property
    def done(self) -> bool:
        """Whether all answers have ended."""
        return bool((self._states == DONE).all())

    def allowed(self) -> NDArray[np.uint8]:
        """(B, V) 1 where a token may come next."""
        return self.allowed_in(self._states)

    def advance(self, tokens: NDArray[np.int64]) -> None:
        """Takes note of the tokens (B,) that were chosen."""
        self._states = self._next[self._states, self._kinds[tokens]]

    def allowed_in(self, states: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(..., V) 1 where a token may come next in states (...)."""
        allowed: NDArray[np.uint8] = self._allowed[self._rows[states]]
        return allowed

    def state_behind(self, state: int, token: int) -> int:
        """The state that a token or a slot leads to."""
        return int(self._next[state, self._kinds[token]])
