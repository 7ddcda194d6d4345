"""What a network reports on labelled boards, and which of its boxes are right; knows nothing of thresholds."""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from export.contract.boxes import Detections, iou_matrix
from export.contract.defects import BARE_BOARD
from training.calibration import Boxes
from training.deeppcb import Board
from training.detect import TileOutputs, embed_prompts, read_tiles
from training.evaluate import NMS_THRESHOLD, SCORE_THRESHOLD, class_names, read_rgb
from training.metrics import F1_IOU, MAX_DETECTIONS
from training.modeling_florence2_grounding import Florence2ForGrounding
from training.prompts import LANGUAGES


def read_boards(network: Florence2ForGrounding, tokenizer: Tokenizer, boards: Sequence[Board]) -> list[TileOutputs]:
    """One pass over each board, every class asked for by its usual name in every language."""
    embeddings = embed_prompts(network, tokenizer, [name for language in LANGUAGES for name in class_names(language)])
    progress = tqdm(boards, desc="grounding", unit="board", file=sys.stderr, leave=False, disable=None)
    return [read_tiles(network, embeddings, read_rgb(board)) for board in progress]


def merge_boards(boards: Sequence[Board], outputs: Sequence[TileOutputs]) -> Boxes:
    """The boxes that all languages report, from SCORE_THRESHOLD up, as evaluate merges them."""
    rows: list[Boxes] = []
    count = len(BARE_BOARD)
    for board_id, (board, output) in enumerate(zip(boards, outputs, strict=True)):
        for index in range(len(LANGUAGES)):
            found = output.merge(
                score_threshold=SCORE_THRESHOLD,
                nms_threshold=NMS_THRESHOLD,
                max_detections=MAX_DETECTIONS,
                prompts=slice(index * count, (index + 1) * count),
            )
            rows.append(Boxes(np.full(len(found), board_id), found.class_ids, found.scores, right_boxes(board, found)))
    return Boxes(
        np.concatenate([row.board_ids for row in rows]),
        np.concatenate([row.class_ids for row in rows]),
        np.concatenate([row.scores for row in rows]),
        np.concatenate([row.right for row in rows]),
    )


def right_boxes(board: Board, found: Detections) -> NDArray[np.bool_]:
    """Which boxes (N,), best first, find a defect of their class, IoU 0.33, that no better box has found."""
    free = np.ones(len(board.class_ids), dtype=bool)
    right = np.zeros(len(found), dtype=bool)
    overlaps = np.where(
        found.class_ids[:, None] == board.class_ids, iou_matrix(found.boxes_xyxy, board.boxes_xyxy), -1.0
    )  # (N, M)
    for index in np.argsort(-found.scores, kind="stable"):
        overlap = np.where(free, overlaps[index], -1.0)
        if len(overlap) and overlap.max() >= F1_IOU:
            right[index] = True
            free[overlap.argmax()] = False
    return right
