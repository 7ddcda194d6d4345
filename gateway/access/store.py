"""Keys in the database: made, listed, revoked."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from gateway.access.key import Key, new_key
from gateway.access.scope import Scope
from gateway.access.tables import ApiKeyRow
from gateway.database import Database
from gateway.errors import ConflictError, NotFoundError, ParameterError

MAX_NAME_CHARACTERS = 32
MAX_DAYS = 36_500
MAX_KEYS = 1000  # not revoked: a worker holds all of them in memory


class KeyStore:
    """The keys of one database, whose tables must be up to date."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scopes: frozenset[Scope], days: int | None) -> tuple[Key, str]:
        """A new key, and what its user sends.

        Raises:
            ParameterError: the name is none, there is no scope, or the days are out of range.
            ConflictError: there are MAX_KEYS already.
        """
        if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or ":" in name or name != name.strip():
            raise ParameterError(
                f"the name is {name!r}, expected 1 to {MAX_NAME_CHARACTERS} printable characters without ':', which "
                "parts it from who used the key"
            )
        if not scopes:
            raise ParameterError(f"the key has no scope, expected one or more of {', '.join(Scope)}")
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise ParameterError(f"the key expires in {days} days, expected 1 to {MAX_DAYS}")
        key, sent = new_key(name, scopes, None if days is None else datetime.now(UTC) + timedelta(days=days))
        with self._database.write() as session:
            count = session.scalars(select(func.count()).where(ApiKeyRow.revoked_at.is_(None))).one()
            if count >= MAX_KEYS:
                raise ConflictError(f"there are {count} keys, the limit is {MAX_KEYS}; revoke those out of use")
            session.add(
                ApiKeyRow(
                    id=key.id,
                    name=key.name,
                    scopes=sorted(key.scopes),
                    secret_sha256=key.secret_sha256,
                    created_at=key.created_at,
                    expires_at=key.expires_at,
                )
            )
        return key, sent

    def load(self) -> dict[str, Key]:
        """Every key that was not revoked, by its id, the oldest first."""
        with self._database.read() as session:
            rows = session.scalars(
                select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None)).order_by(ApiKeyRow.created_at, ApiKeyRow.id)
            )
            return {
                row.id: Key(
                    row.id,
                    row.name,
                    frozenset(map(Scope, row.scopes)),
                    row.secret_sha256,
                    row.created_at,
                    row.expires_at,
                )
                for row in rows
            }

    def revoke(self, key_id: str) -> str:
        """Ends a key; its name.

        Raises:
            NotFoundError: there is none of that id, or it was revoked before.
        """
        with self._database.write() as session:
            row = session.get(ApiKeyRow, key_id)
            if row is None or row.revoked_at is not None:
                raise NotFoundError(f"there is no key {key_id!r} in use; `python -m gateway.access list` shows them")
            row.revoked_at = datetime.now(UTC)
            return row.name
