"""Behaves as trtexec does towards export.tensorrt, without TensorRT: its plan is the graph, which ONNX Runtime runs.

Inputs and outputs are as samples/common of TensorRT 11.1 reads and writes them: raw files, and JSON with six digits.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime

arguments = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
if "saveEngine" in arguments:
    shutil.copy(arguments["onnx"], arguments["saveEngine"])
if "loadEngine" in arguments:
    graph = Path(arguments["loadEngine"]).read_bytes()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    shapes = {
        name: tuple(map(int, dims.split("x")))
        for name, dims in (shape.split(":") for shape in arguments["shapes"].split(","))
    }
    files = dict(pair.split(":") for pair in arguments["loadInputs"].split(","))
    types = {"tensor(uint8)": np.uint8, "tensor(int64)": np.int64, "tensor(float)": np.float32}
    inputs = {
        tensor.name: np.fromfile(files[tensor.name], types[tensor.type]).reshape(shapes[tensor.name])
        for tensor in session.get_inputs()
    }
    names = [output.name for output in session.get_outputs()]
    parts = []
    for name, array in zip(names, session.run(names, inputs), strict=True):
        values = ", ".join(f"{value:.6g}" if array.dtype == np.float32 else str(value) for value in array.ravel())
        dims = "x".join(map(str, array.shape))
        parts.append(f'{{ "name" : "{name}"\n  , "dimensions" : "{dims}"\n  , "values" : [ {values} ]\n  }}\n')
    Path(arguments["exportOutput"]).write_text("[\n  " + ", ".join(parts) + "]\n")
