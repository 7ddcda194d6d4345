"""The defects that a request without a prompt asks for, and the names by which words are recognised."""

import re
import unicodedata
from collections.abc import Sequence

from export.contract.defects import DEFECTS, Defect
from gateway.errors import UnavailableError
from gateway.wording import is_instruction


class Catalog:
    """The classes that the served checkpoint was trained on, and the names of all known ones."""

    def __init__(self, defect_ids: Sequence[str]) -> None:
        known = {defect.id: defect for defect in DEFECTS}
        unknown = [defect_id for defect_id in defect_ids if defect_id not in known]
        if unknown:
            raise UnavailableError(f"the served detector names unknown defects: {', '.join(unknown)}; export it again")
        self.defects: tuple[Defect, ...] = tuple(known[defect_id] for defect_id in defect_ids)
        names = {
            normalise(name): defect.id for defect in DEFECTS for name in (defect.id, *defect.names_en, *defect.names_zh)
        }
        self._names = dict(sorted(names.items(), key=lambda item: -len(item[0])))  # the longest is tried first
        latin = "|".join(re.escape(name) for name in self._names if name.isascii())
        chinese = "|".join(re.escape(name) for name in self._names if not name.isascii())
        self._pattern = re.compile(rf"(?<![a-z0-9_])({latin})(?:es|s)?(?![a-z0-9_])|({chinese})")

    def recognise(self, prompt: str) -> str | None:
        """The id of the class that a prompt is, or else names; the longest name counts. None for other words."""
        text = normalise(prompt)
        if text in self._names:
            return self._names[text]
        found = [match[1] or match[2] for match in self._pattern.finditer(text)]
        return self._names[max(found, key=len)] if found else None

    def wording(self, prompt: str) -> str:
        """What to ask the text encoder: the name alone where a prompt only asks for a class by name, else the prompt.

        A name means the same in every phrasing; the encoder, which has learned a few dozen, is spared the others.
        """
        text = normalise(prompt)
        found = list(self._pattern.finditer(text))
        if not found:
            return prompt
        match = max(found, key=lambda each: len(each[1] or each[2]))
        rest = f"{text[: match.start()]} {text[match.end() :]}"
        return (match[1] or match[2]) if is_instruction(rest) else prompt


def normalise(text: str) -> str:
    """Compatibility forms, case and spacing made one, as the tokenizer does."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
