"""One defect of the catalog: what an engineer can say about it, and what of that is refused.

Knows no database and no HTTP.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from export.contract.defects import normalise as spelled
from gateway.words.wording import Language, is_instruction, normalise

MAX_ENABLED = 64  # the largest prompt bucket of the contract: what one request can ask for
MAX_DEFECTS = 1000
MAX_TEXTS = 16  # names of a language, and descriptions
MAX_FAULTS = 100  # told at once
ID_PATTERN = "^[a-z][a-z0-9_]{0,63}$"
TAKEN_ID = "other"  # in metrics and rates: words that name no defect

Severity = Literal["info", "minor", "major", "critical"]


def _writable(text: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("holds a control character or half a surrogate pair")
    return text


def at_most(limit: int) -> BeforeValidator:
    """Refuses a longer list before anything in it is looked at."""

    def check(value: object) -> object:
        if isinstance(value, list | tuple) and len(value) > limit:
            raise ValueError(f"{len(value)} entries, expected {limit} at most")
        return value

    return BeforeValidator(check)


def _names_something(name: str) -> str:
    if is_instruction(normalise(name)):
        raise ValueError(f"{name!r} only asks, it names nothing: every request would seem to mean it")
    return name


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400), AfterValidator(_writable)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_writable),
    AfterValidator(_names_something),
]
DefectId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Names(_Strict):
    """Names by language, the first of each being the usual one; a prompt that says one of them means the defect."""

    en: Annotated[tuple[Name, ...], at_most(MAX_TEXTS)] = ()
    zh: Annotated[tuple[Name, ...], at_most(MAX_TEXTS)] = ()

    @model_validator(mode="after")
    def _has_one(self) -> "Names":
        if not (self.en or self.zh):
            raise ValueError("empty, expected at least one name in English (en) or Chinese (zh)")
        return self


class Descriptions(_Strict):
    """What it looks like, in sentences by language."""

    en: Annotated[tuple[Text, ...], at_most(MAX_TEXTS)] = ()
    zh: Annotated[tuple[Text, ...], at_most(MAX_TEXTS)] = ()


class DefectFields(_Strict):
    """Everything about a defect but its id."""

    names: Names
    descriptions: Descriptions = Descriptions()
    score_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None  # None: the checkpoint's
    minimum_size_px: Annotated[int, Field(ge=0, le=65_535)] = 0  # shorter side of a box
    severity: Severity = "major"
    colour: Annotated[str, StringConstraints(pattern="^#[0-9a-fA-F]{6}$", to_lower=True)] = "#d62728"  # #rrggbb
    enabled: bool = True  # whether a request without a prompt asks for it


class _Identified(_Strict):
    id: DefectId


class Defect(DefectFields, _Identified):
    """A defect with its id, which is for good: metrics, answers and the history refer to it."""

    def name_in(self, language: Language) -> str:
        """The usual name in that language, or in the other where it has none."""
        chinese_first = (*self.names.zh, *self.names.en)
        return chinese_first[0] if language == "zh" else (*self.names.en, *self.names.zh)[0]

    @property
    def all_names(self) -> tuple[str, ...]:
        """The id and every name, spelled as they are compared, here as in training: pin-hole is 'pin hole'."""
        return tuple(dict.fromkeys(spelled(name) for name in (self.id, *self.names.en, *self.names.zh)))

    @property
    def fields(self) -> DefectFields:
        """The defect without its id."""
        return DefectFields(**{name: getattr(self, name) for name in DefectFields.model_fields})


class StoredDefect(Defect):
    """A defect as the catalog holds it; `version` counts its changes from 1."""

    version: int


def explain(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    """Where each fault is and what it is, for people; the first MAX_FAULTS."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]
    return [(fault["loc"], _message(fault["type"], fault["msg"], fault["loc"])) for fault in faults]


def fault_of_id(defect_id: str) -> str | None:
    """Why a defect cannot get that id."""
    if not re.fullmatch(ID_PATTERN, defect_id):
        return f"the id is {defect_id!r}, expected {ID_PATTERN}"
    if is_instruction(normalise(defect_id)):
        return f"the id {defect_id!r} only asks, and an id is a name too: every request would seem to mean it"
    if defect_id == TAKEN_ID:
        return f"the id {defect_id!r} stands for words that name no defect; give another"
    return None


def faults_between(defects: Sequence[Defect]) -> list[tuple[str, str]]:
    """What is wrong with the defects together: (id of a defect, fault), none for a catalog that can be used."""
    holders: Mapping[str, list[str]] = defaultdict(list)
    for defect in defects:
        for name in defect.all_names:
            holders[name].append(defect.id)
    faults = [
        (others[-1], f"{name!r} already names {others[0]}; a name means one defect")
        for name, others in holders.items()
        if len(set(others)) > 1
    ]
    enabled = [defect.id for defect in defects if defect.enabled]
    if len(enabled) > MAX_ENABLED:
        faults.append((enabled[-1], f"{len(enabled)} defects are enabled, one request asks for {MAX_ENABLED} at most"))
    if len(defects) > MAX_DEFECTS:
        faults.append((defects[-1].id, f"{len(defects)} defects, the catalog holds {MAX_DEFECTS} at most"))
    return faults


def _message(kind: str, message: str, where: tuple[int | str, ...]) -> str:
    if kind == "extra_forbidden":
        known = {"names": Names, "descriptions": Descriptions}.get(str(where[-2]) if len(where) > 1 else "", Defect)
        return f"unknown name; known are {', '.join(known.model_fields)}"
    if where and where[-1] == "colour":  # in YAML an unquoted # begins a comment
        return "expected '#rrggbb' in quotes" if kind == "string_type" else "expected #rrggbb, six hexadecimal digits"
    if where and where[-1] == "id":
        return "expected a to z, 0 to 9 and _, a letter first, at most 64 characters"
    return message.removeprefix("Value error, ")
