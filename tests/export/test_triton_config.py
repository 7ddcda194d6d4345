"""Golden files: what Triton is told must not change unnoticed. To renew one, copy the rendered text over it.

The configurations are loaded by a real Triton: one without a GPU must refuse those for TensorRT for that only.
"""

import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as pb

from export.contract.tensors import DETECTOR, MODELS, PROMPT_ENCODER, Dimensions, ModelSpec
from export.server import ServerError
from export.triton.config import render_config
from gateway.models.served import describe
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from tests.conftest import embedded_triton

GOLDEN = Path(__file__).parent / "golden"
PARAMETERS = {"checkpoint_name": "example", "checkpoint_sha256": "00ff"}
DIMENSIONS = Dimensions(tile=256, embedding=192, boxes=100)
TARGETS = ("openvino", "onnxruntime", "tensorrt")
LOG_REQUESTS = """import pathlib


class TritonPythonModel:
    def initialize(self, args):
        self.log = pathlib.Path(args["model_repository"]) / "log"

    def execute(self, requests):
        import numpy
        import triton_python_backend_utils as pb

        answers = []
        for request in requests:
            image, prompts = (pb.get_input_tensor_by_name(request, name) for name in ("IMAGE", "PROMPT_EMBEDDINGS"))
            shapes = [list(tensor.as_numpy().shape) for tensor in (image, prompts)]
            outputs = {"BOXES": numpy.zeros((1, 100, 4), "f4"), "SCORES": numpy.zeros((1, 100, shapes[1][1]), "f4")}
            answers.append(pb.InferenceResponse([pb.Tensor(*output) for output in outputs.items()]))
        with self.log.open("a") as log:
            log.write(f"{len(requests)} of {shapes}\\n")
        return answers
"""

TELL_TYPES = """
class TritonPythonModel:
    def execute(self, requests):
        import numpy
        import triton_python_backend_utils as pb

        answers = []
        for request in requests:
            ids = pb.get_input_tensor_by_name(request, "INPUT_IDS").as_numpy()
            said = numpy.repeat(ids[:, :1] * ids.itemsize, 192, axis=1).astype("f4")
            answers.append(pb.InferenceResponse([pb.Tensor("PROMPT_EMBEDDINGS", said)]))
        return answers
"""


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("target", TARGETS)
def test_render_config_equals_its_golden_file(target: str, spec: ModelSpec) -> None:
    text = render_config(spec, DIMENSIONS, PARAMETERS, target)
    assert text == (GOLDEN / target / f"{spec.name}.pbtxt").read_text()


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_render_config_for_tensorrt_8_equals_its_golden_file(spec: ModelSpec) -> None:
    text = render_config(spec, DIMENSIONS, PARAMETERS, "tensorrt", tensorrt_major=8)
    assert text == (GOLDEN / "tensorrt8" / f"{spec.name}.pbtxt").read_text()


def test_the_gateway_sends_what_a_plan_of_tensorrt_8_takes(tmp_path: Path) -> None:
    """The real Triton, whose model is a stand-in for the plan: it says which type reached it."""
    parameters = PARAMETERS | {"defects": "open", "score_thresholds": '{"default": 0.5}'}
    for spec, model in ((DETECTOR, LOG_REQUESTS), (PROMPT_ENCODER, TELL_TYPES)):
        config = text_format.Parse(render_config(spec, DIMENSIONS, parameters, "tensorrt", 8), pb.ModelConfig())
        on_cpu(config)
        (publish(tmp_path, spec, text_format.MessageToString(config)) / "1" / "model.py").write_text(model)

    async def ask(url: str) -> NDArray[np.float32]:
        triton = Triton(url)
        await describe(triton)
        ids = np.full((2, 32), 51_289, np.int64)
        inputs = {"INPUT_IDS": ids, "ATTENTION_MASK": ids}
        outputs = await triton.infer(PROMPT_ENCODER, "1", inputs, Deadline.within(60))
        await triton.close()
        embeddings: NDArray[np.float32] = outputs["PROMPT_EMBEDDINGS"]
        return embeddings

    with embedded_triton(tmp_path) as server:
        said = asyncio.run(ask(server.grpc_url))
    assert said.shape == (2, 192)
    assert (said == 51_289 * 4).all()  # an id times the bytes that it came in


@pytest.mark.parametrize("target", ["openvino", "tensorrt"])
def test_triton_warms_up_every_instance_with_every_tuned_shape(target: str, tmp_path: Path) -> None:
    """The plan's configuration too, but for the backend: its shapes and batch sizes are ones that Triton takes."""
    config = text_format.Parse(render_config(DETECTOR, DIMENSIONS, PARAMETERS, target), pb.ModelConfig())
    on_cpu(config)
    folder = publish(tmp_path, DETECTOR, text_format.MessageToString(config))
    (folder / "1" / "model.py").write_text(LOG_REQUESTS)
    with embedded_triton(tmp_path):
        seen = Counter((folder / "log").read_text().splitlines())
    tuned = [(batch, prompts) for batch in (1, 4, 8) for prompts in (16, 64)] if target == "tensorrt" else [(1, 16)]
    assert seen == {f"{batch} of [[1, 256, 256, 3], [1, {prompts}, 192]]": 2 for batch, prompts in tuned}


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_triton_without_a_gpu_refuses_a_plan_for_want_of_its_backend_only(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = render_config(spec, DIMENSIONS, PARAMETERS, "tensorrt")
    reason = refusal(tmp_path, spec, config, capsys)
    if "tensorrt_plan" in config:
        assert "unable to find backend library for backend 'tensorrt'" in reason
    else:
        assert "has kind KIND_GPU but no GPUs are available" in reason


@pytest.mark.parametrize(
    ("change", "to", "blamed"),
    [
        ("preferred_batch_size: 8", "preferred_batch_size: 9", "preferred size must be <= max batch size"),
        ("dims: 192", "dims: 0", "dimension must be integer >= 1"),
        ("graph_spec", "graph_specification", "graph_specification"),
    ],
)
def test_triton_refuses_a_broken_configuration_for_what_is_broken(
    change: str, to: str, blamed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = render_config(DETECTOR, DIMENSIONS, PARAMETERS, "tensorrt")
    assert change in config
    reason = refusal(tmp_path, DETECTOR, config.replace(change, to), capsys)
    assert blamed in reason
    assert "unable to find backend" not in reason


def on_cpu(config: pb.ModelConfig) -> None:
    """Lets a Triton without a GPU serve a plan's configuration with a model.py of the test's own."""
    config.platform, config.backend, config.default_model_filename = "", "python", ""
    config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_CPU
    config.instance_group[0].ClearField("profile")


def publish(repository: Path, spec: ModelSpec, config: str) -> Path:
    folder = repository / spec.name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    return folder


def refusal(repository: Path, spec: ModelSpec, config: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The log of a Triton that does not load a model; more of it than the error repeats."""
    folder = publish(repository, spec, config)
    for name in ("model.plan", "model.py"):
        (folder / "1" / name).touch()
    with pytest.raises(ServerError), embedded_triton(repository):
        pass
    return capsys.readouterr().err
