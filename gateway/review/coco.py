"""What people confirmed as a COCO file with descriptions, as docs/data.md has it. Knows no database and no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from export.contract.defects import normalise
from gateway.answer import Box
from gateway.catalog.defect import Defect
from gateway.catalog.recognition import Catalog
from gateway.catalog.seeds import SEEDS
from gateway.review.feedback import Corners, Judged
from gateway.review.recorded import RecordedAnswer, faint


@dataclass(frozen=True)
class Confirmed:
    """A defect that is there: its category, its box, and what was said about it alone."""

    category: str  # an id of the catalog; where the words named no defect, what was asked for
    box: Box | Corners
    description: str | None = None
    in_free_words: bool = False  # the category is what was asked for


def confirmed(answer: RecordedAnswer, judged: Judged, thresholds: Sequence[float]) -> list[Confirmed] | None:
    """The defects of a picture: detections that are right, and missed ones; None where it would teach wrong things.

    What has no box counts as sound in training. So every detection must have been judged, and a picture without any
    defect must have been looked at as a whole; in one that was, what lies below `thresholds`, the usual least score of
    each entry of `understood`, may be left open: the page asks for it, and shows it to nobody who does not want it.
    """
    right = {judgement.id for judgement in judged.detections if judgement.judgement == "right"}
    decided = {judgement.id for judgement in judged.detections}
    if judged.complete:
        decided |= faint(answer, thresholds)
    if {found.id for found in answer.detections} - decided:
        return None
    asked = {(entry.prompt, entry.defect): entry.asked for entry in answer.understood}
    defects = [
        Confirmed(found.defect or asked[found.prompt, None], found.box, in_free_words=found.defect is None)
        for found in answer.detections
        if found.id in right
    ]
    defects += [Confirmed(missed.defect, missed.box, missed.description) for missed in judged.missed]
    return defects if defects or judged.complete else None


class CocoFile:
    """Grows picture by picture; categories are those that have boxes, with the catalog's words in both languages."""

    def __init__(self, catalog: Sequence[Defect]) -> None:
        self._catalog = {defect.id: defect for defect in catalog}
        self._named = {
            normalise(name): defect.id for defect in catalog for name in (defect.id, *defect.names.en, *defect.names.zh)
        }
        self._words = (Catalog(0, catalog), Catalog(0, SEEDS))
        self._text_ids: dict[str, str] = {}
        self._categories: dict[str, dict[str, Any]] = {}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def can_tell_apart(self, defects: Sequence[Confirmed]) -> bool:
        """Whether none of them has an id that was deleted since, and now is the name of another defect."""
        names = [self._name(defect) for defect in defects]
        return all(name in self._catalog or normalise(name) not in self._named for name in names)

    def add(self, file_name: str, answer: RecordedAnswer, board_id: str | None, defects: Sequence[Confirmed]) -> None:
        """Adds a picture; those of one board are one group, never split between training and validation."""
        image: dict[str, Any] = {"id": len(self._images) + 1, "file_name": file_name, **dict(answer.image)}
        if board_id is not None:
            image["group"] = board_id
        self._images.append(image)
        for defect in defects:
            box = defect.box
            width, height = box.x2 - box.x1, box.y2 - box.y1
            annotation = {
                "id": len(self._annotations) + 1,
                "image_id": image["id"],
                "category_id": self._category(self._name(defect))["id"],
                "bbox": [box.x1, box.y1, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
            if defect.description is not None:
                annotation["description_ids"] = self._texts([defect.description])
            self._annotations.append(annotation)

    def tree(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "info": {"description": "reviewed inspections"},
            "text_descriptions": {text_id: text for text, text_id in self._text_ids.items()},
            "categories": list(self._categories.values()),
            "images": self._images,
            "annotations": self._annotations,
        }

    def _name(self, defect: Confirmed) -> str:
        """Of its category: free words mean the defect that they ask for by now, by the catalog or else the contract."""
        if not defect.in_free_words:
            return defect.category
        meant = (each.asked_for(defect.category) for each in self._words)
        return next(filter(None, meant), normalise(defect.category))

    def _category(self, name: str) -> dict[str, Any]:
        defect = self._catalog.get(name)  # None: asked for in free words, or deleted since
        key = name if defect else normalise(name)
        if key not in self._categories:
            entry: dict[str, Any] = {"id": len(self._categories) + 1, "name": name}
            if defect is None:
                entry["names"] = {"en" if name.isascii() else "zh": [name]}
            else:
                entry["names"] = {"en": list(defect.names.en), "zh": list(defect.names.zh)}
                entry["description_ids"] = self._texts([*defect.descriptions.en, *defect.descriptions.zh])
            self._categories[key] = entry
        return self._categories[key]

    def _texts(self, texts: Sequence[str]) -> list[str]:
        return [self._text_ids.setdefault(text, f"defect_{len(self._text_ids) + 1:03d}") for text in texts]
