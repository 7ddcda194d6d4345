"""A multipart/form-data body: text fields in UTF-8 and files, both bounded in number."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gateway.errors import MalformedError, ParameterError

MULTIPART = "multipart/form-data"
MAX_FIELDS = 200  # more than 64 prompts and the parameters can need
MAX_FIELD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Form:
    """Names and values in the order sent; a file above 1 MB lies on disk until it is read."""

    fields: list[tuple[str, str]]
    files: list[tuple[str, UploadFile]]


class _Utf8Parser(MultiPartParser):
    """Refuses other bytes than UTF-8, which Starlette would read as Latin-1: words that nobody wrote."""

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode("utf-8")
            except UnicodeDecodeError:
                raise ParameterError(
                    f"form field {part.field_name!r} is not UTF-8; send it in UTF-8, not in the system's own "
                    "encoding such as GBK"
                ) from None
        super().on_part_end()


@asynccontextmanager
async def read_form(request: Request, max_files: int) -> AsyncIterator[Form]:
    """The form of a request; its files are closed at the end.

    Raises:
        MalformedError: it is malformed, or has more files, fields or headers than allowed.
        ParameterError: a field is not UTF-8.
    """
    parser = _Utf8Parser(
        request.headers, request.stream(), max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedError(f"the form cannot be read: {error.message}") from error
    items = form.multi_items()
    try:
        yield Form(
            [(name, value) for name, value in items if isinstance(value, str)],
            [(name, value) for name, value in items if isinstance(value, UploadFile)],
        )
    finally:
        await form.close()
