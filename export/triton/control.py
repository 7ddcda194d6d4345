"""Tells a running Triton, over gRPC, to serve what the repository says; the only file here that talks to one.

Triton keeps the former version of a model until the new one is ready, so no request is lost. It follows at once when
it runs with --model-control-mode=explicit, and by itself, a little later, with --model-control-mode=poll.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from export.contract.promotion import RepositoryError
from export.contract.tensors import MODELS

ANSWER_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 600.0  # a large engine, on a busy machine
POLL_TIMEOUT_S = 60.0  # until it begins to load: Triton looks every 15 s unless it is told otherwise
POLL_INTERVAL_S = 0.2
UNLOADED = "unloaded"  # why a version that was replaced is not available; any other reason is a fault
NOT_EXPLICIT = "explicit model load / unload is not allowed"
CHANNEL = [("grpc.enable_http_proxy", 0)]  # Triton is near, and never asked through what stands before the internet

Index = dict[str, dict[int, tuple[str, str]]]  # by model and version: Triton's state, and the reason for it


class TritonControl:
    """The model control of the Triton at `url`, host:port of its gRPC service."""

    def __init__(self, url: str) -> None:
        self.url = url

    def loaded(self) -> dict[str, set[int]]:
        """The versions that are ready, by model.

        Raises:
            RepositoryError: Triton does not answer.
        """
        with self._client() as client:
            return {model: _in_state("READY", states) for model, states in self._index(client).items()}

    def follow(self, versions: set[int]) -> None:
        """Has all models loaded as the repository says, at the same time, and waits until each serves `versions`.

        Raises:
            RepositoryError: names each model that does not, and why; the others may serve it by now.
        """
        with self._client() as client:  # one: behind a Service of several Tritons each connection may reach another
            with ThreadPoolExecutor(len(MODELS)) as pool:
                loads = list(pool.map(partial(self._load, client), [spec.name for spec in MODELS]))
            failures = {model: failure for model, failure in loads if failure is not None}
            if not failures:
                self._await(client, versions, 0, f"Triton at {self.url} loaded the models, but serves {{others}}")
            elif all(NOT_EXPLICIT in failure for failure in failures.values()):
                self._await(
                    client,
                    versions,
                    POLL_TIMEOUT_S,
                    f"Triton at {self.url} refuses to be told and does not look by itself either, it serves "
                    "{others}; start it with --model-control-mode=explicit --load-model=*, or leave --triton out and "
                    "restart it",
                )
            else:
                raise RepositoryError("; ".join(f"{model}: {failure}" for model, failure in failures.items()))

    def _client(self) -> InferenceServerClient:
        return InferenceServerClient(self.url, channel_args=CHANNEL)

    def _index(self, client: InferenceServerClient) -> Index:
        try:
            index = client.get_model_repository_index(client_timeout=ANSWER_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            raise RepositoryError(
                f"Triton at {self.url} does not answer ({_message(error)}); start it, give the address of its gRPC "
                "service, or leave --triton out to change the files only"
            ) from error
        states: Index = {spec.name: {} for spec in MODELS}
        for entry in index.models:
            if entry.name in states and entry.version:
                states[entry.name][int(entry.version)] = (entry.state, entry.reason)
        return states

    def _load(self, client: InferenceServerClient, model: str) -> tuple[str, str | None]:
        try:
            client.load_model(model, client_timeout=LOAD_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            return model, _message(error)
        return model, None

    def _await(self, client: InferenceServerClient, versions: set[int], begin_s: float, otherwise: str) -> None:
        """Waits until all models serve `versions` and load no others; one look without an answer says nothing.

        Raises:
            RepositoryError: Triton refuses a version, with its reason; or begins to load nothing within `begin_s`,
                which `otherwise` says; or has begun and is not ready within LOAD_TIMEOUT_S; or does not answer when
                that time is over.
        """
        begin, patience_s = time.monotonic(), begin_s
        former: set[str] | None = None  # Triton remembers a load that failed long ago
        while True:
            waited_s = time.monotonic() - begin
            try:
                index = self._index(client)
            except RepositoryError:
                if waited_s >= max(patience_s, ANSWER_TIMEOUT_S):
                    raise
            else:
                others, refused = _others(index, versions), _refused(index, versions)
                if not others:
                    return
                if any(_in_state("LOADING", states) for states in index.values()):
                    patience_s = LOAD_TIMEOUT_S
                    otherwise = f"Triton at {self.url} is not ready after {patience_s:g} s, it serves {{others}}"
                former = refused if former is None else former & refused
                if refused - former or (refused and waited_s >= patience_s):
                    raise RepositoryError("; ".join(sorted(refused)))
                if waited_s >= patience_s:
                    raise RepositoryError(otherwise.format(others=others))
            time.sleep(POLL_INTERVAL_S)


def _in_state(state: str, states: dict[int, tuple[str, str]]) -> set[int]:
    return {number for number, (its, _) in states.items() if its == state}


def _refused(index: Index, versions: set[int]) -> set[str]:
    """The models that Triton could not load in one of `versions`, each with the reason."""
    return {
        f"{model} {number}: {_line(reason)}"
        for model, states in index.items()
        for number, (state, reason) in states.items()
        if number in versions and state == "UNAVAILABLE" and reason not in ("", UNLOADED)
    }


def _others(index: Index, versions: set[int]) -> str:
    """The models that do not serve `versions` alone, or load another, with what they serve; empty when all do."""
    others = []
    for model, states in index.items():
        ready, loading = (_in_state(state, states) for state in ("READY", "LOADING"))
        if loading or ready != versions:
            loads = f" (loading {', '.join(map(str, sorted(loading)))})" if loading else ""
            others.append(f"{model} {', '.join(map(str, sorted(ready))) or 'not at all'}{loads}")
    return ", ".join(others)


def _message(error: Exception) -> str:
    text = error.message() if isinstance(error, InferenceServerException) else error.details()  # type: ignore[attr-defined]
    return _line(str(text))


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(" ;")  # Triton adds a traceback, and ends its lists with ;
