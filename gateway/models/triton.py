"""Triton over gRPC: what it says of its models, one inference, and its model control. Alone knows tritonclient."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

import grpc
import numpy as np
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from export.contract.tensors import NUMPY_DTYPES, ContractError, DType, ModelSpec, match
from gateway.errors import (
    AwayError,
    ConflictError,
    DeadlineError,
    ModelError,
    OverloadError,
    ReplacedError,
    ServiceError,
)
from gateway.models.shared_memory import SharedMemory, remove_orphans
from gateway.request.deadline import Deadline
from gateway.telemetry.measurement import current, stage
from gateway.telemetry.tracing import context_headers

LOG = logging.getLogger("gateway.models.triton")
DESCRIBE_TIMEOUT_S = 2.0
HEDGE_DELAY_S = 0.3  # what a healthy Triton has answered in, many times over
LOAD_TIMEOUT_S = 600.0  # a large engine, on a busy machine
QUEUE_FULL = "maximum queue size"
QUEUED_TOO_LONG = "Request timeout expired"
NOT_LOADED = ("unknown model", "no available versions", "not ready")
DEAD_INSTANCE = "Stub process"  # of the Python backend: Triton lives, one process of the model does not
SHARED_MEMORY = "shared memory region"
NOT_EXPLICIT = "explicit model load / unload is not allowed"
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also how long connecting may take, which a busy Triton may need
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),  # Triton is near, and never asked through what stands before the internet
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, not one shared with the next channel
]

Said = TypeVar("Said")
Tensors = dict[str, tuple[str, list[int]]]  # data type and dims per item, by name


class Triton:
    """Two connections that come back by themselves: one for work, one to ask once more when the first is stuck."""

    def __init__(self, url: str, may_share_memory: bool = False) -> None:
        self.url = url
        self._may_share = may_share_memory
        self._memory: SharedMemory | None = None  # while Triton knows of it
        self._orphans: list[str] = []  # regions that are gone, which Triton may still hold
        self._client = InferenceServerClient(url, channel_args=CHANNEL)
        self._second = InferenceServerClient(url, channel_args=CHANNEL)
        self._retiring: set[asyncio.Task[None]] = set()
        self._dtypes: dict[tuple[str, str, str], DType] = {}  # as served, by model, version and input

    async def close(self) -> None:
        """Ends the connections, and has Triton give shared memory back."""
        if self._memory is not None:
            self._orphans.append(self._memory.name)
            self._forget(self._memory)
        with suppress(InferenceServerException, grpc.RpcError):
            await self._unregister_orphans()
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._client.close()
        await self._second.close()

    def reconnect(self, grace_s: float) -> None:
        """Asks on new connections from now on; what is under way on the former may end within `grace_s`.

        A connection that a firewall or a host has forgotten never says so: what is sent on it is lost, and it looks as
        one whose other end takes long.
        """
        former = (self._client, self._second)
        self._client = InferenceServerClient(self.url, channel_args=CHANNEL)
        self._second = InferenceServerClient(self.url, channel_args=CHANNEL)
        retiring = asyncio.create_task(_retire(former, grace_s))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def check_ready(self, models: Sequence[ModelSpec]) -> None:
        """Whether Triton and the models answer.

        Raises:
            AwayError: says which does not.
        """
        try:
            if not await self._ask(lambda client: client.is_server_ready(client_timeout=DESCRIBE_TIMEOUT_S)):
                raise AwayError(f"Triton at {self.url} is not ready")
            for spec in models:
                if not await self._is_model_ready(spec):
                    raise AwayError(f"Triton at {self.url} has no version of {spec.name} ready; see its log")
        except ServiceError as error:
            raise AwayError(str(error)) from error

    async def _is_model_ready(self, spec: ModelSpec) -> bool:
        return bool(await self._ask(lambda client: client.is_model_ready(spec.name, client_timeout=DESCRIBE_TIMEOUT_S)))

    async def versions(self, spec: ModelSpec) -> set[str]:
        """The versions of a model that are ready.

        Raises:
            ServiceError: none is, or Triton does not say.
        """
        said = await self._ask(lambda client: client.get_model_metadata(spec.name, client_timeout=DESCRIBE_TIMEOUT_S))
        return set(said.versions)

    async def tensors(self, spec: ModelSpec, version: str) -> tuple[Tensors, Tensors]:
        """Inputs and outputs of a version of a model, as served; inferences send that data type from now on.

        Raises:
            ServiceError: it is not served, or Triton does not say.
        """
        said = await self._ask(
            lambda client: client.get_model_metadata(spec.name, version, client_timeout=DESCRIBE_TIMEOUT_S)
        )
        self._dtypes |= {(spec.name, version, tensor.name): tensor.datatype for tensor in said.inputs}
        return _tensors(said.inputs), _tensors(said.outputs)

    async def parameters(self, spec: ModelSpec) -> dict[str, str]:
        """The parameters in a model's configuration, which is one for all its versions.

        Raises:
            ServiceError: the model is not served, or Triton does not say.
        """
        said = await self._ask(lambda client: client.get_model_config(spec.name, client_timeout=DESCRIBE_TIMEOUT_S))
        return {name: value.string_value for name, value in said.config.parameters.items()}

    async def serves(self, spec: ModelSpec, version: str) -> bool:
        """Whether Triton serves that version of a model as the contract states it.

        Raises:
            ServiceError: Triton does not say.
        """
        try:
            match(spec, *await self.tensors(spec, version))
        except (ContractError, ReplacedError):
            return False
        return True

    async def infer(
        self, spec: ModelSpec, version: str, inputs: Mapping[str, NDArray[Any]], deadline: Deadline
    ) -> dict[str, NDArray[Any]]:
        """One request to a version of a model, its outputs by name; cancelling the caller cancels it in Triton too.

        Raises:
            ReplacedError: that version is not served any more.
            AwayError, OverloadError, DeadlineError, ModelError: what Triton answered, or that it did not.
        """
        dtypes = [self._dtypes.get((spec.name, version, tensor.name), tensor.dtype) for tensor in spec.inputs]
        arrays = [
            np.ascontiguousarray(inputs[tensor.name], NUMPY_DTYPES[dtype])
            for tensor, dtype in zip(spec.inputs, dtypes, strict=True)
        ]
        entries = [
            InferInput(tensor.name, list(array.shape), dtype)
            for tensor, array, dtype in zip(spec.inputs, arrays, dtypes, strict=True)
        ]
        memory = self._memory
        with memory.placed(arrays) if memory else nullcontext() as offsets:
            if memory is not None and offsets is not None:
                for entry, array, offset in zip(entries, arrays, offsets, strict=True):
                    entry.set_shared_memory(memory.name, array.nbytes, offset)
                try:
                    return await self._infer(spec, version, entries, deadline)
                except ModelError as error:
                    if SHARED_MEMORY not in str(error):
                        raise
                    self._forget(memory)  # Triton has started again and knows nothing of it
        for entry, array in zip(entries, arrays, strict=True):
            entry.set_data_from_numpy(array)
        return await self._infer(spec, version, entries, deadline)

    async def _infer(
        self, spec: ModelSpec, version: str, entries: Sequence[InferInput], deadline: Deadline
    ) -> dict[str, NDArray[Any]]:
        timeout_s = deadline.remaining_s()  # what is late is not sent
        rows = entries[0].shape()[0]
        current().batches.append((spec.name, rows))
        try:
            with stage("triton", {"model": spec.name, "rows": rows}):
                result = await self._client.infer(
                    spec.name, entries, version, client_timeout=timeout_s, headers=context_headers()
                )
        except (InferenceServerException, grpc.RpcError) as error:
            raise _translate(error, self.url) from error
        return {tensor.name: result.as_numpy(tensor.name) for tensor in spec.outputs}

    async def share_memory(self, slot_bytes: int) -> None:
        """Has inputs go through shared memory from now on, where Triton lets them; does nothing where they do.

        Raises:
            AwayError, DeadlineError: Triton does not answer.
        """
        if self._memory is not None or not self._may_share:
            return
        try:
            self._orphans += remove_orphans()
            await self._unregister_orphans()
            self._memory = await self._registered(SharedMemory(slot_bytes))
        except (InferenceServerException, grpc.RpcError, OSError) as error:
            fault = error if isinstance(error, OSError) else _translate(error, self.url)
            if isinstance(fault, (AwayError, DeadlineError)):
                raise fault from error
            self._may_share = False
            LOG.warning("no shared memory with Triton, tiles go through gRPC: %s", fault)

    async def _registered(self, memory: SharedMemory) -> SharedMemory:
        try:
            await self._client.register_system_shared_memory(
                memory.name, memory.key, memory.size_bytes, client_timeout=DESCRIBE_TIMEOUT_S
            )
        except BaseException:  # also the end of a request whose deadline passed while it waited for this
            memory.close()
            self._orphans.append(memory.name)  # Triton may have heard of it all the same
            raise
        return memory

    async def _unregister_orphans(self) -> None:
        while self._orphans:
            await self._client.unregister_system_shared_memory(self._orphans[-1], client_timeout=DESCRIBE_TIMEOUT_S)
            self._orphans.pop()

    def _forget(self, memory: SharedMemory) -> None:
        if self._memory is memory:
            memory.close()
            self._memory = None

    async def load(self, spec: ModelSpec, config: pb.ModelConfig | None = None) -> None:
        """Has a model loaded as `config` says, or as the repository does; what is served until then answers meanwhile.

        Raises:
            ConflictError: Triton does not let itself be told.
            ServiceError: the model does not load; what was served before is served still.
        """
        text = config and json_format.MessageToJson(config, preserving_proto_field_name=True)
        # A connection of its own: it takes longer than any grace.
        client = InferenceServerClient(self.url, channel_args=CHANNEL)
        try:
            await client.load_model(spec.name, config=text, client_timeout=LOAD_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            if NOT_EXPLICIT in _status(error)[1]:
                raise ConflictError("Triton does not run with --model-control-mode=explicit") from error
            raise _translate(error, self.url) from error
        finally:
            await client.close()

    async def _ask(self, call: Callable[[InferenceServerClient], Awaitable[Said]]) -> Said:
        """The answer to a small question; asked again on the second connection when the first takes long or fails."""
        first = asyncio.ensure_future(call(self._client))
        asked = [first]
        try:
            await asyncio.wait(asked, timeout=HEDGE_DELAY_S)
            if not first.done() or first.exception() is not None:
                asked.append(asyncio.ensure_future(call(self._second)))
            faults: list[Exception] = []
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except (InferenceServerException, grpc.RpcError) as error:
                    faults.append(error)
            raise _translate(faults[-1], self.url) from faults[-1]
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


def read_config(text: str) -> pb.ModelConfig:
    """A config.pbtxt as a message; str() is the way back.

    Raises:
        ValueError: it is none.
    """
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"no config.pbtxt: {error}") from error


async def _retire(clients: Sequence[InferenceServerClient], grace_s: float) -> None:
    try:
        await asyncio.sleep(grace_s)
    finally:
        for client in clients:
            await client.close()


def _tensors(served: Sequence[Any]) -> Tensors:
    # Metadata shows the batch as a first dimension of -1; the contract leaves it out.
    return {tensor.name: (tensor.datatype, list(tensor.shape)[1:]) for tensor in served}


def _translate(error: Exception, url: str) -> ServiceError:
    status, message = _status(error)
    if QUEUE_FULL in message:
        return OverloadError("Triton's queue is full; try again")
    if QUEUED_TOO_LONG in message:
        return OverloadError(
            "the request waited in Triton's queue for as long as default_timeout_microseconds in the model's "
            "config.pbtxt allows; try again, or raise it there: a longer PCBD_DEADLINE_S is of no use beyond it"
        )
    if SHARED_MEMORY in message:
        return ModelError(f"Triton answered: {message}")
    if any(sign in message for sign in NOT_LOADED) or "NOT_FOUND" in status:
        return ReplacedError(f"Triton at {url} does not serve the model: {message}")
    if "DEADLINE_EXCEEDED" in status:
        return DeadlineError("Triton did not answer before the deadline")
    if "UNAVAILABLE" in status or "CANCELLED" in status:
        return AwayError(f"Triton at {url} does not answer; it is starting, stopping or away")
    if DEAD_INSTANCE in message:
        return AwayError(f"an instance of the model died in Triton at {url}, which must start again: {message}")
    return ModelError(f"Triton answered {status or 'an error'}: {message}")


def _status(error: Exception) -> tuple[str, str]:
    if isinstance(error, InferenceServerException):
        return str(error.status()), str(error.message())
    return str(error.code()), str(error.details())  # type: ignore[attr-defined]
