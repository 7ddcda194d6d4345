"""What /openapi.json says of keys: the two ways to send one, and which scope each operation needs."""

from typing import Any

from gateway.access.scope import needed

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "pcbd_ID_SECRET"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def declare_keys(document: dict[str, Any], required: bool) -> dict[str, Any]:
    """Adds the security schemes to the document, and where keys are required what each operation needs."""
    document.setdefault("components", {})["securitySchemes"] = SCHEMES
    if required:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                scopes = needed(path, method.upper(), metrics_protected=True)
                if scopes is not None:  # any one of the scopes, sent in either way
                    operation["security"] = [{scheme: [scope]} for scope in sorted(scopes) for scheme in SCHEMES]
    return document
