"""Puts the application together."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gateway import batch, detect, health, pages
from gateway.access.guard import Guard, guard
from gateway.access.headers import SecureHeaders, add_headers
from gateway.access.live_keys import LiveKeys
from gateway.access.openapi import declare_keys
from gateway.access.store import KeyStore
from gateway.answer import Problem
from gateway.catalog import routes as catalog_routes
from gateway.catalog.live import LiveCatalog
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import PROBLEM_JSON, STATUS, ServiceError, problem, problem_of
from gateway.metrics import Metrics
from gateway.models.watch import Watch
from gateway.service import Service
from gateway.settings import Settings
from gateway.trace import Trace

LOG = logging.getLogger("gateway.app")
PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


class Application(FastAPI):
    """Says in /openapi.json which keys it needs."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        return declare_keys(super().openapi(), self.state.guard.keys_required)


def create_app(settings: Settings) -> FastAPI:
    """An application of its own, with metrics and connections of its own."""
    metrics = Metrics()
    database = Database(settings.database_url)
    catalog = LiveCatalog(CatalogStore(database), settings.watch_interval_s, metrics)
    watch = Watch(settings, catalog, metrics)
    keys = LiveKeys(KeyStore(database))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with catalog, watch, keys:
            yield
        database.close()

    app = Application(
        title="PCB defect detector",
        version=version("pcb-defect-detector"),
        description="Finds circuit-board defects described in plain words, Chinese or English.",
        lifespan=lifespan,
        responses=_problem_responses(),
        dependencies=[Depends(guard)],
    )
    app.state.guard = Guard(settings, keys, metrics)
    app.state.service = Service(settings, watch, catalog, metrics)
    app.state.draining = False
    app.include_router(detect.ROUTER)
    app.include_router(batch.ROUTER)
    app.include_router(catalog_routes.ROUTER)
    app.include_router(health.ROUTER)
    app.include_router(pages.ROUTER)
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_fault)
    app.add_middleware(Trace, metrics=metrics)
    app.add_middleware(SecureHeaders)  # outermost
    return app


def _problem_responses() -> dict[int | str, dict[str, object]]:
    titles: dict[int | str, list[str]] = {400: ["Bad Request"]}
    for status, title in STATUS.values():
        titles.setdefault(status, []).append(title)
    return {
        status: {"description": ", or: ".join(each), "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}}}
        for status, each in titles.items()
    }


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _answer_service_error(request: Request, error: Exception) -> Response:
    return problem(problem_of(error, _request_id(request)))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    detail = f"{request.method} {request.url.path}: {error.detail}"
    title = HTTPStatus(error.status_code).phrase
    answer = problem(Problem(title=title, status=error.status_code, detail=detail, request_id=_request_id(request)))
    answer.headers.update(error.headers or {})
    return answer


async def _answer_fault(request: Request, error: Exception) -> Response:
    LOG.error("request %s failed", _request_id(request), exc_info=error)
    answer = await _answer_service_error(request, error)
    add_headers(answer.headers, request.scope)  # Starlette answers a fault outside of all middleware
    return answer
