"""Tells a running Triton, over gRPC, to serve what the repository says; the only file here that talks to one.

Triton keeps the former version of a model until the new one is ready, so no request is lost. It follows at once when
it runs with --model-control-mode=explicit, and by itself, a little later, with --model-control-mode=poll.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from export.contract.promotion import RepositoryError
from export.contract.tensors import MODELS

ANSWER_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 600.0  # a large engine, on a busy machine
POLL_TIMEOUT_S = 60.0  # Triton looks every 15 s unless it is told otherwise
POLL_INTERVAL_S = 0.2
NOT_EXPLICIT = "explicit model load / unload is not allowed"


class TritonControl:
    """The model control of the Triton at `url`, host:port of its gRPC service."""

    def __init__(self, url: str) -> None:
        self.url = url

    def loaded(self) -> dict[str, set[int]]:
        """The versions that are ready, by model.

        Raises:
            RepositoryError: Triton does not answer.
        """
        try:
            with InferenceServerClient(self.url) as client:
                index = client.get_model_repository_index(client_timeout=ANSWER_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            raise RepositoryError(
                f"Triton at {self.url} does not answer ({_message(error)}); start it, give the address of its gRPC "
                "service, or leave --triton out to change the files only"
            ) from error
        loaded: dict[str, set[int]] = {spec.name: set() for spec in MODELS}
        for entry in index.models:
            if entry.name in loaded and entry.state == "READY":
                loaded[entry.name].add(int(entry.version))
        return loaded

    def follow(self, versions: set[int]) -> None:
        """Has all models loaded as the repository says, at the same time, and waits until each serves `versions`.

        Raises:
            RepositoryError: names each model that does not, and why; the others may serve it by now.
        """
        with ThreadPoolExecutor(len(MODELS)) as pool:
            failures = {
                model: failure
                for model, failure in pool.map(self._load, [s.name for s in MODELS])
                if failure is not None
            }
        if failures and all(NOT_EXPLICIT in failure for failure in failures.values()):
            self._await(versions)
        elif failures:
            raise RepositoryError("; ".join(f"{model}: {failure}" for model, failure in failures.items()))
        elif self._others(versions):
            raise RepositoryError(f"Triton at {self.url} loaded the models, but serves {self._others(versions)}")

    def _load(self, model: str) -> tuple[str, str | None]:
        try:
            with InferenceServerClient(self.url) as client:
                client.load_model(model, client_timeout=LOAD_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            return model, _message(error)
        return model, None

    def _await(self, versions: set[int]) -> None:
        deadline = time.monotonic() + POLL_TIMEOUT_S
        while others := self._others(versions):
            if time.monotonic() > deadline:
                raise RepositoryError(
                    f"Triton at {self.url} refuses to be told and does not look by itself either, it serves {others}; "
                    "start it with --model-control-mode=explicit --load-model=*, or leave --triton out and restart it"
                )
            time.sleep(POLL_INTERVAL_S)

    def _others(self, versions: set[int]) -> str:
        """The models that do not serve `versions` and no others, with what they serve; empty when all do."""
        return ", ".join(
            f"{model} {', '.join(map(str, sorted(ready))) or 'not at all'}"
            for model, ready in self.loaded().items()
            if ready != versions
        )


def _message(error: Exception) -> str:
    text = error.message() if isinstance(error, InferenceServerException) else error.details()  # type: ignore[attr-defined]
    return " ".join(str(text).split()).rstrip(" ;")  # Triton adds a traceback, and ends its lists with ;
