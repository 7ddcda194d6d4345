"""What a request's words come to: the rows that the models are asked, one for each prompt or defect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.answer import Understood
from gateway.catalog.defect import MAX_ENABLED, Defect
from gateway.catalog.recognition import Catalog, asked_by
from gateway.errors import ParameterError
from gateway.models.served import Served
from gateway.words.instruction import Instruction, read_instruction


@dataclass(frozen=True)
class Question:
    """One row: what was understood, the defect that it names, what the text encoder gets, and the least score.

    `usual_threshold` is the least score of a request that gives none.
    """

    instruction: Instruction
    defect: Defect | None
    asked: str
    score_threshold: float
    usual_threshold: float

    @property
    def prompt(self) -> str:
        """The prompt as sent; the defect's usual name where the request had none."""
        return self.instruction.prompt

    def understood(self) -> Understood:
        """As the answer tells it."""
        return Understood(
            prompt=self.prompt,
            defect=self.defect.id if self.defect else None,
            asked=self.asked,
            task=self.instruction.task,
            box_colour=self.instruction.box_colour,
            mask_colour=self.instruction.mask_colour,
            usual_threshold=self.usual_threshold,
        )


def questions(
    prompts: Sequence[str],
    score_threshold: float | None,
    catalog: Catalog,
    served: Served,
    fits: Callable[[str], bool],
) -> tuple[Question, ...]:
    """One question for each prompt; for one that means everything, and without any, one for each defect to be found.

    Those are the enabled ones of the catalog that the served checkpoint was trained on or that are described here only,
    but for one whose text has more tokens than the model reads, by `fits`.

    Raises:
        ParameterError: there is nothing to ask for, or too much.
    """
    everything = [(defect, asked_by(defect)) for defect in catalog.everything(served.defects)]
    everything = [(defect, text) for defect, text in everything if fits(text)]
    rows: list[tuple[Instruction, Defect | None, str]] = []
    for instruction in map(read_instruction, prompts):
        if instruction.everything:
            rows += [(instruction, *row) for row in everything]
        else:
            words = instruction.description
            rows.append((instruction, catalog.by_id.get(catalog.recognise(words) or ""), catalog.wording(words)))
    if not prompts:
        rows = [(Instruction(row[0].name_in("en"), "", everything=True), *row) for row in everything]
    if not rows:
        raise ParameterError("the catalog has no enabled defect that the served checkpoint can find; give a prompt")
    if len(rows) > MAX_ENABLED:
        raise ParameterError(f"the prompts ask for {len(rows)} things, the limit is {MAX_ENABLED}; ask in two requests")

    def usual(defect: Defect | None) -> float:
        if defect is not None and defect.score_threshold is not None:
            return defect.score_threshold
        return served.score_threshold(defect.id if defect else None)

    return tuple(
        Question(
            instruction,
            defect,
            text,
            usual(defect) if score_threshold is None else score_threshold,
            usual(defect),
        )
        for instruction, defect, text in rows
    )
