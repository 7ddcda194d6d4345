"""Golden files: what Triton is told must not change unnoticed. To renew one, copy the rendered text over it."""

from pathlib import Path

import pytest

from export.contract.tensors import MODELS, Dimensions, ModelSpec
from export.triton_config import render_config

GOLDEN = Path(__file__).parent / "golden"
PARAMETERS = {"checkpoint_name": "example", "checkpoint_sha256": "00ff"}


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_render_config_equals_its_golden_file(spec: ModelSpec) -> None:
    text = render_config(spec, Dimensions(tile=256, embedding=192, boxes=100), PARAMETERS)
    assert text == (GOLDEN / f"{spec.name}.pbtxt").read_text()
