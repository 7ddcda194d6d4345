"""Triton over gRPC: what it serves, and one inference. The only file that knows tritonclient."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from export.contract.tensors import (
    DETECTOR,
    GROUNDING,
    NUMPY_DTYPES,
    PROMPT_ENCODER,
    ContractError,
    Dimensions,
    DType,
    ModelSpec,
    match,
)
from gateway.errors import DeadlineError, ModelError, OverloadError, ReplacedError, ServiceError, UnavailableError
from gateway.telemetry.measurement import current, stage
from gateway.telemetry.tracing import context_headers

DESCRIBE_TIMEOUT_S = 2.0
QUEUE_FULL = ("maximum queue size", "Request timeout expired")
DEAD_INSTANCE = "Stub process"  # of the Python backend: Triton lives, one process of the model does not
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True)
class Served:
    """What Triton serves now: one version of both models, made from one checkpoint."""

    version: str
    checkpoint_name: str
    checkpoint_sha256: str
    dimensions: Dimensions
    defects: tuple[str, ...]  # ids of the classes that the checkpoint was trained on
    score_thresholds: Mapping[str, float]  # by class id, and "default"

    def score_threshold(self, defect: str | None) -> float:
        """The least score for words that name a class, or that name none of the trained ones."""
        return self.score_thresholds.get(defect or "default", self.score_thresholds["default"])


@dataclass(frozen=True)
class Answer:
    """Output tensors by name, and the version of the model that made them."""

    outputs: dict[str, NDArray[Any]]
    version: str


class Triton:
    """A connection that comes back by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = InferenceServerClient(url, channel_args=CHANNEL)
        self._dtypes: dict[tuple[str, str], DType] = {}  # as served, by model and input

    async def close(self) -> None:
        """Ends the connection."""
        await self._client.close()

    async def is_ready(self) -> bool:
        """Whether Triton and both models answer."""
        try:
            if not await self._client.is_server_ready(client_timeout=DESCRIBE_TIMEOUT_S):
                return False
            states = [await self._client.is_model_ready(m.name, client_timeout=DESCRIBE_TIMEOUT_S) for m in GROUNDING]
        except (InferenceServerException, grpc.RpcError):
            return False
        return all(states)

    async def serves(self, spec: ModelSpec, version: str) -> bool:
        """Whether Triton serves that version of a model beside those that it must serve, as the contract states it.

        Raises:
            ServiceError: Triton does not say.
        """
        try:
            metadata = await self._client.get_model_metadata(spec.name, client_timeout=DESCRIBE_TIMEOUT_S)
            match(spec, _tensors(metadata.inputs), _tensors(metadata.outputs))
        except ContractError:
            return False
        except (InferenceServerException, grpc.RpcError) as error:
            if "NOT_FOUND" in _status(error)[0]:
                return False
            raise _translate(error, self.url) from error
        self._dtypes |= {(spec.name, tensor.name): tensor.datatype for tensor in metadata.inputs}
        return version in metadata.versions

    async def describe(self) -> Served:
        """Reads both models' metadata and configuration and compares them with the contract.

        Raises:
            UnavailableError: Triton does not answer, or a model is missing or differs.
            ReplacedError: the two do not belong together, as in the midst of a promotion.
        """
        sizes: dict[str, int] = {}
        parameters: dict[str, dict[str, str]] = {}
        versions: dict[str, str] = {}
        try:
            for spec in GROUNDING:
                metadata = await self._client.get_model_metadata(spec.name, client_timeout=DESCRIBE_TIMEOUT_S)
                sizes = match(spec, _tensors(metadata.inputs), _tensors(metadata.outputs), sizes)
                self._dtypes |= {(spec.name, tensor.name): tensor.datatype for tensor in metadata.inputs}
                versions[spec.name] = max(metadata.versions, key=int)
                config = (await self._client.get_model_config(spec.name, client_timeout=DESCRIBE_TIMEOUT_S)).config
                parameters[spec.name] = {name: value.string_value for name, value in config.parameters.items()}
            detector, encoder = parameters[DETECTOR.name], parameters[PROMPT_ENCODER.name]
            if detector["checkpoint_sha256"] != encoder["checkpoint_sha256"] or len(set(versions.values())) != 1:
                raise ReplacedError(
                    f"detector {versions[DETECTOR.name]} and prompt_encoder {versions[PROMPT_ENCODER.name]} come from "
                    "different checkpoints; promote one version of both with python -m export.repository promote"
                )
            return Served(
                version=versions[DETECTOR.name],
                checkpoint_name=detector["checkpoint_name"],
                checkpoint_sha256=detector["checkpoint_sha256"],
                dimensions=Dimensions(**{name: sizes[name] for name in ("tile", "embedding", "boxes")}),
                defects=tuple(filter(None, detector["defects"].split(","))),  # none: it was trained on other classes
                score_thresholds=read_score_thresholds(detector["score_thresholds"]),
            )
        except ContractError as error:
            raise UnavailableError(str(error)) from error
        except KeyError as error:
            raise UnavailableError(f"config.pbtxt lacks the parameter {error}; export the models again") from error
        except (InferenceServerException, grpc.RpcError) as error:
            raise _translate(error, self.url) from error

    async def infer(self, spec: ModelSpec, inputs: Mapping[str, NDArray[Any]], timeout_s: float) -> Answer:
        """One request to a model; cancelling the caller cancels it in Triton too.

        Raises:
            UnavailableError, OverloadError, DeadlineError, ModelError: what Triton answered, or that it did not.
        """
        tensors = []
        for tensor in spec.inputs:
            dtype = self._dtypes.get((spec.name, tensor.name), tensor.dtype)
            array = np.ascontiguousarray(inputs[tensor.name], NUMPY_DTYPES[dtype])
            entry = InferInput(tensor.name, list(array.shape), dtype)
            entry.set_data_from_numpy(array)
            tensors.append(entry)
        rows = len(inputs[spec.inputs[0].name])
        current().batches.append((spec.name, rows))
        try:
            with stage("triton", {"model": spec.name, "rows": rows}):
                result = await self._client.infer(
                    spec.name, tensors, client_timeout=timeout_s, headers=context_headers()
                )
        except (InferenceServerException, grpc.RpcError) as error:
            raise _translate(error, self.url) from error
        outputs = {tensor.name: result.as_numpy(tensor.name) for tensor in spec.outputs}
        return Answer(outputs, result.get_response().model_version)


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


def _tensors(served: Sequence[Any]) -> dict[str, tuple[str, list[int]]]:
    # Metadata shows the batch as a first dimension of -1; the contract leaves it out.
    return {tensor.name: (tensor.datatype, list(tensor.shape)[1:]) for tensor in served}


def _translate(error: Exception, url: str) -> ServiceError:
    status, message = _status(error)
    if any(sign in message for sign in QUEUE_FULL):
        return OverloadError("Triton's queue is full; try again")
    if "DEADLINE_EXCEEDED" in status:
        return DeadlineError("Triton did not answer before the deadline")
    if "UNAVAILABLE" in status or "CANCELLED" in status:
        return UnavailableError(f"Triton at {url} does not answer; it is starting, stopping or away")
    if DEAD_INSTANCE in message:
        return UnavailableError(f"an instance of the model died in Triton at {url}, which must start again: {message}")
    if "NOT_FOUND" in status or "not ready" in message or "unknown model" in message:
        return UnavailableError(f"Triton at {url} does not serve the model: {message}")
    return ModelError(f"Triton answered {status or 'an error'}: {message}")


def _status(error: Exception) -> tuple[str, str]:
    if isinstance(error, InferenceServerException):
        return str(error.status()), str(error.message())
    return str(error.code()), str(error.details())  # type: ignore[attr-defined]
