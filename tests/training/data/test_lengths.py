from pathlib import Path

import pytest

from training.data.dataset import DatasetError
from training.data.lengths import MOST_TOKENS, check_lengths, too_long
from training.network.checkpoint import load_checkpoint


def test_texts_beyond_what_a_prompt_holds_are_named_with_their_tokens(tiny_checkpoint: Path) -> None:
    _, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    fits = "z" * (MOST_TOKENS - 2)  # a token each, as no word begins so, and two around them
    assert len(tokenizer.encode(fits).ids) == MOST_TOKENS
    check_lengths([fits, "断路"], tokenizer)
    assert too_long([fits, "断路"], tokenizer) == ""
    with pytest.raises(DatasetError, match=f"'{fits}z' .{MOST_TOKENS + 1} tokens. exceed"):
        check_lengths([fits, f"{fits}z", f"{fits}z"], tokenizer)
    with pytest.raises(DatasetError, match="and 2 more exceed"):
        check_lengths([fits + "z" * count for count in range(1, 8)], tokenizer)
