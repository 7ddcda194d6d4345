"""How long a prompt may be: as long as the service takes it, and no longer where it is learned or judged."""

from collections.abc import Iterable

from tokenizers import Tokenizer

from export.contract.tensors import LENGTH_BUCKETS
from training.data.dataset import DatasetError

MOST_TOKENS = LENGTH_BUCKETS[-1]
MOST_NAMED = 5  # texts in a message


def check_lengths(texts: Iterable[str], tokenizer: Tokenizer) -> None:
    """Refuses texts that are too long to be asked for.

    Raises:
        DatasetError: names those of more than MOST_TOKENS tokens.
    """
    unique = list(dict.fromkeys(texts))
    counts = [len(encoding.ids) for encoding in tokenizer.encode_batch(unique)]
    long = [f"{text!r} ({count} tokens)" for text, count in zip(unique, counts, strict=True) if count > MOST_TOKENS]
    if long:
        more = f" and {len(long) - MOST_NAMED} more" if len(long) > MOST_NAMED else ""
        shown = ", ".join(long[:MOST_NAMED]) + more
        raise DatasetError(f"a prompt has {MOST_TOKENS} tokens at most, which {shown} exceed; say it shorter")
