"""GET /admin/models and POST /admin/models/{version}/activate: which versions there are, and which is put to work."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel

from export.contract.promotion import RepositoryError, read_promoted
from export.contract.tensors import MODELS
from export.contract.versions import published, read_manifest
from gateway.admin.activation import Activation
from gateway.answer import ModelVersion
from gateway.errors import ConflictError, NotFoundError, ServiceError
from gateway.models.served import served_versions
from gateway.request.model_version import NUMBER
from gateway.service import Service, service_of

ROUTER = APIRouter(prefix="/admin/models", tags=["admin"])
# Said in the schema and checked here: FastAPI's own refusal would be no problem details.
VersionInPath = Annotated[str, PathParameter(json_schema_extra={"pattern": f"^{NUMBER.pattern}$"})]


class PublishedVersion(BaseModel):
    """A version in the repository, and whether it is used."""

    version: int
    checkpoint: str
    precision: str
    target: str
    created: str  # ISO 8601, UTC
    promoted: bool  # the repository says that it answers who names none
    served: bool | None  # Triton has its models ready; null while Triton does not say
    active: bool  # this gateway asks it


class Models(BaseModel):
    """All versions, oldest first."""

    versions: list[PublishedVersion]


async def _activation_of(request: Request) -> Activation:
    activation: Activation = request.app.state.activation
    return activation


@ROUTER.get("", summary="Versions of the models: published, promoted, served, active")
async def list_models(service: Annotated[Service, Depends(service_of)]) -> Models:
    """What the repository holds, and which of it Triton serves."""
    try:
        served = set(await served_versions(service.watch.triton))
    except ServiceError:
        served = None
    try:
        active = service.watch.detector().served.version
    except ServiceError:
        active = None
    try:
        found = await asyncio.to_thread(_published, service.settings.model_repository)
    except (RepositoryError, OSError) as error:
        raise ConflictError(f"the model repository cannot be read: {error}") from error
    for each in found:
        each.served = None if served is None else str(each.version) in served
        each.active = str(each.version) == active
    return Models(versions=found)


@ROUTER.post("/{version}/activate", summary="Put another version to work, without losing a request")
async def activate(version: VersionInPath, activation: Annotated[Activation, Depends(_activation_of)]) -> ModelVersion:
    """Loads it beside the one in use, tries it, then exchanges them; on any fault everything is as before.

    404 where the repository has no such version; 409 where another activation is at work or this gateway cannot do it,
    with the command that can; 502 with the reason where the version was tried and failed.
    """
    if not NUMBER.fullmatch(version):
        raise NotFoundError(f"{version[:40]!r} is no version, expected its number, as in 3")
    served = await activation.activate(int(version))
    return ModelVersion(name=served.checkpoint_name, version=served.version)


def _published(repository: Path) -> list[PublishedVersion]:
    promoted = read_promoted(repository)[-1:]
    found = []
    for number in published(repository):
        manifest = read_manifest(repository, MODELS[0].name, number)
        found.append(
            PublishedVersion(
                version=number,
                checkpoint=manifest.get("checkpoint_name", ""),
                precision=manifest.get("precision", ""),
                target=manifest.get("target", ""),
                created=manifest["created"],
                promoted=number in promoted,
                served=None,
                active=False,
            )
        )
    return found
