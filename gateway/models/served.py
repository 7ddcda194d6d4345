"""Which version of the models answers: what Triton says of it, compared with the contract. Knows no gRPC."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from export.contract.promotion import VERSION_PARAMETER, beside_parameter
from export.contract.tensors import DETECTOR, GROUNDING, PROMPT_ENCODER, ContractError, Dimensions, match
from gateway.errors import NotFoundError, ReplacedError, UnavailableError
from gateway.models.triton import Triton


@dataclass(frozen=True)
class Served:
    """One version of both models of the fast reading, made from one checkpoint."""

    version: str
    checkpoint_name: str
    checkpoint_sha256: str
    dimensions: Dimensions
    defects: tuple[str, ...]  # ids of the classes that the checkpoint was trained on
    score_thresholds: Mapping[str, float]  # by class id, and "default"
    outlines: bool = False  # whether the generator has learned to outline what is in a box
    beside: tuple[str, ...] = ()  # the versions that are served beside it, if it is the promoted one

    def score_threshold(self, defect: str | None) -> float:
        """The least score for words that name a class, or that name none of the trained ones."""
        return self.score_thresholds.get(defect or "default", self.score_thresholds["default"])


async def served_versions(triton: Triton) -> tuple[str, ...]:
    """The versions of which Triton serves both models, oldest first.

    Raises:
        ServiceError: Triton does not say.
    """
    found = [await triton.versions(spec) for spec in GROUNDING]
    return tuple(sorted(set.intersection(*found), key=int))


async def describe(triton: Triton, version: str | None = None) -> Served:
    """Reads both models' metadata and configuration of a version, or of the promoted one; compares with the contract.

    Raises:
        NotFoundError: Triton does not serve that version.
        UnavailableError: Triton does not answer, or a model is missing or differs.
        ReplacedError: the two do not belong together, as in the midst of a promotion.
    """
    parameters = {spec.name: await triton.parameters(spec) for spec in GROUNDING}
    beside: tuple[str, ...] = ()
    if version is None:
        version = await _promoted(triton, parameters)
        beside = _beside(parameters[DETECTOR.name])
    elif version not in (served := await served_versions(triton)):
        raise not_served(version, served)
    sizes: dict[str, int] = {}
    try:
        for spec in GROUNDING:
            inputs, outputs = await triton.tensors(spec, version)
            sizes = match(spec, inputs, outputs, sizes)
        detector, encoder = (_of_version(parameters[spec.name], version) for spec in (DETECTOR, PROMPT_ENCODER))
        if detector["checkpoint_sha256"] != encoder["checkpoint_sha256"]:
            raise ReplacedError(
                f"version {version} of detector and of prompt_encoder come from different checkpoints; promote one "
                "version of both with python -m export.repository promote"
            )
        return Served(
            version=version,
            checkpoint_name=detector["checkpoint_name"],
            checkpoint_sha256=detector["checkpoint_sha256"],
            dimensions=Dimensions(**{name: sizes[name] for name in ("tile", "embedding", "boxes")}),
            defects=tuple(filter(None, detector["defects"].split(","))),  # none: it was trained on other classes
            score_thresholds=read_score_thresholds(detector["score_thresholds"]),
            outlines=detector.get("outlines") == "true",  # versions exported earlier do not say
            beside=beside,
        )
    except ContractError as error:
        raise UnavailableError(str(error)) from error
    except KeyError as error:
        raise UnavailableError(f"config.pbtxt lacks the parameter {error}; export the models again") from error


def not_served(version: str, served: tuple[str, ...]) -> NotFoundError:
    """What is said to who asks for a version that Triton does not serve."""
    return NotFoundError(
        f"version {version} of the models is not served, these are: {', '.join(served) or 'none'}; serve it beside "
        f"with python -m export.repository promote N --beside {version}"
    )


async def _promoted(triton: Triton, parameters: Mapping[str, Mapping[str, str]]) -> str:
    """The version that answers whoever asks for none; a repository that does not say it serves one only."""
    found = {
        spec.name: parameters[spec.name].get(VERSION_PARAMETER) or max(await triton.versions(spec), key=int)
        for spec in GROUNDING
    }
    if len(set(found.values())) != 1:
        raise ReplacedError(
            " and ".join(f"{model} {version}" for model, version in found.items())
            + " are served; promote one version of both with python -m export.repository promote"
        )
    return found[DETECTOR.name]


def _beside(parameters: Mapping[str, str]) -> tuple[str, ...]:
    start = beside_parameter("checkpoint_sha256", "")
    return tuple(sorted((name.removeprefix(start) for name in parameters if name.startswith(start)), key=int))


def _of_version(parameters: Mapping[str, str], version: str) -> Mapping[str, str]:
    if parameters.get(VERSION_PARAMETER, version) == version:
        return parameters
    ending = beside_parameter("", version)
    return {name.removesuffix(ending): value for name, value in parameters.items() if name.endswith(ending)}


def read_score_thresholds(text: str) -> dict[str, float]:
    """The parameter `score_thresholds` of the detector: JSON, {class id or "default": least score in 0..1}.

    Raises:
        UnavailableError: it is anything else.
    """
    try:
        thresholds = {str(name): float(value) for name, value in json.loads(text).items()}
        valid = "default" in thresholds and all(0 <= value <= 1 for value in thresholds.values())
    except (ValueError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise UnavailableError(
            f"the detector's parameter score_thresholds is {text!r}, expected scores from 0 to 1 by class id with a "
            "default among them; export the models again"
        )
    return thresholds
