"""One form for every record of this process, whoever wrote it: a JSON object a line, or coloured lines for people.

Every module logs by the standard library; fields of a record are its `extra`, and those of the request at work
(request_id, trace_id) are added by themselves. Whatever a text holds, it stays within its line.
"""

import json
import logging
import os
import sys
from collections.abc import MutableMapping
from functools import partial
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import Processor

LogFormat = Literal["console", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

LOG = logging.getLogger("gateway.telemetry.logs")
# Controls and what some readers take for the end of a line; \t too: nothing in a line needs one.
ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
# JSON's own escapes leave these as they are.
JSON_ESCAPES = {code: escape for code, escape in ESCAPES.items() if code >= 0x7F}
TRACEBACK_INDENT = "\n    | "


def configure_logs(level: LogLevel, form: LogFormat | None) -> None:
    """Sets this process's logging up; without a form lines are for people where stderr is a terminal, else JSON."""
    console = form == "console" or (form is None and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper("iso", utc=True),
        _add_pid,
        structlog.processors.format_exc_info,
    ]
    last: list[Processor] = (
        [_escaped, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_no_exception)]
        if console
        else [structlog.processors.EventRenamer("message"), _json_line]
    )
    handler = logging.StreamHandler()  # stderr, which writes half a surrogate pair as its escape
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught


def _add_pid(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record["pid"] = os.getpid()  # which of several workers
    return record


def _json_line(_logger: object, _method: str, record: MutableMapping[str, Any]) -> str:
    record.pop("color_message", None)  # uvicorn's, the message once more
    return _dump(record).translate(JSON_ESCAPES)


_dump = partial(json.dumps, ensure_ascii=False, default=str)  # Chinese stays readable


def _escaped(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Texts without controls; a traceback keeps its lines, all of them set in."""
    record.pop("color_message", None)
    for name, value in record.items():
        if name == "exception":
            record[name] = TRACEBACK_INDENT[1:] + TRACEBACK_INDENT.join(
                line.translate(ESCAPES) for line in str(value).split("\n")
            )
        elif isinstance(value, str):
            record[name] = value.translate(ESCAPES)
    return record


def _no_exception(*_: object) -> None:
    """The traceback is text already."""


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        LOG.critical("the process ends by an error that nothing handled", exc_info=(kind, error, trace))
