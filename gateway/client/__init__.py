"""Asking a gateway from Python and from the shell; knows no more of the server than what it answers.

Installed by the extra `client`: httpx, pydantic, stamina, typer, rich and tqdm, and nothing of the server.
"""

from gateway.client.client import Client
from gateway.client.errors import ClientError, RefusedError, UnreachableError

__all__ = ["Client", "ClientError", "RefusedError", "UnreachableError"]
