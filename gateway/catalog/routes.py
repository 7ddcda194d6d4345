"""GET and PUT /defects, GET, PUT, PATCH and DELETE /defects/{id}, GET /defects/{id}/history."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, ValidationError

from gateway.access.actor import actor_of
from gateway.catalog.defect import ID_PATTERN, Defect, DefectFields, StoredDefect, explain, fault_of_id
from gateway.catalog.document import YAML, read_document, write_document
from gateway.catalog.precondition import Precondition, entity_tag, read_precondition
from gateway.catalog.store import Change
from gateway.errors import ParameterError
from gateway.request.arrival import read_small
from gateway.request.json_body import JSON, read_json
from gateway.request.negotiation import preferred
from gateway.service import Service, service_of
from gateway.words.wording import LANGUAGES

MERGE_PATCH = "application/merge-patch+json"
MAX_BODY_BYTES = 2**19

ROUTER = APIRouter(tags=["catalog"])

ServiceNeeded = Annotated[Service, Depends(service_of)]
DefectIdPath = Annotated[str, Path(description="The defect's id.", json_schema_extra={"pattern": ID_PATTERN})]
IfMatch = Annotated[str | None, Header(description="The ETag that the change builds on; 412 if it is another by now.")]
IfNoneMatch = Annotated[str | None, Header(description="* creates only; 412 if the defect is there already.")]
XActor = Annotated[str | None, Header(description="Who makes the change, for the history; UTF-8.")]


@dataclass(frozen=True)
class ChangeHeaders:
    """Who makes a change, and what they expect to find."""

    actor: str
    expected: Precondition


def change_headers(
    request: Request, if_match: IfMatch = None, if_none_match: IfNoneMatch = None, x_actor: XActor = None
) -> ChangeHeaders:
    """The headers of every change; declared for OpenAPI, read as they came."""
    return ChangeHeaders(actor_of(request), read_precondition(request.headers))


ChangeNeeded = Annotated[ChangeHeaders, Depends(change_headers)]


def _schema(**changes: object) -> dict[str, Any]:
    """A defect in a request's body, for OpenAPI; bodies are read by hand, so that their size can be limited."""
    schema = DefectFields.model_json_schema(ref_template="#/components/schemas/{model}") | changes
    return {name: value for name, value in schema.items() if name != "$defs"}


class Catalogued(BaseModel):
    """The whole catalog; `revision` counts every change of it."""

    revision: int
    defects: tuple[StoredDefect, ...]


class Replaced(BaseModel):
    """What replacing the catalog did: ids."""

    revision: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]


@ROUTER.get(
    "/defects", summary="The whole catalog", response_model=Catalogued, responses={200: {"content": {YAML: {}}}}
)
async def list_defects(request: Request, service: ServiceNeeded) -> Response:
    """As JSON, or for `Accept: application/yaml` as the file that `PUT /defects` reads."""
    revision, defects = await asyncio.to_thread(service.catalog.store.load)
    headers = {"ETag": entity_tag(revision), "Vary": "Accept"}
    if preferred(request.headers.get("accept"), (JSON, YAML)) == YAML:
        return Response(write_document(defects), headers=headers, media_type=YAML)
    content = Catalogued(revision=revision, defects=defects).model_dump_json()
    return Response(content, headers=headers, media_type=JSON)


@ROUTER.put(
    "/defects",
    summary="Replace the whole catalog",
    openapi_extra={"requestBody": {"required": True, "content": {YAML: {"schema": {"type": "string"}}}}},
)
async def replace_defects(
    request: Request,
    response: Response,
    service: ServiceNeeded,
    headers: ChangeNeeded,
) -> Replaced:
    """Makes the catalog what the YAML file says, in one transaction; defects that it leaves out are deleted."""
    body = await _body(request, service, {YAML})
    defects = await asyncio.to_thread(read_document, body)
    replaced = await asyncio.to_thread(service.catalog.store.replace, defects, headers.actor, headers.expected)
    response.headers["ETag"] = entity_tag(replaced.revision)
    return Replaced(**vars(replaced))


@ROUTER.get("/defects/{defect_id}", summary="One defect")
async def get_defect(defect_id: DefectIdPath, response: Response, service: ServiceNeeded) -> StoredDefect:
    """The defect; its ETag is the version, to be sent back as If-Match with a change."""
    return _tagged(response, await asyncio.to_thread(service.catalog.store.get, defect_id))


@ROUTER.put(
    "/defects/{defect_id}",
    summary="Create or replace a defect",
    responses={201: {"model": StoredDefect, "description": "Created"}},
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": _schema()}}}},
)
async def put_defect(
    defect_id: DefectIdPath,
    request: Request,
    response: Response,
    service: ServiceNeeded,
    headers: ChangeNeeded,
) -> StoredDefect:
    """What the body leaves out gets its default. The defect is live for the next request."""
    values = await read_json(await _body(request, service, {JSON}))
    fault = fault_of_id(defect_id)
    fields = _validated(values, [fault] if fault else [])
    defect = Defect(id=defect_id, **dict(fields))
    await asyncio.to_thread(service.check_readable, _texts_of(defect))
    stored, created = await asyncio.to_thread(service.catalog.store.put, defect, headers.actor, headers.expected)
    response.status_code = 201 if created else 200
    return _tagged(response, stored)


@ROUTER.patch(
    "/defects/{defect_id}",
    summary="Change a defect",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {name: {"schema": _schema(required=[])} for name in (MERGE_PATCH, JSON)},
        }
    },
)
async def patch_defect(
    defect_id: DefectIdPath,
    request: Request,
    response: Response,
    service: ServiceNeeded,
    headers: ChangeNeeded,
) -> StoredDefect:
    """A JSON merge patch (RFC 7396): what the body leaves out stays, null goes back to the default."""
    patch = await read_json(await _body(request, service, {JSON, MERGE_PATCH}))

    def change(fields: DefectFields) -> DefectFields:
        changed = _validated(merged(fields.model_dump(mode="json"), patch), [])
        service.check_readable(_texts_of(Defect(id=defect_id, **dict(changed))))
        return changed

    return _tagged(
        response,
        await asyncio.to_thread(service.catalog.store.change, defect_id, change, headers.actor, headers.expected),
    )


@ROUTER.delete("/defects/{defect_id}", summary="Delete a defect", status_code=204)
async def delete_defect(
    defect_id: DefectIdPath,
    request: Request,
    service: ServiceNeeded,
    headers: ChangeNeeded,
) -> None:
    """Its history stays, and a defect of that id made later goes on from its version."""
    await asyncio.to_thread(service.catalog.store.delete, defect_id, headers.actor, headers.expected)


@ROUTER.get("/defects/{defect_id}/history", summary="Every change of a defect")
async def get_history(defect_id: DefectIdPath, service: ServiceNeeded) -> tuple[Change, ...]:
    """Oldest first: who, when, before and after; a deleted defect keeps its history."""
    return await asyncio.to_thread(service.catalog.store.history, defect_id)


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, section 2: the target with the members of the patch, without those that it sets to null."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            former = result.get(name)
            result[name] = merged(former if isinstance(former, Mapping) else {}, value)
        else:
            result[name] = value
    return result


async def _body(request: Request, service: Service, media_types: set[str]) -> bytes:
    return await read_small(request, service.settings, media_types, MAX_BODY_BYTES)


def _validated(values: Mapping[str, Any], faults: list[str]) -> DefectFields:
    try:
        fields = DefectFields.model_validate(values)
    except ValidationError as error:
        faults += [": ".join(filter(None, (".".join(map(str, where)), fault))) for where, fault in explain(error)]
    if faults:
        raise ParameterError("; ".join(faults))
    return fields


def _texts_of(defect: Defect) -> Iterator[tuple[str, str]]:
    """Its names and descriptions, each behind its place."""
    for field, texts in (("names", defect.names), ("descriptions", defect.descriptions)):
        for language in LANGUAGES:
            for index, text in enumerate(getattr(texts, language)):
                yield f"{field}.{language}.{index}", text


def _tagged(response: Response, defect: StoredDefect) -> StoredDefect:
    response.headers["ETag"] = entity_tag(defect.version)
    return defect
