"""How a client gets in: its API key, whom it trusts to be the gateway, and who it says it is itself."""

import os
import ssl
from pathlib import Path
from typing import Any

import httpx

# No proxy of the environment stands before this machine itself; None is the transport without one.
DIRECT = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))


def access_options(api_key: str | None, ca: Path | None, certificate: Path | None) -> dict[str, Any]:
    """What httpx's clients take. `ca` is trusted instead of the usual authorities; `certificate` holds its key too.

    Raises:
        ValueError: a file cannot be used, or the key holds what no header can.
    """
    headers = {}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError("the API key holds other than printable ASCII characters; copy it again")
        headers["Authorization"] = f"Bearer {api_key.strip()}"
    try:
        context = ssl.create_default_context(cafile=ca) if ca else httpx.create_ssl_context()
    except OSError as error:
        what = ca or f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')}"  # the environment's, which httpx trusts
        raise ValueError(f"{what} cannot be used as an authority's certificate: {error}; expected PEM") from error
    if certificate is not None:
        try:
            context.load_cert_chain(certificate)
        except OSError as error:
            raise ValueError(
                f"{certificate} cannot be used: {error}; expected a certificate and its key in PEM"
            ) from error
    return {"headers": headers, "verify": context, "mounts": DIRECT}
