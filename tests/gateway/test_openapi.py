"""schemathesis over /openapi.json against the real service: nothing breaks it, and it answers nothing undeclared."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from export.contract.tensors import PROMPT_ENCODER
from export.server import TritonServer
from gateway.app import create_app
from gateway.settings import Settings
from tests.conftest import REPOSITORY
from tests.gateway.test_failures import gateway, status, wait_until

CASES = 15  # of each operation and kind
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    (method, path) for path, methods in create_app(Settings()).openapi()["paths"].items() for method in methods
]


@pytest.fixture(scope="module")
def api(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The service as it describes itself; its catalog is its own, since operations change it.

    Its repository has the tokenizer and no whole version: none can be activated.
    """
    folder: Path = tmp_path_factory.mktemp("openapi")
    shutil.copytree(REPOSITORY / PROMPT_ENCODER.name, folder / PROMPT_ENCODER.name, symlinks=True)
    own = {"database_url": f"sqlite:///{folder}/gateway.db", "model_repository": str(folder)}
    with gateway(triton.grpc_url, **own, deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        yield schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")


@pytest.mark.parametrize("kind", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
def test_an_operation_answers_as_it_declares(
    api: schemathesis.BaseSchema, method: str, path: str, kind: GenerationMode
) -> None:
    operation = api[path][method]
    if kind is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
        pytest.skip("the operation takes nothing that could be wrong")

    @given(case=operation.as_strategy(generation_mode=kind))
    @settings(
        max_examples=CASES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers(case: schemathesis.Case) -> None:
        case.headers.pop("X-Request-Timeout-Ms", None)  # a few milliseconds are answered by 504, as they should
        case.call_and_validate(checks=CHECKS)

    answers()
