"""The model behind every version's model.py: requests joined into one batch, one engine call, split again.

The generator is an engine as the others are: its call is a whole decoding loop, because a call of Triton for every
token would cost more than the token.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from export.contract.tensors import GENERATOR, MODELS
from export.runtime.engine import Engine, check_inputs, load_engine, select_gpu
from export.runtime.generator import load_generator


class TritonPythonModel:
    """Triton's interface; one object, and one process, per instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the engine that lies beside model.py; the warm-up in config.pbtxt runs it before any request does."""
        self.spec = next(spec for spec in MODELS if spec.name == args["model_name"])
        folder = Path(args["model_repository"]) / args["model_version"]
        if args["model_instance_kind"] == "GPU":  # Triton puts instances on every GPU, and says which, no more
            select_gpu(int(args["model_instance_device_id"]))
        self.engine: Engine = load_generator(folder) if self.spec is GENERATOR else load_engine(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers requests; those whose shapes agree run as one batch, a fault reaches only its own batch."""
        inputs = [self._read(request) for request in requests]
        answers: list[Any] = [None] * len(requests)
        groups: defaultdict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for index, arrays in enumerate(inputs):
            groups[tuple(array.shape[1:] for array in arrays.values())].append(index)
        for indices in groups.values():
            try:
                joined = {
                    name: np.concatenate([inputs[index][name] for index in indices]) for name in inputs[indices[0]]
                }
                check_inputs(self.spec, joined)
                outputs = self.engine.run(joined)
            except Exception as error:  # noqa: BLE001 - whatever fails, the instance must live on
                for index in indices:
                    answers[index] = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
                continue
            ends = np.cumsum([len(next(iter(inputs[index].values()))) for index in indices])
            for index, end in zip(indices, ends, strict=True):
                start = end - len(next(iter(inputs[index].values())))
                answers[index] = self._answer({name: array[start:end] for name, array in outputs.items()})
        return answers

    def _read(self, request: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
        return {
            tensor.name: pb_utils.get_input_tensor_by_name(request, tensor.name).as_numpy()
            for tensor in self.spec.inputs
        }

    def _answer(self, outputs: dict[str, NDArray[Any]]) -> Any:  # noqa: ANN401
        tensors = [pb_utils.Tensor(spec.name, np.ascontiguousarray(outputs[spec.name])) for spec in self.spec.outputs]
        return pb_utils.InferenceResponse(output_tensors=tensors)
