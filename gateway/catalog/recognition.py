"""The catalog as one request sees it, and the words by which it tells what is asked for. Knows no database."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

from export.contract.defects import DEFECTS
from export.contract.defects import normalise as spelled
from gateway.catalog.defect import Defect
from gateway.words.wording import is_instruction, normalise

NOTHING = "(?!)"  # a pattern that matches nowhere


def _by_spelling(names: Iterable[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(spelled(name), normalise(name))
    return known


# The names by which a checkpoint has learned the classes of the contract, as the encoder reads them, by the spelling in
# which they are compared; the first is the usual one.
LEARNED = {defect.id: _by_spelling((*defect.names_en, *defect.names_zh, defect.id)) for defect in DEFECTS}


class Catalog:
    """The defects of one revision, in order, and their names."""

    def __init__(self, revision: int, defects: Sequence[Defect]) -> None:
        self.revision = revision
        self.defects = tuple(defects)
        self.by_id: Mapping[str, Defect] = {defect.id: defect for defect in defects}

    def everything(self, trained: Collection[str]) -> tuple[Defect, ...]:
        """What a request without words asks for: every enabled defect that can be found.

        That is a class that the served checkpoint was trained on, by id, or one that is described here only.
        """
        return tuple(
            defect for defect in self.defects if defect.enabled and (defect.id in trained or defect.id not in LEARNED)
        )

    def recognise(self, words: str) -> str | None:
        """The id of the defect that words are, or else name; the longest name counts. None for other words."""
        text = spelled(words)
        if text in self._names:
            return self._names[text]
        found = [match[1] or match[2] for match in self._pattern.finditer(text)]
        return self._names[max(found, key=len)] if found else None

    def wording(self, words: str) -> str:
        """What to ask the text encoder: the defect's own text where words only ask for it by name, else the words.

        A name means the same in every phrasing; the encoder, which has learned a few dozen, is spared the others.
        """
        name = self._name_asked_for(words)
        return words if name is None else asked_by(self.by_id[self._names[name]], name)

    def asked_for(self, words: str) -> str | None:
        """The id of the defect that words only ask for by name; None where they say anything else."""
        name = self._name_asked_for(words)
        return None if name is None else self._names[name]

    def _name_asked_for(self, words: str) -> str | None:
        text = spelled(words)
        if text in self._names:
            return text
        found = list(self._pattern.finditer(text))
        if not found:
            return None
        match = max(found, key=lambda each: len(each[1] or each[2]))
        rest = f"{text[: match.start()]} {text[match.end() :]}"
        return match[1] or match[2] if is_instruction(rest) else None

    @cached_property
    def _names(self) -> dict[str, str]:
        names = {name: defect.id for defect in self.defects for name in defect.all_names}
        return dict(sorted(names.items(), key=lambda item: -len(item[0])))  # the longest is tried first

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        latin = "|".join(re.escape(name) for name in self._names if name.isascii()) or NOTHING
        chinese = "|".join(re.escape(name) for name in self._names if not name.isascii()) or NOTHING
        return re.compile(rf"(?<![a-z0-9])({latin})(?:es|s)?(?![a-z0-9])|({chinese})")


def asked_by(defect: Defect, name: str = "") -> str:
    """The text that stands for a defect before the encoder, asked for by one of its names or by none.

    A class of the contract is asked for by a name that checkpoints have learned: `name` if it is one, else the usual
    one. A defect that an engineer has taught is asked for by his first description, for the encoder has never met its
    name; without one the usual name has to do.
    """
    if defect.id in LEARNED:
        learned = LEARNED[defect.id]
        return learned.get(spelled(name), next(iter(learned.values())))
    return (*defect.descriptions.en, *defect.descriptions.zh, defect.name_in("en"))[0]
