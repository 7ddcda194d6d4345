"""Puts the application together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gateway import batch, detect, health, pages
from gateway.access.guard import Guard, guard
from gateway.access.headers import SecureHeaders
from gateway.access.live_keys import LiveKeys
from gateway.access.openapi import declare_keys
from gateway.access.store import KeyStore
from gateway.admin import routes as admin_routes
from gateway.admin.activation import Activation
from gateway.answer import Problem
from gateway.catalog import routes as catalog_routes
from gateway.catalog.live import LiveCatalog
from gateway.catalog.store import CatalogStore
from gateway.database import Database
from gateway.errors import PROBLEM_JSON, RETRY_AFTER_S, STATUS, ClientGoneError, ServiceError, problem, problem_of
from gateway.models.watch import Watch
from gateway.request.arrival import Arriving
from gateway.review import routes as review_routes
from gateway.review.loop import ReviewLoop
from gateway.service import Service
from gateway.settings import Settings
from gateway.telemetry.access import QUIET, Access, route_of
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.problems import log_problem

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
    review = ReviewLoop(settings, database, metrics)
    keys = LiveKeys(KeyStore(database))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with catalog, review, watch, keys:
            yield
        database.close()

    app = Application(
        title="PCB defect detector",
        version=version("pcb-defect-detector"),
        description="Finds circuit-board defects described in plain words, Chinese or English.",
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # Access makes the request's span: one is enough
        responses=_problem_responses(),
        dependencies=[Depends(guard)],
    )
    app.state.guard = Guard(settings, keys, metrics)
    app.state.service = Service(settings, watch, catalog, metrics, review.recorder)
    app.state.review = review
    app.state.activation = Activation(settings.model_repository, watch)
    app.state.arriving = Arriving(settings.max_in_flight * settings.max_body_bytes, settings.max_connections)
    app.state.draining = False
    app.include_router(detect.ROUTER)
    app.include_router(batch.ROUTER)
    app.include_router(catalog_routes.ROUTER)
    app.include_router(review_routes.ROUTER)
    app.include_router(admin_routes.ROUTER)
    app.include_router(health.ROUTER)
    app.include_router(pages.ROUTER)
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_middleware(Access, metrics=metrics)
    app.add_middleware(SecureHeaders)  # outermost
    return app


def _problem_responses() -> dict[int | str, dict[str, object]]:
    titles: dict[int | str, list[str]] = {400: ["Bad Request"]}
    for kind, (status, title) in STATUS.items():
        if kind is ClientGoneError:
            continue
        titles.setdefault(status, []).append(title)
    return {
        status: {
            "description": ", or: ".join(dict.fromkeys(each)),
            "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}},
        }
        for status, each in titles.items()
    }


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _answer_service_error(request: Request, error: Exception) -> Response:
    found = problem_of(error, _request_id(request))
    if not request.url.path.startswith(QUIET):  # a probe that is told 'not ready' is no request lost
        request.app.state.service.metrics.count_reject(error, route_of(request.scope))
        log_problem(error, found, request.state.labels)
    retry_after_s = error.retry_after_s if isinstance(error, ServiceError) else RETRY_AFTER_S
    return problem(found, retry_after_s)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    detail = f"{request.method} {request.url.path}: {error.detail}"
    title = HTTPStatus(error.status_code).phrase
    answer = problem(Problem(title=title, status=error.status_code, detail=detail, request_id=_request_id(request)))
    answer.headers.update(error.headers or {})
    return answer
