"""A real Chromium for the tests of the page; conftest.py gives its fixtures to all of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.conftest import BOARD, ROOT

CHROMIUM = Path("/usr/bin/chromium")
SHOTS = ROOT / "build" / "page"
PATIENCE_MS = 30_000
INSECURE_HOST = "line4.example"  # resolved to this machine: a page that is neither on https nor on localhost

Open = Callable[..., Page]


def still_film(picture: Path) -> bytes:
    """YUV4MPEG2 of one frame: five of it a second, where a browser would decode a JPEG thirty times."""
    with Image.open(picture) as image:
        luma, *chroma = image.convert("RGB").convert("YCbCr").split()
    halves = [plane.resize((image.width // 2, image.height // 2)) for plane in chroma]
    header = f"YUV4MPEG2 W{image.width} H{image.height} F5:1 Ip A1:1 C420jpeg\nFRAME\n"
    return header.encode() + b"".join(plane.tobytes() for plane in (luma, *halves))


@pytest.fixture(scope="module")  # no longer: Playwright's event loop must have ended before other tests start theirs
def playwright() -> Iterator[Playwright]:
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is missing; install Debian's packages chromium and fonts-wqy-microhei")
    with sync_playwright() as running:
        expect.set_options(timeout=PATIENCE_MS)
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    film = tmp_path_factory.mktemp("camera") / "board.y4m"  # what the camera sees
    film.write_bytes(still_film(BOARD))
    camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    camera += ["--use-fake-ui-for-media-stream"]
    arguments = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1", *camera]
    with playwright.chromium.launch(executable_path=CHROMIUM, args=arguments) as browser:
        yield browser


@pytest.fixture(scope="module")
def visitors(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """A visitor of each kind for the module: making one costs a browser more than all that a test does with it."""
    contexts: dict[str, BrowserContext] = {}

    def visitor(**kind: Any) -> BrowserContext:  # noqa: ANN401
        if str(kind) not in contexts:
            contexts[str(kind)] = browser.new_context(**kind)
            contexts[str(kind)].set_default_timeout(PATIENCE_MS)
        return contexts[str(kind)]

    yield visitor
    for context in contexts.values():
        context.close()


@pytest.fixture
def open_page(visitors: Callable[..., BrowserContext], request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the page as a new visitor; what its modules throw, and what its headers forbid, fails the test."""
    faults: list[str] = []
    pages: list[Page] = []

    def open_(language: str = "en-US", url: str | None = None, place: str = "", **options: Any) -> Page:  # noqa: ANN401
        base_url = url or request.getfixturevalue("gateway_url")
        page = visitors(locale=language, **({"reduced_motion": "reduce"} | options)).new_page()
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if "Content Security Policy" in m.text else None)
        page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
        page.goto(f"{base_url}/{place}")
        return page

    yield open_
    for page in pages:
        page.evaluate("localStorage.clear()")  # what a tab keeps for itself goes with it
        page.context.set_offline(False)
        page.close()
    assert faults == []
