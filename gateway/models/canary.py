"""Which requests a canary gets: a version beside the promoted one, and a share of the boards, always the same ones."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Canary:
    """`share` from 0 to 1 of the keys go to `version`; none where there is no version."""

    version: int | None
    share: float

    def takes(self, key: str) -> bool:
        """Whether a key is among them, in every worker alike."""
        if self.version is None:
            return False
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) < self.share * 2**64
