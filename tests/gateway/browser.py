"""A real Chromium for the tests of the page; conftest.py gives its fixtures to all of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.conftest import BOARD, ROOT

CHROMIUM = Path("/usr/bin/chromium")
SHOTS = ROOT / "build" / "page"
PATIENCE_MS = 30_000
INSECURE_HOST = "line4.example"  # resolved to this machine: a page that is neither on https nor on localhost

Open = Callable[..., Page]


@pytest.fixture(scope="module")  # no longer: Playwright's event loop must have ended before other tests start theirs
def playwright() -> Iterator[Playwright]:
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is missing; install Debian's packages chromium and fonts-wqy-microhei")
    with sync_playwright() as running:
        expect.set_options(timeout=PATIENCE_MS)
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    film = tmp_path_factory.mktemp("camera") / "board.mjpeg"  # what the camera sees
    Image.open(BOARD).convert("RGB").save(film, "JPEG", quality=95)
    camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    camera += ["--use-fake-ui-for-media-stream"]
    arguments = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1", *camera]
    with playwright.chromium.launch(executable_path=CHROMIUM, args=arguments) as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the page as a new visitor; what its modules throw, and what its headers forbid, fails the test."""
    faults: list[str] = []
    contexts = []

    def open_(language: str = "en-US", url: str | None = None, place: str = "", **options: Any) -> Page:  # noqa: ANN401
        base_url = url or request.getfixturevalue("gateway_url")
        options = {"reduced_motion": "reduce"} | options  # drawing each frame of it costs more than all the rest
        contexts.append(browser.new_context(locale=language, base_url=base_url, **options))
        contexts[-1].set_default_timeout(PATIENCE_MS)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if "Content Security Policy" in m.text else None)
        page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
        page.goto(f"/{place}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []
