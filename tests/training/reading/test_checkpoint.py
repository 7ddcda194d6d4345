from pathlib import Path

import pytest
import torch

from training.network.checkpoint import CheckpointError
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.reading.checkpoint import open_checkpoint


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_network_goes_onto_the_gpu_where_there_is_one(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, available: bool, device: str
) -> None:
    asked: list[object] = []

    def to(network: Florence2ForGrounding, *devices: object) -> Florence2ForGrounding:
        asked.extend(devices)
        return network

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(Florence2ForGrounding, "to", to)
    network, _, manifest = open_checkpoint(tiny_checkpoint)
    assert (asked[-1], network.training, manifest["name"]) == (device, False, "tiny")


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(tmp_path)
