"""A COCO file as typed records: the shape of its JSON, fault by fault.

Does not know whether records agree with each other or with the images (check.py), nor arrays (coco.py).
"""

import json
import reprlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as record

from export.contract.defects import Defect
from training.data.dataset import known_category

Id = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Pixels = Annotated[int, Field(strict=True, gt=0)]
Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]
FileName = Annotated[str, Field(strict=True, pattern="^[^\\x00]+$")]
DescriptionIds = tuple[Annotated[str, Field(strict=True)], ...]
TEXT: TypeAdapter[str] = TypeAdapter(Text)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a dataset and where; a warning leaves it usable."""

    place: str  # 'annotations[17] (id 4711)'
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        line = f"{self.severity}: {self.place}: {self.message}"
        return "\\n".join(line.splitlines())  # one line, whatever a file name holds


@record(frozen=True, slots=True)
class ImageRecord:
    """An entry of `images`; file_name and template are relative to the COCO file's folder."""

    id: Id
    file_name: FileName
    width: Pixels
    height: Pixels
    group: Annotated[str, Field(strict=True)] = ""
    description_ids: DescriptionIds = ()
    template: FileName | None = None  # the same board without defects, aligned with it


@record(frozen=True, slots=True, config=ConfigDict(extra="forbid"))  # another language would be lost
class NamesRecord:
    """The names of a category by language, the usual one first."""

    en: tuple[Text, ...] = ()
    zh: tuple[Text, ...] = ()


@record(frozen=True, slots=True)
class CategoryRecord:
    """An entry of `categories`; without `names`, `name` is the only one, or that of a known defect."""

    id: Id
    name: Text
    names: NamesRecord | None = None
    description_ids: DescriptionIds = ()

    def as_defect(self) -> Defect:
        """The class that is meant, without its `description_ids`: the known defect of that name, else one of its own.

        Given `names` are all that it has. Where none of them is one of the known defect, `name` is but an id.
        """
        known = known_category(self.name)
        if self.names is None:
            return known
        is_known = any(known_category(name).id == known.id for name in (*self.names.en, *self.names.zh))
        return Defect(known.id if is_known else self.name, self.names.en, self.names.zh, (), ())


@record(frozen=True, slots=True)
class AnnotationRecord:
    """An entry of `annotations`: bbox is x, y, width, height in pixels, a polygon is x1, y1, x2, y2, ..."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[Number, Number, Number, Number]
    segmentation: tuple[tuple[Number, ...], ...] = ()
    description_ids: DescriptionIds = ()
    iscrowd: Literal[0] = 0  # a crowd's box is not the box of a defect


@dataclass
class Document:
    """The sound records of a file, each by its index in its section.

    `ids` and `text_ids` also know the entries that are not sound, so that one fault is not reported twice; a section
    that cannot be read at all is absent from them.
    """

    folder: Path
    images: dict[int, ImageRecord] = field(default_factory=dict)
    categories: dict[int, CategoryRecord] = field(default_factory=dict)
    annotations: dict[int, AnnotationRecord] = field(default_factory=dict)
    text_descriptions: dict[str, str] = field(default_factory=dict)
    ids: dict[str, set[int]] = field(default_factory=dict)
    text_ids: set[str] | None = None

    def path(self, image: ImageRecord) -> Path:
        """Where an image lies."""
        return self.folder / image.file_name


Record = TypeVar("Record", ImageRecord, CategoryRecord, AnnotationRecord)


def place_of(section: str, index: int, entry_id: object) -> str:
    """The place of an entry as faults name it."""
    return f"{section}[{index}] (id {reprlib.repr(entry_id)})"


def read_document(file: Path) -> tuple[Document, list[Fault]]:
    """The records of a file and the faults of its shape; raises nothing for what stands in it."""
    faults: list[Fault] = []
    document = Document(file.parent)
    tree = _read_json(file, faults)
    if not isinstance(tree, dict):
        if not faults:
            faults.append(Fault(str(file), f"holds {reprlib.repr(tree)}, expected a JSON object in COCO's format"))
        return document, faults
    # Each section leaves the tree once it is read: of a large file no two copies are held.
    document.images = _read_section(tree, "images", ImageRecord, document.ids, faults)
    document.categories = _read_section(tree, "categories", CategoryRecord, document.ids, faults)
    document.annotations = _read_section(tree, "annotations", AnnotationRecord, document.ids, faults)
    _read_texts(tree.get("text_descriptions", {}), document, faults)
    return document, faults


def _read_json(file: Path, faults: list[Fault]) -> object:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
            faults.append(Fault(str(file), f"{reprlib.repr(repeated)} stand twice in one object; a key must be unique"))
        return entries

    try:
        # A BOM, which Windows editors write, is skipped.
        return json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except OSError as error:
        faults.append(Fault(str(file), f"cannot be read: {error.strerror}"))
    except json.JSONDecodeError as error:
        faults.append(Fault(f"{file}:{error.lineno}:{error.colno}", f"is not JSON: {error.msg}"))
    except (ValueError, RecursionError) as error:
        faults.append(Fault(str(file), f"is not JSON in UTF-8: {error}"))
    return None


def _read_section(
    tree: dict[str, Any], section: str, kind: type[Record], ids: dict[str, set[int]], faults: list[Fault]
) -> dict[int, Record]:
    if section not in tree:
        faults.append(Fault(section, "is missing; expected a list, which may be empty"))
        return {}
    entries = tree.pop(section)
    if not isinstance(entries, list):
        faults.append(Fault(section, f"is {reprlib.repr(entries)}, expected a list"))
        return {}
    adapter: TypeAdapter[Record] = TypeAdapter(kind)
    sound: dict[int, Record] = {}
    seen: dict[int, int] = {}
    for index, entry in enumerate(entries):
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(entry_id, int):
            first = seen.setdefault(entry_id, index)
            if first != index:
                place = place_of(section, index, entry_id)
                faults.append(Fault(place, f"has the id of {section}[{first}]; ids must be unique"))
        try:
            sound[index] = adapter.validate_python(entry)
        except ValidationError as error:
            faults.extend(_shape_faults(place_of(section, index, entry_id), error))
    ids[section] = set(seen)
    return sound


def _read_texts(texts: object, document: Document, faults: list[Fault]) -> None:
    if not isinstance(texts, dict):
        message = f"is {reprlib.repr(texts)}, expected an object of sentences by id"
        faults.append(Fault("text_descriptions", message))
        return
    document.text_ids = set(texts)
    for text_id, text in texts.items():
        try:
            document.text_descriptions[text_id] = TEXT.validate_python(text)
        except ValidationError as error:
            faults.extend(_shape_faults(f"text_descriptions[{reprlib.repr(text_id)}]", error))


def _shape_faults(place: str, error: ValidationError) -> Iterator[Fault]:
    for detail in error.errors(include_url=False, include_context=False):
        keys = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in detail["loc"]]
        where = "".join(keys).removeprefix(".")
        came = "" if detail["type"] == "missing" else f", not {reprlib.repr(detail['input'])}"
        yield Fault(place, f"{where}: {detail['msg']}{came}".removeprefix(": "))
