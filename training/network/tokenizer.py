"""A small byte-level BPE tokenizer with Florence-2's special and location tokens.

Any text can be encoded, whatever its script: what no merge covers falls back to bytes. A fine-tuning
from a published Florence-2 keeps that checkpoint's own tokenizer instead.
"""

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from export.contract.locations import NUM_BINS, location_token

BOS, PAD, EOS, UNK, IMAGE = SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<image>")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns merges from `texts` until `vocab_size` text tokens, then appends the 1,000 location tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([location_token(index) for index in range(NUM_BINS)])
    bos, eos = (token_id(tokenizer, token) for token in (BOS, EOS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, bos), (EOS, eos)]
    )
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that the vocabulary must hold.

    Raises:
        KeyError: it does not.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(f"the tokenizer has no token {token!r}; it is not one of this project nor of Florence-2")
    return int(found)


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], longest: int | None = None) -> tuple[Tensor, Tensor]:
    """Texts to input_ids and attention_mask (P, L), padded to the longest; what goes beyond `longest` tokens is cut."""
    encodings = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    if longest is not None:
        encodings = [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in encodings]
    length = max(map(len, encodings))
    pad = token_id(tokenizer, PAD)
    input_ids = torch.full((len(texts), length), pad, dtype=torch.int64)
    attention_mask = torch.zeros((len(texts), length), dtype=torch.int64)
    for row, ids in enumerate(encodings):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
    return input_ids, attention_mask
