"""What a key may be allowed to do, and the one table from each route to what it needs.

A route that stands not here answers nobody: tests/gateway/access/test_scope.py walks through the application's routes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

READING = {"GET", "HEAD", "OPTIONS"}


class Scope(StrEnum):
    """Each allows one kind of work; `admin` allows all."""

    DETECT = "detect"  # ask about pictures
    CATALOG = "catalog"  # change the defects
    REVIEW = "review"  # see inspections, say what was right
    ADMIN = "admin"  # which models are served


@dataclass(frozen=True)
class Need:
    """Scopes of which a key must have one, to read and to change; None: no key is needed."""

    read: frozenset[Scope] | None
    change: frozenset[Scope] | None

    def of(self, method: str) -> frozenset[Scope] | None:
        """What a request of that method needs."""
        return self.read if method in READING else self.change


def _one_of(*scopes: Scope) -> frozenset[Scope]:
    return frozenset({*scopes, Scope.ADMIN})


_DETECT = _one_of(Scope.DETECT)
_REVIEW = _one_of(Scope.REVIEW)
_ADMIN = _one_of()
_SEE_HISTORY = _one_of(Scope.DETECT, Scope.CATALOG)
_SEE_CATALOG = _SEE_HISTORY | {Scope.REVIEW}  # who reviews says which defect was missed
_CATALOG = _one_of(Scope.CATALOG)
_OPEN = Need(None, _ADMIN)

METRICS = "/metrics"  # open unless PCBD_METRICS_PROTECTED
NEEDS: Mapping[str, Need] = {  # paths as /openapi.json writes them, without converters
    "/": _OPEN,
    "/page/{name}": _OPEN,
    "/healthz": _OPEN,
    "/readyz": _OPEN,
    METRICS: _OPEN,
    "/openapi.json": _OPEN,
    "/docs": _OPEN,
    "/docs/oauth2-redirect": _OPEN,
    "/redoc": _OPEN,
    "/detect": Need(_DETECT, _DETECT),
    "/detect/batch": Need(_DETECT, _DETECT),
    "/defects": Need(_SEE_CATALOG, _CATALOG),
    "/defects/{defect_id}": Need(_SEE_CATALOG, _CATALOG),
    "/defects/{defect_id}/history": Need(_SEE_HISTORY, _CATALOG),
    "/inspections": Need(_REVIEW, _REVIEW),
    "/inspections/{request_id}": Need(_REVIEW, _REVIEW),
    "/inspections/{request_id}/image": Need(_REVIEW, _REVIEW),
    "/feedback": Need(_REVIEW, _REVIEW),
    "/admin/models": Need(_ADMIN, _ADMIN),
    "/admin/models/{version}/activate": Need(_ADMIN, _ADMIN),
}
UNKNOWN = Need(_ADMIN, _ADMIN)  # a route that the table does not name


def needed(route: str, method: str, metrics_protected: bool) -> frozenset[Scope] | None:
    """Scopes of which one allows the request; None: it needs no key."""
    if route == METRICS and metrics_protected:
        return _ADMIN
    return NEEDS.get(route, UNKNOWN).of(method)
