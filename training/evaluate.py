"""Judges a checkpoint on labelled boards, in both readings and both languages; trains nothing.

    python -m training.evaluate --checkpoint training/checkpoints/deeppcb_tiny --data ../shared/data/deeppcb

Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from export.contract.boxes import Detections
from export.contract.defects import BARE_BOARD
from export.contract.tiles import cut_tiles, merge_tiles, tile_origins
from training.checkpoint import CheckpointError, load_checkpoint
from training.crops import read_gray
from training.deeppcb import Board, DatasetError, read_split
from training.detect import embed_prompts, read_tiles
from training.generate import generate
from training.metrics import MAX_DETECTIONS, Figures, Truth, evaluate_detections
from training.modeling_florence2_grounding import Florence2ForGrounding
from training.prompts import LANGUAGES, PHRASINGS, Language, names

SCORE_THRESHOLD = 0.01  # low: average precision looks at the whole curve
NMS_THRESHOLD = 0.3
LOCATE = 4  # the phrasing of the generative prompts: 'locate ...', its Chinese counterpart likewise


def class_names(language: Language) -> list[str]:
    """The usual name of each class, which it is asked for by."""
    return [names(defect, language)[0] for defect in BARE_BOARD]


def read_rgb(board: Board) -> NDArray[np.uint8]:
    """The image of a board as RGB (H, W, 3)."""
    return np.repeat(read_gray(board.path)[..., None], 3, axis=2)


def judge(boards: Sequence[Board], found: Sequence[Detections]) -> Figures:
    """The figures of detections, one list per board."""
    truths = [Truth(board.boxes_xyxy, board.class_ids) for board in boards]
    return evaluate_detections(truths, found, [defect.id for defect in BARE_BOARD])


def evaluate_grounding(
    network: Florence2ForGrounding,
    tokenizer: Tokenizer,
    boards: Sequence[Board],
    languages: Sequence[Language] = LANGUAGES,
) -> dict[Language, Figures]:
    """Figures of the grounding reading by language; all languages share one pass over each image."""
    texts = [name for language in languages for name in class_names(language)]
    embeddings = embed_prompts(network, tokenizer, texts)
    found: dict[Language, list[Detections]] = {language: [] for language in languages}
    for board in tqdm(boards, desc="grounding", unit="board", file=sys.stderr, leave=False, disable=None):
        outputs = read_tiles(network, embeddings, read_rgb(board))
        for index, language in enumerate(languages):
            own = slice(index * len(BARE_BOARD), (index + 1) * len(BARE_BOARD))
            found[language].append(
                outputs.merge(
                    score_threshold=SCORE_THRESHOLD,
                    nms_threshold=NMS_THRESHOLD,
                    max_detections=MAX_DETECTIONS,
                    prompts=own,
                )
            )
    return {language: judge(boards, detections) for language, detections in found.items()}


@torch.inference_mode()
def evaluate_generative(
    network: Florence2ForGrounding, tokenizer: Tokenizer, boards: Sequence[Board], language: Language
) -> Figures:
    """Figures of the generative reading, each class asked for by a prompt of its own."""
    tile = network.config.tile_size
    prompts = [PHRASINGS[language][LOCATE].format(label=name) for name in class_names(language)]
    found: list[Detections] = []
    for board in tqdm(boards, desc=f"generative, {language}", unit="board", file=sys.stderr, disable=None):
        image = read_rgb(board)
        resolution_wh = (image.shape[1], image.shape[0])
        origins = tile_origins(resolution_wh, tile)
        tiles = torch.from_numpy(cut_tiles(image, origins, tile))
        features = network.image_features(network.normalise(tiles)).repeat_interleave(len(prompts), 0)
        answers = generate(network, tokenizer, features, prompts * len(tiles))
        most = max(1, max(len(answer.scores) for answer in answers))
        boxes = np.zeros((len(tiles), len(prompts) * most, 4), np.float32)
        scores = np.zeros((len(tiles), len(prompts) * most, len(prompts)), np.float32)
        for index, answer in enumerate(answers):
            tile_id, prompt_id = divmod(index, len(prompts))
            rows = slice(prompt_id * most, prompt_id * most + len(answer.scores))
            boxes[tile_id, rows] = answer.boxes_xyxy
            scores[tile_id, rows, prompt_id] = answer.scores
        found.append(
            merge_tiles(
                boxes,
                scores,
                origins,
                resolution_wh,
                tile,
                score_threshold=SCORE_THRESHOLD,
                nms_threshold=NMS_THRESHOLD,
                max_detections=MAX_DETECTIONS,
            )
        )
    return judge(boards, found)


def main() -> int:
    """Runs the command line; 2 for a checkpoint or dataset that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="DeepPCB folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--reading", choices=("grounding", "generative", "both"), default="both")
    arguments = parser.parse_args()
    try:
        network, tokenizer, manifest = load_checkpoint(arguments.checkpoint)
        boards = read_split(arguments.data, arguments.split)
    except (CheckpointError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    report: dict[str, Any] = {"checkpoint": manifest["name"], "split": arguments.split, "boards": len(boards)}
    if arguments.reading != "generative":
        grounding = evaluate_grounding(network, tokenizer, boards)
        report["grounding"] = {language: figures.as_json() for language, figures in grounding.items()}
    if arguments.reading != "grounding":
        report["generative"] = {
            language: evaluate_generative(network, tokenizer, boards, language).as_json() for language in LANGUAGES
        }
    print(json.dumps(report))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
