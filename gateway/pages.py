"""The page at / and its files: HTML, styles, modules and words, as they lie in gateway/page/.

Knows nothing of what they show. Everything comes from here and nothing from elsewhere, which the headers tell the
browser: the page works in a plant without internet, and a script that came in by a defect's name could not run.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # no text is ever parsed as HTML
)
HEADERS = {  # besides those of every answer, gateway/access/headers.py
    "Cache-Control": "no-cache",  # kept, but asked about each time: a new release is seen at once
    "Content-Security-Policy": CONTENT_SECURITY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class PageFile:
    """One file, ready to be sent."""

    content: bytes
    media_type: str
    etag: str


def read_files(folder: Path) -> dict[str, PageFile]:
    """Every file of the page by its path below the folder, written with '/'."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            files[path.relative_to(folder).as_posix()] = PageFile(content, MEDIA_TYPES[path.suffix], etag)
    return files


FILES = read_files(FOLDER)
ROUTER = APIRouter(include_in_schema=False)


@ROUTER.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The page itself."""
    return _answer(request, FILES[INDEX])


@ROUTER.api_route("/page/{name:path}", methods=["GET", "HEAD"])
async def file(request: Request, name: str) -> Response:
    """A file that the page consists of; 404 for any other."""
    if name not in FILES:
        raise HTTPException(404, "no such file of the page; open / instead")
    return _answer(request, FILES[name])


def _answer(request: Request, asked: PageFile) -> Response:
    headers = HEADERS | {"ETag": asked.etag}
    known = {etag.strip().removeprefix("W/") for etag in request.headers.get("if-none-match", "").split(",")}
    if known & {asked.etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(asked.content, headers=headers, media_type=asked.media_type)
