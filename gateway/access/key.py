"""A key: `pcbd_<id>_<secret>`, of which the secret's SHA-256 is kept.

The secret is 32 random bytes. Slow hashes protect passwords, which people choose and others guess; nobody guesses 256
bits, so a fast hash gives nothing away and costs a request nothing.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.access.scope import Scope

ID_BYTES = 6
SECRET_BYTES = 32
KEY = re.compile(rf"pcbd_([0-9a-f]{{{ID_BYTES * 2}}})_([0-9a-f]{{{SECRET_BYTES * 2}}})")


@dataclass(frozen=True)
class Key:
    """A key as it is kept; several may have one name, so that a new one can take over from an old one."""

    id: str
    name: str  # who uses it: the actor in the catalog's history
    scopes: frozenset[Scope]
    secret_sha256: str  # hexadecimal
    created_at: datetime
    expires_at: datetime | None = None

    def fits(self, secret: str) -> bool:
        """Whether the secret is this key's, in a time that tells nothing of it."""
        return hmac.compare_digest(self.secret_sha256, hash_of(secret))

    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and datetime.now(UTC) >= self.expires_at


def new_key(name: str, scopes: frozenset[Scope], expires_at: datetime | None) -> tuple[Key, str]:
    """A key, and what its user sends; the latter cannot be had again."""
    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    key = Key(key_id, name, scopes, hash_of(secret), datetime.now(UTC), expires_at)
    return key, f"pcbd_{key_id}_{secret}"


def split(text: str) -> tuple[str, str] | None:
    """Id and secret; None where the text is no key."""
    found = KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()
