"""Headers that every answer has, unless its route sets another value: what a browser may do with it.

The answers of routes are data: not to be kept, framed, run or taken for another type. The page has a policy of its own
in gateway/pages.py; /docs loads its viewer from elsewhere and runs it.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY = "Content-Security-Policy"
HEADERS = {
    "Cache-Control": "no-store",
    CONTENT_SECURITY: "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
VIEWERS = {"/docs", "/docs/oauth2-redirect", "/redoc"}
HTTPS_ONLY = "max-age=31536000"  # seconds; browsers heed it where they trust the certificate


def add_headers(headers: MutableHeaders, scope: Scope) -> None:
    """Adds to an answer's headers what they lack."""
    for name, value in HEADERS.items():
        if name != CONTENT_SECURITY or scope["path"] not in VIEWERS:
            headers.setdefault(name, value)
    if scope["scheme"] == "https":
        headers.setdefault("Strict-Transport-Security", HTTPS_ONLY)


class SecureHeaders:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and adds to its answer."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_headers(MutableHeaders(scope=message), scope)
            await send(message)

        await self.app(scope, receive, add if scope["type"] == "http" else send)
