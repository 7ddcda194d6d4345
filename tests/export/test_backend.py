"""The model behind model.py where this machine has no GPU: what it asks of CUDA, and when."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from export.contract.tensors import GENERATOR
from export.tensorrt import engine as tensorrt_engine


@pytest.mark.parametrize(
    ("kind", "number", "calls"), [("GPU", "1", ["GPU 1", "load"]), ("CPU", "0", ["load"])], ids=["GPU", "CPU"]
)
def test_an_instance_loads_its_engine_on_the_gpu_that_triton_put_it_on(
    kind: str, number: str, calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("of Triton's own process"))
    from export.runtime import backend

    called: list[str] = []

    def set_device(device: int) -> tuple[int]:
        called.append(f"GPU {device}")
        return (0,)

    monkeypatch.setattr(tensorrt_engine, "runtime", lambda: SimpleNamespace(cudaSetDevice=set_device))
    monkeypatch.setattr(backend, "load_generator", lambda folder: called.append("load"))
    backend.TritonPythonModel().initialize(
        {
            "model_name": GENERATOR.name,
            "model_repository": str(tmp_path),
            "model_version": "1",
            "model_instance_kind": kind,
            "model_instance_device_id": number,
        }
    )
    assert called == calls
