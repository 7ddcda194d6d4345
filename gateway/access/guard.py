"""At the door: before a route's handler runs, or its body is read, whether the request may pass.

Knows no route; what each needs stands in gateway/access/scope.py.
"""

import ipaddress
import logging

from fastapi import Request

from gateway.access.key import Key, split
from gateway.access.live_keys import LiveKeys
from gateway.access.origin import check_origin
from gateway.access.refusals import Refusals
from gateway.access.scope import needed
from gateway.errors import KeyRefusedError, ScopeError, UnauthenticatedError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

LOG = logging.getLogger("gateway.access.guard")
HOW = "send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `python -m gateway.access create` makes one"


class Guard:
    """Warns at once where everybody in the network may pass."""

    def __init__(self, settings: Settings, keys: LiveKeys, metrics: Metrics) -> None:
        self.keys_required = settings.api_keys == "required"
        self._metrics_protected = settings.metrics_protected
        self._keys = keys
        self._refusals = Refusals(metrics.refused_keys)
        if not self.keys_required and not _is_loopback(settings.host):
            LOG.warning(
                "everybody who reaches %s:%d may ask and change everything: set PCBD_API_KEYS=required",
                settings.host,
                settings.port,
            )

    async def check(self, request: Request) -> None:
        """Lets a request pass; its state has the `key` from then on, None where none is needed.

        Raises:
            CrossSiteError, UnauthenticatedError, ScopeError, DatabaseError: why not.
        """
        request.state.key = None
        check_origin(request)
        scopes = needed(request.scope["route"].path_format, request.method, self._metrics_protected)
        if not self.keys_required or scopes is None:
            return
        try:
            key = await _key_of(request, self._keys)
            if not scopes & key.scopes:
                raise ScopeError(
                    f"the API key {key.name!r} has the scopes {', '.join(sorted(key.scopes))}; "
                    f"{request.method} {request.url.path} needs {' or '.join(sorted(scopes))}",
                    "scope",
                )
        except KeyRefusedError as error:
            self._refusals.note(error.reason, request.client.host if request.client else None)
            raise
        request.state.key = key
        request.state.labels["key"] = key.name


async def guard(request: Request) -> None:
    """The application's dependency: the check of its guard."""
    checked_by: Guard = request.app.state.guard
    await checked_by.check(request)


async def _key_of(request: Request, keys: LiveKeys) -> Key:
    sent = request.headers.get("x-api-key")
    if sent is None:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            raise UnauthenticatedError(f"no API key came with {request.method} {request.url.path}; {HOW}", "missing")
        if scheme.lower() != "bearer":
            kind = f"of the kind {scheme[:20]!r}" if sent else "one word"  # which may be somebody's secret
            raise UnauthenticatedError(f"Authorization is {kind}, expected Bearer and a key; {HOW}", "malformed")
    parts = split(sent.strip())
    if parts is None:
        raise UnauthenticatedError(f"what came is no API key, expected pcbd_ID_SECRET; {HOW}", "malformed")
    key_id, secret = parts
    key = await keys.find(key_id)
    if key is None or not key.fits(secret):
        raise UnauthenticatedError(f"the API key pcbd_{key_id}_... is not known, or was revoked; {HOW}", "unknown")
    if key.has_expired():
        raise UnauthenticatedError(
            f"the API key {key.name!r} expired at {key.expires_at:%Y-%m-%d %H:%M} UTC; {HOW}", "expired"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
