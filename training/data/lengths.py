"""How long a prompt may be: as long as the service takes it, and no longer where it is learned or judged."""

from collections.abc import Iterable

from tokenizers import Tokenizer

from export.contract.tensors import LENGTH_BUCKETS
from training.data.dataset import DatasetError

MOST_TOKENS = LENGTH_BUCKETS[-1]
MOST_NAMED = 5  # texts in a message


def too_long(texts: Iterable[str], tokenizer: Tokenizer) -> str:
    """Those of more than MOST_TOKENS tokens, as a message names them; '' where there are none."""
    unique = list(dict.fromkeys(texts))
    counts = [len(encoding.ids) for encoding in tokenizer.encode_batch(unique)]
    long = [f"{text!r} ({count} tokens)" for text, count in zip(unique, counts, strict=True) if count > MOST_TOKENS]
    more = f" and {len(long) - MOST_NAMED} more" if len(long) > MOST_NAMED else ""
    return ", ".join(long[:MOST_NAMED]) + more


def check_lengths(texts: Iterable[str], tokenizer: Tokenizer) -> None:
    """Refuses texts that are too long to be asked for.

    Raises:
        DatasetError: names those of more than MOST_TOKENS tokens.
    """
    if long := too_long(texts, tokenizer):
        raise DatasetError(f"a prompt has {MOST_TOKENS} tokens at most, which {long} exceed; say it shorter")
