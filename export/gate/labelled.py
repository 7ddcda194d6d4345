"""The labelled pictures that detectors of a checkpoint are judged on: those that it can be asked about."""

import sys
from pathlib import Path

from export.boards.labelled import Boards, LabelledError, judging_boards
from export.contract.tensors import PROMPT_BUCKETS, ContractError, bucket
from export.graphs.checkpoint import Checkpoint


def labelled_boards(checkpoint: Checkpoint, given: Path | None) -> Boards | None:
    """Those given, else those that judged its training; None, and why is said, where these are not there any more.

    Raises:
        LabelledError: those given cannot be read, or the checkpoint cannot be asked for their classes.
    """
    try:
        boards = judging_boards(checkpoint.folder, given)
        try:
            bucket(len(boards.class_names), PROMPT_BUCKETS, "categories")
            checkpoint.prompt_inputs(boards.class_names)
        except ContractError as error:
            raise LabelledError(f"{given or checkpoint.folder / 'manifest.json'}: {error}") from error
    except LabelledError as error:
        if given is not None:
            raise
        print(f"mAP is not judged, for want of labelled pictures: {error}", file=sys.stderr)  # noqa: T201
        return None
    return boards
