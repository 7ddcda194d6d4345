import asyncio

import numpy as np
import pytest

import gateway.models.prompts
from export.server import TritonServer
from gateway.errors import ParameterError
from gateway.models.prompts import PromptEmbeddings
from gateway.models.served import describe
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from tests.conftest import REPOSITORY


def test_texts_embedded_side_by_side_in_a_full_cache_are_as_those_embedded_alone(
    triton: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text found in the cache may be forgotten while another one is being encoded."""
    monkeypatch.setattr(gateway.models.prompts, "CACHE_SIZE", 2)
    together = [["open", "short"], ["spur", "短路"], ["open", "毛刺"], ["短路", "open", "Open "]]

    async def everyone() -> None:
        connection, deadline = Triton(triton.grpc_url), Deadline.within(60)
        try:
            prompts = PromptEmbeddings(connection, await describe(connection), REPOSITORY)
            words = sorted({word for texts in together for word in texts})
            alone = {word: (await prompts.embed([word], deadline))[0] for word in words}
            await prompts.embed(["open", "spur"], deadline)
            found = await asyncio.gather(*(prompts.embed(texts, deadline) for texts in together))
            for texts, rows in zip(together, found, strict=True):
                np.testing.assert_allclose(rows, np.stack([alone[text] for text in texts]), rtol=1e-4, atol=1e-5)
            with pytest.raises(ParameterError, match="tokens"):
                await prompts.embed(["🙂" * 400], deadline)
        finally:
            await connection.close()

    asyncio.run(everyone())
