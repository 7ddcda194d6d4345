"""Words to prompt embeddings: tokens here, the text encoder in Triton, each text only once."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.contract.locations import location_token
from export.contract.tensors import LENGTH_BUCKETS, PROMPT_ENCODER, bucket
from gateway.errors import ParameterError, UnavailableError
from gateway.models.served import Served
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from gateway.words.wording import normalise

CACHE_SIZE = 4096  # texts; 192 floats each
BOS, PAD, EOS = "<s>", "<pad>", "</s>"


@dataclass(frozen=True)
class PromptTokens:
    """What the models read of texts: input_ids and attention_mask (P, L)."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]  # 1 for a token, 0 for padding


class PromptEmbeddings:
    """The embeddings of one served checkpoint, least recently used texts forgotten first."""

    def __init__(self, triton: Triton, served: Served, model_repository: Path) -> None:
        self._triton = triton
        self._served = served
        self._tokenizer = _load_tokenizer(model_repository, served)
        self._pad = self._tokenizer.token_to_id(PAD)
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def embed(self, texts: Sequence[str], deadline: Deadline) -> NDArray[np.float32]:
        """Texts to embeddings (P, D) in the same order.

        Raises:
            ParameterError: a text has more tokens than the model reads.
            ReplacedError: Triton serves another version by now.
        """
        keys = [normalise(text) for text in texts]
        rows = {key: self._cache[key] for key in keys if key in self._cache}  # others may forget them meanwhile
        missing = [key for key in dict.fromkeys(keys) if key not in rows]
        if missing:
            rows |= await self._encode(missing, deadline)
        for key, row in rows.items():
            self._cache[key] = row
            self._cache.move_to_end(key)
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return np.stack([rows[key] for key in keys])

    def fits(self, text: str) -> bool:
        """Whether the model reads that many tokens."""
        key = normalise(text)
        return key in self._cache or len(self._tokenizer.encode(key).ids) <= LENGTH_BUCKETS[-1]

    def first_location(self) -> int:
        """The id of <loc_0>, behind which the other locations stand.

        Raises:
            ParameterError: the checkpoint writes no locations.
        """
        token_id = self._tokenizer.token_to_id(location_token(0))
        if token_id is None:
            raise ParameterError("the served checkpoint writes no locations; ask for the reading 'grounding'")
        return int(token_id)

    def tokens(self, texts: Sequence[str]) -> PromptTokens:
        """Texts to tokens, as many for each as the longest needs.

        Raises:
            ParameterError: a text has more tokens than the model reads.
        """
        encodings = [self._tokenizer.encode(normalise(text)) for text in texts]
        longest = LENGTH_BUCKETS[-1]
        for text, encoding in zip(texts, encodings, strict=True):
            if len(encoding.ids) > longest:
                raise ParameterError(
                    f"prompt {text[:40]!r}... has {len(encoding.ids)} tokens, the model reads {longest}; say it shorter"
                )
        length = bucket(max(len(encoding.ids) for encoding in encodings), LENGTH_BUCKETS, "tokens")
        input_ids = np.full((len(encodings), length), self._pad, np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, encoding in enumerate(encodings):
            input_ids[row, : len(encoding.ids)] = encoding.ids
            attention_mask[row, : len(encoding.ids)] = 1
        return PromptTokens(input_ids, attention_mask)

    def regions(self, bins: NDArray[np.int64]) -> PromptTokens:
        """Regions (P, 4), x1, y1, x2, y2 in bins of a view, to the tokens that ask for the outlines in them.

        Raises:
            ParameterError: the checkpoint writes no locations.
        """
        bos, eos = (self._tokenizer.token_to_id(token) for token in (BOS, EOS))
        input_ids = np.full((len(bins), LENGTH_BUCKETS[0]), self._pad, np.int64)
        input_ids[:, 0], input_ids[:, 1:5], input_ids[:, 5] = bos, bins + self.first_location(), eos
        attention_mask = np.zeros_like(input_ids)
        attention_mask[:, :6] = 1
        return PromptTokens(input_ids, attention_mask)

    async def _encode(self, texts: list[str], deadline: Deadline) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(texts), PROMPT_ENCODER.max_batch_size):
            batch = slice(start, start + PROMPT_ENCODER.max_batch_size)
            tokens = self.tokens(texts[batch])
            inputs = {"INPUT_IDS": tokens.input_ids, "ATTENTION_MASK": tokens.attention_mask}
            outputs = await self._triton.infer(PROMPT_ENCODER, self._served.version, inputs, deadline)
            rows = [row.copy() for row in outputs["PROMPT_EMBEDDINGS"]]  # a view would keep all of the batch
            found |= dict(zip(texts[batch], rows, strict=True))
        return found


def _load_tokenizer(model_repository: Path, served: Served) -> Tokenizer:
    folder = model_repository / PROMPT_ENCODER.name / served.version
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UnavailableError(
            f"{folder} with the tokenizer of the served version cannot be read ({error}); "
            "set PCBD_MODEL_REPOSITORY to the repository that Triton serves"
        ) from error
    if manifest.get("checkpoint_sha256") != served.checkpoint_sha256:
        raise UnavailableError(
            f"the tokenizer in {folder} belongs to another checkpoint than the model that Triton serves; "
            "set PCBD_MODEL_REPOSITORY to the repository that Triton serves"
        )
    return tokenizer
