"""A plan run by trtexec, one process for each batch: so the gate judges what was built where the Python API is absent.

Nothing is served so: each batch loads the plan again. Formats are those of samples/common in TensorRT 8.5.1, 10.16 and
11.1: inputs as raw files, outputs as JSON with six digits, `nan` and `inf` as C++ prints them.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.runtime.error import EngineError
from export.tensorrt.plan import PlanDescription
from export.tensorrt.trtexec import find_trtexec

SUFFIX = ".trtexec.json"  # beside the plan: what only its builder can tell without the API
ONCE = ("--iterations=1", "--duration=0", "--warmUp=0")
NO_JSON = re.compile(r"(?<=[\s\[])(-?nan|-?inf)(?=[\s,])")
JSON = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def write_description(description: PlanDescription) -> None:
    """Notes beside a plan that trtexec built how it is run."""
    outputs = onnx.load(description.graph, load_external_data=False).graph.output
    content = {
        "tensorrt": description.tensorrt_major,
        "profiles": description.profiles,
        "outputs": {
            value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name for value in outputs
        },
    }
    description.plan.with_suffix(SUFFIX).write_text(json.dumps(content) + "\n", encoding="utf-8")


class TrtexecEngine:
    """A plan that `build_with_trtexec` made, on the first GPU."""

    def __init__(self, plan: Path) -> None:
        """Reads what its builder noted.

        Raises:
            EngineError: there is no trtexec, or no note.
        """
        trtexec, note = find_trtexec(), plan.with_suffix(SUFFIX)
        if trtexec is None or not note.is_file():
            raise EngineError(f"{plan} needs TensorRT's Python API, or trtexec and {note.name}; build it here")
        self._trtexec, self._plan, self._note = trtexec, plan, json.loads(note.read_text(encoding="utf-8"))

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One pass over a batch.

        Raises:
            EngineError: no profile takes these shapes, or trtexec failed; the end of what it printed is in the message.
        """
        with tempfile.TemporaryDirectory(prefix="trtexec-") as name:
            work = Path(name)
            command = [str(self._trtexec), *self._arguments(inputs, work), f"--exportOutput={work / 'outputs.json'}"]
            done = subprocess.run(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
            )
            if done.returncode or not (work / "outputs.json").is_file():
                raise EngineError(
                    f"trtexec ended with code {done.returncode} and no outputs of {self._plan}; it printed at last:\n"
                    f"{done.stdout[-2000:]}"
                )
            text = (work / "outputs.json").read_text(encoding="utf-8")
        answers = json.loads(NO_JSON.sub(lambda found: JSON[found[0]], text))
        return {
            answer["name"]: np.array(answer["values"], self._note["outputs"][answer["name"]]).reshape(
                [int(dim) for dim in answer["dimensions"].split("x")]
            )
            for answer in answers
        }

    def _arguments(self, inputs: Mapping[str, NDArray[Any]], work: Path) -> list[str]:
        major, profiles = self._note["tensorrt"], self._note["profiles"]
        arrays = {name: np.ascontiguousarray(inputs[name]) for name in profiles[0]}
        profile = next((index for index, shapes in enumerate(profiles) if _takes(shapes, arrays)), None)
        if profile is None:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise EngineError(f"no profile of {self._plan} takes {shapes}; pad to the contract's buckets")
        for name, array in arrays.items():
            narrowed = array.astype(np.int32) if major < 10 and array.dtype == np.int64 else array
            narrowed.tofile(work / name)
        return [
            f"--loadEngine={self._plan}",
            "--shapes=" + ",".join(f"{name}:{'x'.join(map(str, array.shape))}" for name, array in arrays.items()),
            "--loadInputs=" + ",".join(f"{name}:{work / name}" for name in arrays),
            *(() if major < 10 else (f"--useProfile={profile}",)),
            *(() if major < 11 else ("--includeDataTransfers",)),  # which 11 leaves out unless it is told
            *ONCE,
        ]


def _takes(profile: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
    return all(
        low <= size <= high
        for name, (least, _, greatest) in profile.items()
        for low, size, high in zip(least, arrays[name].shape, greatest, strict=True)
    )
