"""What POST /detect and /detect/batch take, for OpenAPI; their bodies are read by hand, so that size can be limited."""

from typing import Any

from gateway.pictures.images import MEDIA_TYPES
from gateway.request import deadline, idempotency, model_version
from gateway.request.body import IMAGES_FIELD, BatchMember
from gateway.request.form import MULTIPART
from gateway.request.json_body import JSON
from gateway.request.parameters import IMAGE_FIELD, PROMPT_FIELD, DetectParameters

FILE = {"type": "string", "format": "binary"}
BASE64 = {"type": "string", "contentEncoding": "base64", "description": "A file's bytes in base64; a URL is refused."}
HEADERS: list[dict[str, Any]] = [
    {
        "name": deadline.HEADER,
        "in": "header",
        "schema": {"type": "string", "pattern": f"^{deadline.MILLISECONDS.pattern}$"},
        "description": "Most milliseconds from the request's head to its answer, within what the server allows.",
    },
    {
        "name": model_version.HEADER,
        "in": "header",
        "schema": {"type": "string", "pattern": f"^{model_version.NUMBER.pattern}$"},
        "description": "Which served version of the models looks; the parameter `model_version` says the same.",
    },
    {
        "name": idempotency.HEADER,
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!#-~]{1,200}$"},
        "description": "A repeat with the same key and content gets the first one's answer without work.",
    },
]


def detect_schema() -> dict[str, Any]:
    """Of POST /detect: a form, JSON, or a raw picture with the parameters in the query."""
    fields = _fields()
    content = {
        MULTIPART: {"schema": _object({IMAGE_FIELD: FILE, **fields}, IMAGE_FIELD)},
        JSON: {"schema": _object({IMAGE_FIELD: BASE64, **_json(fields)}, IMAGE_FIELD)},
    }
    query = [
        {"name": name, "in": "query", "required": False, "schema": field, "description": "With a raw image body only."}
        for name, field in fields.items()
    ]
    return {
        "requestBody": {"required": True, "content": content | {name: {"schema": FILE} for name in MEDIA_TYPES}},
        "parameters": query + HEADERS,
    }


def batch_schema() -> dict[str, Any]:
    """Of POST /detect/batch: a form with repeated files, or JSON with a list."""
    fields = _fields()
    member = BatchMember.model_json_schema() | {"title": "Image"}
    member["properties"][IMAGE_FIELD] = BASE64
    several = {"type": "array", "minItems": 1}
    content = {
        MULTIPART: {"schema": _object({IMAGE_FIELD: several | {"items": FILE}, **fields}, IMAGE_FIELD)},
        JSON: {"schema": _object({IMAGES_FIELD: several | {"items": member}, **_json(fields)}, IMAGES_FIELD)},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": HEADERS}


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = DetectParameters.model_json_schema()["properties"]
    fields[PROMPT_FIELD]["description"] = "Words for what to find; may repeat. None means every class of the catalog."
    fields["score_threshold"]["description"] = "Least score; by default what the served checkpoint sets for each class."
    return fields


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    prompts = fields[PROMPT_FIELD]
    return fields | {PROMPT_FIELD: {"anyOf": [prompts, {"type": "string"}], "description": prompts["description"]}}


def _object(properties: dict[str, Any], required: str) -> dict[str, Any]:
    return {"type": "object", "required": [required], "properties": properties, "additionalProperties": False}
