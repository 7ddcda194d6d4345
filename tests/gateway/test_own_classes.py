"""A checkpoint of a plant's own classes, none of which the catalog knows, through the real Triton and gateway."""

import json
import shutil
from pathlib import Path

import httpx

from export.build import build
from export.graphs.checkpoint import load_checkpoint
from gateway.up import free_port, service
from tests.conftest import BOARD


def test_own_classes_are_asked_for_by_words_only(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"defects": []}))
    report = tmp_path / "report.json"
    build(load_checkpoint(checkpoint), "fp32", "onnxruntime", tmp_path / "models", BOARD.parent, report)
    with service(tmp_path / "models", free_port()) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/readyz").json()["defects"] == []
        asked = client.post("/detect", files={"image": BOARD.read_bytes()}, data={"prompt": "腐蚀"})
        assert (asked.status_code, asked.json()["model"]["name"]) == (200, "tiny")
        everything = client.post("/detect", files={"image": BOARD.read_bytes()})
        assert everything.status_code == 422
        assert "prompt" in everything.json()["detail"]
