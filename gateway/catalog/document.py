"""The catalog as a YAML file: written so that people can edit it, read with every fault named by its line.

Knows no database.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.catalog.defect import MAX_DEFECTS, MAX_FAULTS, Defect, at_most, explain, fault_of_id, faults_between
from gateway.errors import ParameterError

YAML = "application/yaml"
MAX_DEPTH = 8
MAX_EVENTS = 100_000  # values, and begins and ends of lists and mappings; a catalog full to all its limits has 96,000
OPENING = """\
# The defect catalog. Read it in again: python -m gateway.catalog import FILE.yaml
# The catalog becomes what this file says: a defect that is left out is deleted, its history stays.
# score_threshold: null means what the checkpoint sets. minimum_size_px: shorter side of a box, pixels.
# severity: info, minor, major or critical. colour: '#rrggbb', in quotes.
# enabled: whether a request without a prompt asks for it.
"""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    defects: Annotated[tuple[Defect, ...], at_most(MAX_DEFECTS)]


def write_document(defects: Sequence[Defect]) -> str:
    """The catalog as YAML; `read_document` gives the same defects back."""
    content = [defect.model_dump(mode="json", include=set(Defect.model_fields)) for defect in defects]
    return OPENING + yaml.safe_dump({"defects": content}, allow_unicode=True, sort_keys=False, width=120)


def read_document(data: bytes) -> tuple[Defect, ...]:
    """The defects of a YAML file in UTF-8, in its order.

    Raises:
        ParameterError: lists every fault with its line.
    """
    try:
        text = data.decode("utf-8")
        _refuse_tricks(text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        raise ParameterError(f"the file is not UTF-8: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ParameterError(f"the file is not YAML: {' '.join(str(error).split())}") from error
    faults = [(line, f"{name} is given twice") for line, name in _repeated(node)]
    try:
        defects = _Document.model_validate(content).defects
    except ValidationError as error:
        faults += [
            (_line(node, where), ": ".join(filter(None, (".".join(map(str, where)), fault))))
            for where, fault in explain(error)
        ]
    else:
        places = {defect.id: _line(node, ("defects", index)) for index, defect in enumerate(defects)}
        counts = Counter(defect.id for defect in defects)
        faults += [(places[name], f"the id {name} is given {n} times") for name, n in counts.items() if n > 1]
        faults += [(places[name], fault) for name in counts if (fault := fault_of_id(name))]
        faults += [(places[name], f"{name}: {fault}") for name, fault in faults_between(defects)]
    if faults:
        raise ParameterError("; ".join(f"line {line}: {fault}" for line, fault in sorted(faults)[:MAX_FAULTS]))
    return defects


def _refuse_tricks(text: str) -> None:
    """Refuses what makes a small file mean a huge or bottomless catalog."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if number > MAX_EVENTS:
            raise ParameterError(f"line {line}: more than {MAX_EVENTS} entries, which no catalog has")
        if isinstance(event, yaml.AliasEvent):
            raise ParameterError(f"line {line}: aliases (*) are not read; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ParameterError(f"line {line}: nested more than {MAX_DEPTH} deep, which no catalog is")


def _line(node: yaml.Node | None, where: Sequence[int | str]) -> int:
    """The line of a place, from 1; of what holds it where it is missing."""
    for step in where:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
        if found is None:
            break
        node = found
    return node.start_mark.line + 1 if node else 1


def _repeated(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Keys that a mapping has twice, of which YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and names[key.value] > 1:
                yield key.start_mark.line + 1, key.value
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)
