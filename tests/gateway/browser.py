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


class Watched:
    """Opens pages and keeps what their modules throw, and what their headers forbid."""

    def __init__(self, visitor: Callable[..., BrowserContext]) -> None:
        self.pages: list[Page] = []
        self.faults: list[str] = []
        self._visitor = visitor

    def open(self, url: str, language: str = "en-US", **options: Any) -> Page:  # noqa: ANN401
        page = self._visitor(locale=language, **({"reduced_motion": "reduce"} | options)).new_page()
        self.pages.append(page)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda m: self.faults.append(m.text) if "Content Security Policy" in m.text else None)
        page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))
        page.goto(url)
        return page

    def close(self) -> None:
        for page in self.pages:
            page.evaluate("localStorage.clear()")  # what a tab keeps for itself goes with it
            page.context.set_offline(False)
            page.close()


@pytest.fixture
def open_page(visitors: Callable[..., BrowserContext], request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the page as a new visitor; a fault of it fails the test."""
    watched = Watched(visitors)

    def open_(language: str = "en-US", url: str | None = None, place: str = "", **options: Any) -> Page:  # noqa: ANN401
        base_url = url or request.getfixturevalue("gateway_url")
        return watched.open(f"{base_url}/{place}", language, **options)

    yield open_
    watched.close()
    assert watched.faults == []


@pytest.fixture(scope="module")
def kept_open(visitors: Callable[..., BrowserContext], gateway_url: str) -> Iterator[Watched]:
    """A page that stays open for the module: opening one costs more than most that a test does with it."""
    watched = Watched(visitors)
    watched.open(f"{gateway_url}/")
    yield watched
    watched.close()


@pytest.fixture
def page(kept_open: Watched) -> Iterator[Page]:
    """The page as a colleague left it, who took their words away; a fault of it fails the test."""
    page = kept_open.pages[0]
    yield page
    page.context.set_offline(False)
    for _ in range(page.locator("#chips button").count()):
        page.locator("#chips button").first.click()
    assert kept_open.faults == []
