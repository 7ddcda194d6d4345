"""Liveness is the process; readiness is 'send me work'."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from gateway.errors import UnavailableError
from gateway.service import Service, service_of

ROUTER = APIRouter()


@ROUTER.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    """200 as long as the process answers, whatever Triton does."""
    return {"status": "ok"}


@ROUTER.get("/readyz", summary="Requests can be answered")
async def readyz(request: Request, service: Annotated[Service, Depends(service_of)]) -> dict[str, Any]:
    """200 while the models can be asked; 503 with the reason otherwise, and while draining."""
    if request.app.state.draining:
        raise UnavailableError("the gateway is stopping")
    served = service.watch.detector().served
    return {
        "status": "ready",
        "model": {"name": served.checkpoint_name, "version": served.version},
        "checkpoint_sha256": served.checkpoint_sha256,
        "defects": list(served.defects),
        "score_thresholds": dict(served.score_thresholds),
    }


@ROUTER.get("/metrics", include_in_schema=False)
async def metrics(request: Request, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Prometheus' text format, or OpenMetrics with the trace of an example where Accept asks for that."""
    text, media_type = await asyncio.to_thread(service.metrics.exposition, request.headers.get("accept"))
    return Response(text, headers={"Content-Type": media_type})
