"""A request of POST /detect or /detect/batch as httpx takes it: files, and everything else as text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def form_of(
    images: Iterable[bytes | Path], prompts: str | Sequence[str], parameters: Mapping[str, object]
) -> dict[str, Any]:
    """The arguments `files` and `data`; a parameter of None is left out, one that is no text is sent as JSON.

    Raises:
        OSError: a file cannot be read.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return {
        "files": [("image", _file(image)) for image in images],
        "data": {"prompt": [prompts] if isinstance(prompts, str) else list(prompts), **texts},
    }


def _file(image: bytes | Path) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return ("image", image)
    name = image.name.encode("utf-8", "replace").decode()  # one in another encoding has parts that no request can carry
    return (name, image.read_bytes())
