"""How to look at a picture: the parameters of a request, with what is wrong with them named at once."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from export.contract.fusion import Merging
from export.contract.tiles import OVERLAP
from gateway.catalog.defect import Severity
from gateway.errors import ParameterError
from gateway.request.magnification import Magnification
from gateway.request.regions import Regions
from gateway.settings import Settings

IMAGE_FIELD = "image"
PROMPT_FIELD = "prompt"
MAX_LABEL_CHARACTERS = 128
MAX_DETECTIONS = 10_000
URL = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*://\S*|data:\S*)\s*", re.IGNORECASE)
UNDECODABLE = "\ufffd"  # what the query's decoding leaves of bytes that are not UTF-8
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # categories of control characters and line ends, which could forge a log


def _plain(text: str) -> str:
    if not text.strip() or any(unicodedata.category(character) in UNSEEN for character in text):
        raise ValueError("should be plain text on one line that is not blank")
    return text


def _each_once(prompts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(prompts))  # the same again would find every defect again


# Names of things on the line: they come back in the answer and go to the log, and are nothing but text.
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARACTERS), AfterValidator(_plain)]


class DetectParameters(BaseModel):
    """The parameters of POST /detect, from form fields, from JSON or from the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[tuple[str, ...], AfterValidator(_each_once)] = ()
    score_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    nms_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.3
    max_detections: Annotated[int, Field(ge=1, le=MAX_DETECTIONS)] = 200
    task: Literal["detect", "segment"] = "detect"  # a prompt may also ask for masks by its words
    reading: Literal["grounding", "generative"] = "grounding"
    merging: Merging = "nms"
    class_agnostic: bool = False
    tile_overlap: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = OVERLAP
    magnification: Magnification = (1.0,)
    full_image: bool = False
    regions: Regions = ()
    excluded_regions: Regions = ()
    ng_from: Severity = "info"
    annotated: bool = False
    model_version: Annotated[int, Field(ge=1, le=999_999_999)] | None = None  # none: the promoted one
    board_id: Label | None = None
    camera_id: Label | None = None
    recipe: Label | None = None

    def labels(self) -> dict[str, str | None]:
        """What the line calls the board, the camera and the recipe."""
        return {"board_id": self.board_id, "camera_id": self.camera_id, "recipe": self.recipe}


def read_parameters(
    items: Iterable[tuple[str, str]], settings: Settings, faults: Iterable[str] = ()
) -> DetectParameters:
    """Name-value pairs to parameters; `prompt` may repeat, every other name stands once.

    Raises:
        ParameterError: lists every fault, after those that were found before.
    """
    values: dict[str, Any] = {PROMPT_FIELD: []}
    found = list(faults)
    for name, value in items:
        if name == PROMPT_FIELD:
            values[PROMPT_FIELD].append(value)
        elif name in values:
            found.append(f"{name} is given more than once")
        else:
            values[name] = value
    return _validate(values, DetectParameters.model_validate, settings, found)


def read_json_parameters(values: Mapping[str, Any], settings: Settings, faults: Iterable[str]) -> DetectParameters:
    """Members of a JSON object to parameters, each of its own JSON type; `prompt` is a string or a list of them.

    Raises:
        ParameterError: lists every fault, after those that were found before.
    """
    prompt = values.get(PROMPT_FIELD, [])
    values = {**values, PROMPT_FIELD: [prompt] if isinstance(prompt, str) else prompt}
    strictly = partial(DetectParameters.model_validate_json, strict=True)
    return _validate(values, lambda all_values: strictly(json.dumps(all_values)), settings, list(faults))


def _validate(
    values: dict[str, Any],
    model: Callable[[dict[str, Any]], DetectParameters],
    settings: Settings,
    faults: list[str],
) -> DetectParameters:
    prompts = values[PROMPT_FIELD] if isinstance(values[PROMPT_FIELD], list) else []
    if len(prompts) > settings.max_prompts:
        faults.append(f"{len(prompts)} prompts, the limit is {settings.max_prompts}")
    for prompt in prompts:
        if not isinstance(prompt, str):
            continue  # the model names it
        if not prompt.strip():
            faults.append("a prompt is blank; leave it out to ask for every class of the catalog")
        elif len(prompt) > settings.max_prompt_characters:
            faults.append(f"a prompt has {len(prompt)} characters, the limit is {settings.max_prompt_characters}")
    texts = [(PROMPT_FIELD, prompt) for prompt in prompts] + list(values.items())
    for name, text in texts:
        if isinstance(text, str):
            if UNDECODABLE in text:
                faults.append(f"{name} is not UTF-8; send it in UTF-8, not in the system's own encoding such as GBK")
            if URL.fullmatch(text):
                scheme = text.strip().partition(":")[0]  # what follows may hold a password
                faults.append(f"{name} is the URL {scheme}:...; nothing is fetched, send the image itself")
    try:
        parameters = model(values)
    except ValidationError as error:
        faults += faults_of(error)
    if faults:
        raise ParameterError("; ".join(faults))
    return parameters


def faults_of(error: ValidationError, place: str = "") -> list[str]:
    """Each fault with its place, as words for the client."""
    return [
        f"{'.'.join(map(str, (*filter(None, [place]), *fault['loc'])))}: {_explain(fault, place)}"
        for fault in error.errors(include_input=False)
    ]


def _explain(fault: ErrorDetails, place: str) -> str:
    if fault["type"] == "extra_forbidden" and not place:
        return f"unknown name; known are {', '.join((IMAGE_FIELD, *DetectParameters.model_fields))}"
    return fault["msg"]
