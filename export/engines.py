"""ONNX graphs to the engine file of a target."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import openvino

PRECISIONS = ("fp32",)


def _openvino(graph: Path, folder: Path) -> None:
    openvino.save_model(openvino.convert_model(graph), folder / "model.xml", compress_to_fp16=False)


def _onnxruntime(graph: Path, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(graph.read_bytes())


BUILDERS: dict[str, Callable[[Path, Path], None]] = {"openvino": _openvino, "onnxruntime": _onnxruntime}


def build_engine(graph: Path, target: str, folder: Path) -> None:
    """Writes the engine file of `target` for an ONNX graph into `folder`."""
    BUILDERS[target](graph, folder)


def tool_version(target: str) -> str:
    """The version of the library that builds and runs a target's engines."""
    return str({"openvino": openvino, "onnxruntime": onnxruntime}[target].__version__)
