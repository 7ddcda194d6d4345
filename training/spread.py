"""How much a checkpoint's accuracy depends on wording: mAP for phrasings that training never saw; trains nothing.

    python -m training.spread --checkpoint training/checkpoints/pcb_twelve --data ../shared/data/deeppcb

Every class is asked for by its usual name in each of 20 unseen phrasings per language; all share one pass over
each image. Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tqdm import tqdm

from export.contract.boxes import Detections
from training.data.dataset import Dataset, DatasetError
from training.data.images import read_image
from training.data.source import read_judging
from training.evaluate import NMS_THRESHOLD, SCORE_THRESHOLD, class_names, judge
from training.metrics import MAX_DETECTIONS
from training.network.checkpoint import CheckpointError
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.prompts import LANGUAGES, Language
from training.reading.checkpoint import open_checkpoint
from training.reading.detect import embed_prompts, merge_looks, read_tiles

# None of these may stand in training.prompts.PHRASINGS; a test holds that.
UNSEEN: dict[Language, tuple[str, ...]] = {
    "en": (
        "can you see {label}?",
        "highlight {label}",
        "point out every {label}",
        "I am looking for {label}",
        "{label}, please",
        "report {label}",
        "search the picture for {label}",
        "are there any signs of {label}?",
        "which spots show {label}?",
        "draw a rectangle around {label}",
        "help me find {label}",
        "inspect for {label}",
        "spot the {label}",
        "tell me where {label} occurs",
        "list all {label}",
        "outline {label} areas",
        "does the PCB have {label}?",
        "{label} on this circuit board",
        "give me the positions of {label}",
        "I need boxes for {label}",
    ),
    "zh": (
        "请找{label}",
        "图中{label}在哪儿",
        "帮忙圈出{label}",
        "有没有{label}",
        "识别{label}",
        "请标记{label}的地方",
        "查看是否有{label}",
        "电路板上的{label}",
        "把所有{label}找出来",
        "给出{label}的位置",
        "我要找{label}",
        "搜索{label}",
        "这里是不是有{label}",
        "框出{label}",
        "指出{label}",
        "请定位{label}",
        "{label}在什么位置",
        "列出全部{label}",
        "看看哪里出现{label}",
        "报告{label}",
    ),
}


def map50_by_phrasing(
    network: Florence2ForGrounding, tokenizer: Tokenizer, dataset: Dataset, language: Language
) -> dict[str, float]:
    """mAP@0.5 for each unseen phrasing of a language.

    Raises:
        DatasetError: names of classes are too long to be asked for in a phrasing.
    """
    phrasings = UNSEEN[language]
    classes = len(dataset.categories)
    texts = [phrasing.format(label=name) for phrasing in phrasings for name in class_names(dataset, language)]
    embeddings = embed_prompts(network, tokenizer, texts)
    found: dict[str, list[Detections]] = {phrasing: [] for phrasing in phrasings}
    for sample in tqdm(dataset.samples, desc=f"phrasings, {language}", unit="image", file=sys.stderr, disable=None):
        outputs = read_tiles(network, embeddings, read_image(sample.path))
        for index, phrasing in enumerate(phrasings):
            found[phrasing].append(
                merge_looks(
                    [outputs],
                    score_threshold=SCORE_THRESHOLD,
                    nms_threshold=NMS_THRESHOLD,
                    max_detections=MAX_DETECTIONS,
                    prompts=slice(index * classes, (index + 1) * classes),
                )
            )
    return {phrasing: judge(dataset, detections).map50 for phrasing, detections in found.items()}


def main() -> int:
    """Runs the command line; 2 for a checkpoint or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="COCO file or DeepPCB folder")
    parser.add_argument("--split", default="val", help="of a DeepPCB folder")
    arguments = parser.parse_args()
    report: dict[str, Any] = {}
    everything: dict[str, float] = {}
    try:
        network, tokenizer, manifest = open_checkpoint(arguments.checkpoint)
        dataset = read_judging(arguments.data, arguments.split)
        for language in LANGUAGES:
            figures = map50_by_phrasing(network, tokenizer, dataset, language)
            everything |= figures
            report[language] = {phrasing: round(value, 4) for phrasing, value in figures.items()}
    except (CheckpointError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    report = {"checkpoint": manifest["name"], "split": arguments.split, "images": len(dataset.samples)} | report
    report["spread"] = round(max(everything.values()) - min(everything.values()), 4)
    print(json.dumps(report, ensure_ascii=False))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
