"""YOLOv8n inside Triton's Python backend, on the same engine as ours; yolo.py copies this file to the repository."""

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from export.runtime.engine import load_engine


class TritonPythonModel:
    """Triton's interface; requests of one image each."""

    def initialize(self, args: dict[str, str]) -> None:
        self.engine = load_engine(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:  # noqa: ANN401 - Triton's own
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        output = self.engine.run({"IMAGE": image})["OUTPUT"]
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", output)])
