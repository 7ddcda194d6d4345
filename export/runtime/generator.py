"""The generative reading: one model that owns its engines, vision, encoder and decoder, and the loop over the last.

Greedy, under the grammar of export/runtime/grammar.py, several tokens a step where export/runtime/answer.py has
guesses. A prompt that holds a region is answered by the outline of what is in it. An image that several prompts of a
batch are about is seen once. What the encoder says of an image and its prompt is handed to every step of the decoder;
the decoder's caches have a fixed capacity and are filled here, so no array ever grows. Answers that have ended leave
the batch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.tensors import GENERATED_TOKENS, GENERATOR, STEP_TOKENS, graphs
from export.runtime.answer import Answer
from export.runtime.engine import Arrays, Engine, load_engine
from export.runtime.grammar import DONE, OUTLINE, START, Grammar, Vocabulary


class Generator:
    """An engine to those who call it: GENERATOR's inputs in, its outputs out, the batch in front."""

    def __init__(
        self,
        vision: Engine,
        encoder: Engine,
        decoder: Engine,
        vocabulary: Vocabulary,
        max_tokens: int = GENERATED_TOKENS,
        step_tokens: int = STEP_TOKENS,
    ) -> None:
        """`max_tokens` of one answer bound its time; no more than the caches hold.

        `step_tokens` are fed to the decoder at once at most; with 1 nothing is guessed.
        """
        self._vision, self._encoder, self._decoder = vision, encoder, decoder
        self._vocabulary, self._max_tokens, self._step_tokens = vocabulary, max_tokens, step_tokens
        self._grammar = Grammar(vocabulary, 1)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Answers a batch of images (B, S, S, 3) and prompts (B, L), until all answers have ended."""
        passed = self._encoder.run(self._seen(inputs))
        caches = _empty_caches(passed)
        vocabulary, batch = self._vocabulary, len(inputs["INPUT_IDS"])
        answers = [
            Answer(vocabulary, self._grammar, self._max_tokens, self._step_tokens, vocabulary.region(prompt))
            for prompt in inputs["INPUT_IDS"]
        ]
        present = answers  # in the batch, in the order of the arrays' rows
        while not all(answer.done for answer in present):
            going = [row for row, answer in enumerate(present) if not answer.done]
            if 4 * len(going) <= 3 * len(present):  # else copying the rest would cost more than the rows that ended
                present = [present[row] for row in going]
                passed, caches = ({name: array[going] for name, array in each.items()} for each in (passed, caches))
            self._step(present, passed, caches)
        tokens = np.full((batch, GENERATED_TOKENS), vocabulary.pad)
        log_probs = np.zeros((batch, GENERATED_TOKENS), np.float32)
        for row, answer in enumerate(answers):
            tokens[row, : len(answer.tokens)] = answer.tokens
            log_probs[row, : len(answer.tokens)] = answer.log_probs
        return {"TOKENS": vocabulary.token_ids[tokens], "LOG_PROBS": log_probs}

    def follow(self, inputs: Arrays, answers: NDArray[np.int64], step_tokens: int | None = None) -> NDArray[np.int64]:
        """The token that it would choose at each place of given answers (B, T), knowing what stands before the place.

        So one other choice does not count again at every place behind it (teacher forcing). <pad> is followed by <pad>.
        `step_tokens` are fed at once, where it is not to be its own number.
        """
        step_tokens = step_tokens or self._step_tokens
        passed = self._encoder.run(self._seen(inputs))
        caches = _empty_caches(passed)
        vocabulary, grammar = self._vocabulary, self._grammar
        given = np.searchsorted(vocabulary.token_ids, answers)
        fed = np.full((len(given), given.shape[1] + 1), vocabulary.pad)
        states = np.full(fed.shape, DONE)
        begins = []  # the place of the input behind which each answer begins
        for row, (own, prompt) in enumerate(zip(given, inputs["INPUT_IDS"], strict=True)):
            region = vocabulary.region(prompt)
            certain = [vocabulary.start, vocabulary.bos, *region]
            begins.append(len(certain) - 1)
            whole = [*certain, *own][: fed.shape[1]]  # an outline is so short that nothing but <pad> is cut off
            fed[row, : len(whole)] = whole
            states[row, : len(certain)] = state = OUTLINE if region else START
            for place in range(len(certain), len(whole)):
                states[row, place] = state = grammar.state_behind(state, whole[place])
        chosen = []
        for place in range(0, fed.shape[1], step_tokens):
            step = slice(place, place + step_tokens)
            answer = self._decoder.run(
                {
                    "TOKENS": fed[:, step],
                    "POSITION": np.full((len(fed), 1), place),
                    "ALLOWED": grammar.allowed_in(states[:, step]),
                    **passed,
                    **caches,
                }
            )
            for row in range(len(fed)):
                _write(answer, caches, row, place, fed[:, step].shape[1])
            chosen.append(answer["NEXT"])
        behind = np.concatenate(chosen, axis=1)
        following = np.full(given.shape, vocabulary.pad)
        for row, begin in enumerate(begins):
            following[row, : behind.shape[1] - begin] = behind[row, begin:]
        token_ids: NDArray[np.int64] = vocabulary.token_ids[following]
        return token_ids

    def _step(self, answers: Sequence[Answer], passed: Arrays, caches: dict[str, NDArray[np.float32]]) -> None:
        """Takes each answer as far as one pass of the decoder goes."""
        fed = [([self._vocabulary.pad], [DONE]) if answer.done else answer.inputs() for answer in answers]
        shape = len(answers), max(len(tokens) for tokens, _ in fed)
        tokens, states = np.full(shape, self._vocabulary.pad), np.full(shape, DONE)
        for row, (own_tokens, own_states) in enumerate(fed):
            tokens[row, : len(own_tokens)], states[row, : len(own_states)] = own_tokens, own_states
        step = {
            "TOKENS": tokens,
            "POSITION": np.array([[0 if answer.done else answer.position] for answer in answers]),
            "ALLOWED": self._grammar.allowed_in(states),
        }
        response = self._decoder.run({**step, **passed, **caches})
        following, log_probs = response["NEXT"].tolist(), response["LOG_PROB"].tolist()
        for row, answer in enumerate(answers):
            if not answer.done:
                place = answer.position
                _write(response, caches, row, place, answer.take(following[row], log_probs[row]))

    def _seen(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The encoder's inputs: what each image looks like in place of the image."""
        places: dict[bytes, int] = {}
        rows = [places.setdefault(image.tobytes(), len(places)) for image in inputs["IMAGE"]]
        images = inputs["IMAGE"][[rows.index(place) for place in range(len(places))]]
        features = self._vision.run({"IMAGE": images})["IMAGE_FEATURES"][rows]
        return {"IMAGE_FEATURES": features, **{name: array for name, array in inputs.items() if name != "IMAGE"}}


def load_generator(folder: Path, load: Callable[[Path, str], Engine] = load_engine) -> Generator:
    """The generator of a version folder, its engines loaded by `load`.

    Raises:
        EngineError: an engine is missing or cannot be read.
        VocabularyError: so is the file of its vocabulary.
    """
    vision, encoder, decoder = (load(folder, name) for name in graphs(GENERATOR))
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


def _write(answer: Arrays, caches: dict[str, NDArray[np.float32]], row: int, place: int, count: int) -> None:
    """Puts the first `count` columns of a step of one answer into its caches; what stands behind them is for no one."""
    end = min(place + count, GENERATED_TOKENS)
    for name, cache in caches.items():
        columns = answer[name.replace("SELF", "NEW")][row]
        if "KEYS" in name:
            cache[row, :, :, place:end] = columns[:, :, : end - place]
        else:
            cache[row, :, place:end] = columns[:, : end - place]
