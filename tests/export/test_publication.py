from pathlib import Path

import pytest

from export.graphs.checkpoint import load_checkpoint as load_for_export
from export.publishing.publication import detector_parameters
from training.network.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("outlines", [False, True])
def test_whether_a_checkpoint_outlines_is_handed_on(tiny_checkpoint: Path, tmp_path: Path, outlines: bool) -> None:
    network, tokenizer, manifest = load_checkpoint(tiny_checkpoint)
    network.config.outlines = outlines
    save_checkpoint(tmp_path / "checkpoint", network, tokenizer, manifest, log="")
    parameters = detector_parameters(load_for_export(tmp_path / "checkpoint"), "fp32", "onnxruntime")
    assert parameters["outlines"] == ("true" if outlines else "false")
