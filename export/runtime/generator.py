"""The generative reading: one model that owns its engines, vision, encoder and decoder, and the loop over the last.

Greedy, under the grammar of export/runtime/grammar.py. An image that several prompts of a batch are about is seen once.
What the encoder says of an image and its prompt is handed to every step of the decoder; the decoder's caches have a
fixed capacity and are filled here, so no array ever grows.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import GENERATED_TOKENS, GENERATOR, graphs
from export.runtime.engine import Arrays, Engine, load_engine
from export.runtime.grammar import Grammar, Vocabulary


class Generator:
    """An engine to those who call it: GENERATOR's inputs in, its outputs out, the batch in front."""

    def __init__(
        self,
        vision: Engine,
        encoder: Engine,
        decoder: Engine,
        vocabulary: Vocabulary,
        max_tokens: int = GENERATED_TOKENS,
    ) -> None:
        """`max_tokens` of one answer bound its time; no more than the caches hold."""
        self._vision, self._encoder, self._decoder = vision, encoder, decoder
        self._vocabulary, self._max_tokens = vocabulary, max_tokens

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Answers a batch of images (B, S, S, 3) and prompts (B, L), until all answers have ended."""
        return self._decode(inputs, None)

    def follow(self, inputs: Arrays, answers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The token that it would choose at each place of given answers (B, T), knowing what stands before the place.

        So one other choice does not count again at every place behind it (teacher forcing). <pad> is followed by <pad>.
        """
        tokens: NDArray[np.int64] = self._decode(inputs, answers)["TOKENS"]
        return tokens

    def _decode(self, inputs: Arrays, answers: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
        passed = self._encoder.run(self._seen(inputs))
        caches = _empty_caches(passed)
        vocabulary, batch = self._vocabulary, len(inputs["INPUT_IDS"])
        grammar = Grammar(vocabulary, batch)
        tokens = np.full((batch, GENERATED_TOKENS), vocabulary.pad)
        log_probs = np.zeros((batch, GENERATED_TOKENS), np.float32)
        token = np.full((batch, 1), vocabulary.start)
        for place in range(self._max_tokens + 1):
            position = np.full((batch, 1), place)
            step = {"TOKEN": token, "POSITION": position, "ALLOWED": grammar.allowed()}
            answer = self._decoder.run({**step, **passed, **caches})
            if place < self._max_tokens:  # the last token has no successor
                _write(answer, caches, place)
            if place == 0:
                token = np.full((batch, 1), vocabulary.bos)  # forced: an answer begins behind it
                continue
            token = answer["NEXT"]
            tokens[:, place - 1] = token[:, 0]
            log_probs[:, place - 1] = answer["LOG_PROB"][:, 0]
            if answers is not None:
                token = np.searchsorted(vocabulary.token_ids, answers[:, place - 1 : place])
            grammar.advance(token[:, 0])
            if grammar.done:
                break
        return {"TOKENS": vocabulary.token_ids[tokens], "LOG_PROBS": log_probs}

    def _seen(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The encoder's inputs: what each image looks like in place of the image."""
        places: dict[bytes, int] = {}
        rows = [places.setdefault(image.tobytes(), len(places)) for image in inputs["IMAGE"]]
        images = inputs["IMAGE"][[rows.index(place) for place in range(len(places))]]
        features = self._vision.run({"IMAGE": images})["IMAGE_FEATURES"][rows]
        return {"IMAGE_FEATURES": features, **{name: array for name, array in inputs.items() if name != "IMAGE"}}


def load_generator(folder: Path) -> Generator:
    """The generator of a version folder.

    Raises:
        EngineError: an engine is missing or cannot be read.
        VocabularyError: so is the file of its vocabulary.
    """
    vision, encoder, decoder = (load_engine(folder, name) for name in graphs(GENERATOR))
    return Generator(vision, encoder, decoder, Vocabulary.load(folder))


def _empty_caches(passed: Arrays) -> dict[str, NDArray[np.float32]]:
    """Zeros: the decoder hides the places that are not filled yet, but NaN would shine through."""
    caches = {}
    for name, array in passed.items():
        kind, _, layer = name.rpartition("_")
        batch, heads, *_ = array.shape
        if kind == "CROSS_KEYS":  # (B, H, W, S)
            caches[f"SELF_KEYS_{layer}"] = np.zeros((batch, heads, array.shape[2], GENERATED_TOKENS), np.float32)
        elif kind == "CROSS_VALUES":  # (B, H, S, W)
            caches[f"SELF_VALUES_{layer}"] = np.zeros((batch, heads, GENERATED_TOKENS, array.shape[3]), np.float32)
    return caches


def _write(answer: Arrays, caches: dict[str, NDArray[np.float32]], place: int) -> None:
    for name, cache in caches.items():
        column = answer[name.replace("SELF", "NEW")]
        if "KEYS" in name:
            cache[..., place] = column[..., 0]
        else:
            cache[:, :, place] = column[:, :, 0]
