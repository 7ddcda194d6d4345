"""YOLOv8n at 640 as an ONNX graph, untrained: what a pass costs does not depend on what was learned.

ultralytics has an environment of its own. Making the graph needs none of torchvision's operators, so torch for a CPU
will do, unlike training (tests/benchmarks/yolo_baseline.py):

    python3.11 -m venv build/yolo
    echo "$PWD/.venv-dev/lib/python3.11/site-packages" > build/yolo/lib/python3.11/site-packages/dev.pth
    build/yolo/bin/pip install --no-deps ultralytics==8.4.190 torchvision==0.28.0 ultralytics-thop polars py-cpuinfo
    PYTHONPATH=. build/yolo/bin/python -m tests.benchmarks.service.yolo_graph --out build/yolo/model.onnx

Pixels go in as ours do, UINT8 RGB, and are normalised inside; out come the network's raw boxes and scores.
"""

import argparse
import os
import tempfile
from pathlib import Path

SIDE, CLASSES = 640, 12


def write(path: Path) -> None:
    """Writes the graph: IMAGE (B, 640, 640, 3) to OUTPUT (B, 4 + 12, 8400), boxes as centre and size in pixels."""
    # Read when ultralytics is imported: no network, no installing, settings apart from the user's.
    settings = tempfile.mkdtemp()
    os.environ |= {"YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False", "YOLO_CONFIG_DIR": settings}
    import torch
    from torch import Tensor, nn
    from ultralytics.nn.tasks import DetectionModel

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = DetectionModel("yolov8n.yaml", nc=CLASSES, verbose=False).eval().fuse()
            self.network.model[-1].export = True  # one tensor out, no training outputs

        def forward(self, image: Tensor) -> Tensor:
            return self.network(image.permute(0, 3, 1, 2).float() / 255)

    image = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    torch.onnx.export(
        Whole().eval(),
        (image,),
        str(path),
        input_names=["IMAGE"],
        output_names=["OUTPUT"],
        opset_version=17,
        dynamo=False,
    )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
