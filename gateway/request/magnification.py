"""How large tiles show an image: one magnification, or several, each a look of its own, as a request gives them."""

import json
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema

LEAST, MOST = 0.25, 4.0
MAX_LOOKS = 4
EXPECTED = f"expected a number from {LEAST:g} to {MOST:g}, or a JSON list of up to {MAX_LOOKS} of them"


def read_magnification(value: object) -> tuple[float, ...]:
    """The magnifications that a parameter gives: text, which is JSON, of a form or query, or a value of a JSON body.

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is no number; {EXPECTED}") from error
    values = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(values) <= MAX_LOOKS:
        raise ValueError(f"has {len(values)} values; {EXPECTED}")
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) < len(values) or not all(LEAST <= each <= MOST for each in numbers):
        raise ValueError(EXPECTED)
    return tuple(dict.fromkeys(map(float, numbers)))


NUMBER = {"type": "number", "minimum": LEAST, "maximum": MOST}
Magnification = Annotated[
    tuple[float, ...],
    PlainValidator(read_magnification),
    WithJsonSchema(
        {
            "description": "How large tiles show the image; several are looks of their own. In a form a list is JSON.",
            "anyOf": [
                NUMBER,
                {"type": "array", "minItems": 1, "maxItems": MAX_LOOKS, "items": NUMBER},
                {"type": "string", "contentMediaType": "application/json"},
            ],
        }
    ),
]
