"""One answer under way: what the decoder is fed next, and what of its response counts.

Behind what is certain come guesses, fed in the same step. Behind an x1 these are the slots, if there are any: what is
read there drafts x2 and y2, and no column of them stays. Else they are tokens: the drafts, the label of the box before
once there were two boxes (most answers have one or none), or the rest of a known label of which a token was read. The
decoder says of each place what comes behind it, so a guess stands where just this was read in front of it, a drafted
location where one at most DRAFT_TOLERANCE bins away was; behind a guess that does not stand nothing counts. Labels
guessed therefore change no answer, and a draft no more than so small a change of an input does; what is read is the
answer, never the draft. Of an outline, which goes on behind its given region, nothing is guessed. Knows nothing of
networks.
"""

from collections.abc import Sequence

from export.contract.locations import DRAFT_TOLERANCE, NUM_BINS
from export.runtime.grammar import DONE, LABELLED, OUTLINE, START, X1_READ, Grammar, Vocabulary


class Answer:
    """Tokens, as indices into the vocabulary, with the logarithms of their probabilities, and what leads on."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammar: Grammar,
        max_tokens: int,
        step_tokens: int,
        region: Sequence[int] = (),
    ) -> None:
        """`step_tokens` are fed at most in a step, but for the first, which has two and those of `region`, if any."""
        self._vocabulary, self._grammar = vocabulary, grammar
        self._max_tokens, self._step_tokens = max_tokens, step_tokens
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.position = 0  # of the next input: as many columns are in the caches
        self._state = OUTLINE if region else START
        self._certain = [vocabulary.start, vocabulary.bos, *region]  # not fed yet: an answer begins behind these
        self._guesses: list[int] = []
        self._drafts: list[int] = []  # of x2 and y2 behind a y1
        self._label: list[int] = []  # under way
        self._label_before: list[int] = []

    @property
    def done(self) -> bool:
        """Whether it has ended or is as long as it may be."""
        return self._state == DONE or len(self.tokens) >= self._max_tokens

    def inputs(self) -> tuple[list[int], list[int]]:
        """What the decoder is fed in the next step, and for each input the grammar's state behind it."""
        states = [self._state] * len(self._certain)
        self._guesses = self._guess()[: max(0, self._step_tokens - len(self._certain))]
        for guess in self._guesses:
            states.append(self._grammar.state_behind(states[-1], guess))
        return self._certain + self._guesses, states

    def take(self, following: list[int], log_probs: list[float]) -> int:
        """Takes what the decoder reads behind each input, and returns of how many inputs the columns are to stay."""
        place = len(self._certain) - 1
        asked = bool(self._guesses) and self._guesses == self._slots
        self._read(following[place], log_probs[place])
        self._drafts = following[place + 1 : place + 3] if asked else []
        stand = 0
        while not asked and stand < len(self._guesses) and not self.done and self._stands(self._guesses[stand]):
            stand += 1
            self._read(following[place + stand], log_probs[place + stand])
        kept = len(self._certain) + stand
        self._certain = self.tokens[-1:]
        self.position += kept
        return kept

    @property
    def _slots(self) -> list[int]:
        first = len(self._vocabulary.token_ids)
        return list(range(first, first + self._vocabulary.slots))

    def _guess(self) -> list[int]:
        if self._state == X1_READ:
            return self._slots
        if self._state == LABELLED:
            return self._rest_of_label()
        again = self._label if self._label_before else []
        return self._drafts + again if self._state == START or self._drafts else []

    def _rest_of_label(self) -> list[int]:
        known = [self._label_before, *map(list, self._vocabulary.labels)]
        begun = len(self._label)
        return next((label[begun:] for label in known if label[:begun] == self._label), [])

    def _stands(self, guess: int) -> bool:
        is_location = 0 <= guess - self._vocabulary.first_location < NUM_BINS
        return abs(self.tokens[-1] - guess) <= (DRAFT_TOLERANCE if is_location else 0)

    def _read(self, token: int, log_prob: float) -> None:
        before, self._state = self._state, self._grammar.state_behind(self._state, token)
        if self._state == LABELLED and before == START:
            self._label_before, self._label = self._label, []
        if self._state == LABELLED:
            self._label.append(token)
        self.tokens.append(token)
        self.log_probs.append(log_prob)
