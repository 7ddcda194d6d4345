"""The log of the test's own process."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.telemetry.logs import LogFormat, configure_logs


@contextmanager
def _configured(form: LogFormat, patch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    lines, root, hook = io.StringIO(), logging.getLogger(), sys.excepthook
    former, level = list(root.handlers), root.level
    patch.setattr(sys, "stderr", lines)
    configure_logs("INFO", form)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the tests' client has nothing to tell
    try:
        yield lines
    finally:
        root.handlers[:] = former
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        sys.excepthook = hook


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What this process logs as JSON."""
    with _configured("json", monkeypatch) as lines:
        yield lines


@pytest.fixture
def console_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What this process logs for people."""
    with _configured("console", monkeypatch) as lines:
        yield lines
