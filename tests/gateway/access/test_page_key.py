"""The page before a gateway that requires keys, and before one that does not while another site's page is open."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect

from export.server import TritonServer
from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from tests.conftest import BOARD
from tests.gateway.access.conftest import NOWHERE
from tests.gateway.browser import PATIENCE_MS
from tests.gateway.test_failures import gateway, status, wait_until

FORM = """<!doctype html><form method=post enctype=text/plain action="{url}/detect">
<input name=prompt value=short><button>Win a prize</button></form>"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    faults: list[str] = []
    with browser.new_context(locale="en-US") as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
    assert faults == []


def test_the_page_asks_for_a_key_and_sends_it(page: Page, triton: TritonServer, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    database = Database(url)
    database.migrate()
    store = KeyStore(database)
    _, detect = store.create("line-3", frozenset({Scope.DETECT}), None)
    _, catalog = store.create("王工", frozenset({Scope.CATALOG}), None)
    with gateway(triton.grpc_url, database_url=url, api_keys="required", deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        page.goto(str(client.base_url))
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()  # the catalog is asked for at once
        page.get_by_label("API key", exact=True).fill("a guess")
        page.get_by_role("button", name="Use it").click()
        expect(dialog).to_be_visible()  # that is no key: nothing was sent
        page.get_by_label("API key", exact=True).fill(f"pcbd_{'0' * 12}_{'0' * 64}")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#key-said")).to_contain_text("not known")
        page.get_by_label("API key", exact=True).fill(f" {detect} ")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()

        page.set_input_files("#file", BOARD)
        expect(page.locator("#verdict-word")).to_have_text(re.compile("OK|NG"))
        page.reload()
        page.set_input_files("#file", BOARD)
        expect(page.locator("#verdict-word")).to_have_text(re.compile("OK|NG"))  # it was kept
        assert page.evaluate("localStorage.length + document.cookie.length") == 0

        page.get_by_role("tab", name="Defects").click()
        switch = page.locator('[data-defect="spur"] .switch')
        switch.click()
        expect(page.locator("#notice")).to_contain_text("needs admin or catalog")
        page.get_by_role("button", name="Use another key").click()
        page.get_by_label("API key", exact=True).fill(catalog)
        page.keyboard.press("Enter")
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "false")
        headers = {"X-API-Key": catalog}
        assert client.get("/defects/spur/history", headers=headers).json()[-1]["actor"] == "王工"
    database.close()


def test_a_reviewers_key_offers_the_classes(page: Page, triton: TritonServer, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    database = Database(url)
    database.migrate()
    _, review = KeyStore(database).create("王工", frozenset({Scope.REVIEW}), None)
    with gateway(triton.grpc_url, database_url=url, api_keys="required") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        page.goto(f"{client.base_url}#review")
        page.get_by_label("API key", exact=True).fill(review)
        page.keyboard.press("Enter")
        expect(page.locator('#review option[value="spur"]')).to_have_count(1)
        expect(page.locator("#notice")).to_be_hidden()
    database.close()


def test_who_has_no_key_is_told_so(page: Page, triton: TritonServer, tmp_path: Path) -> None:
    settings = {"database_url": f"sqlite:///{tmp_path}/gateway.db", "api_keys": "required"}
    with gateway(triton.grpc_url, **settings) as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        page.goto(str(client.base_url))
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.set_input_files("#file", BOARD)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#notice")).to_contain_text("asks for an API key")
        expect(page.locator("#verdict-word")).to_have_text("Not judged")


def test_a_form_of_another_sites_page_is_refused(page: Page, tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with gateway(NOWHERE) as (client, _), ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        (tmp_path / "index.html").write_text(FORM.format(url=client.base_url))
        Thread(target=other.serve_forever).start()
        try:
            for host in ("127.0.0.1", "localhost"):  # the same site on another port, and another site
                page.goto(f"http://{host}:{other.server_port}/")
                with page.expect_response(re.compile("/detect$")) as response:
                    page.get_by_role("button").click()
                assert response.value.status == 403
        finally:
            other.shutdown()
