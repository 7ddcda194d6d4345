"""Which of what is on offer a client likes best, by its Accept and Accept-Language headers (RFC 9110, 12.5)."""

from collections.abc import Sequence
from typing import Literal, TypeVar

Kind = Literal["application/json", "image/png", "image/jpeg"]
JSON: Literal["application/json"] = "application/json"
PNG: Literal["image/png"] = "image/png"
JPEG: Literal["image/jpeg"] = "image/jpeg"
Offer = TypeVar("Offer", bound=str)


def preferred(header: str | None, offers: Sequence[Offer], separator: str = "/") -> Offer:
    """The offer with the highest quality; the first of equals, and the first where the header suits none.

    `separator` ends what a range may leave open: `image/*` fits image/png, and with "-" `zh` is fitted by zh-CN.
    """
    ranges = _ranges(header or "")

    def quality(offer: Offer) -> float:
        # The most specific range that fits an offer decides about it.
        fitting = [(len(name), q) for name, q in ranges if _fits(name, offer, separator)]
        return max(fitting)[1] if fitting else 0.0

    best = max(offers, key=quality)
    return best if quality(best) > 0 else offers[0]


def _ranges(header: str) -> list[tuple[str, float]]:
    found = []
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if name:
            found.append((name, quality))
    return found


def _fits(name: str, offer: str, separator: str) -> bool:
    if name in {"*", "*/*", offer}:
        return True
    if separator == "/":
        return name.endswith("/*") and offer.startswith(name[:-1])
    return name.startswith(offer + separator)
