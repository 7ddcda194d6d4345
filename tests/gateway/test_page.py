"""The page at / as its users meet it: a real Chromium before the real service; pictures of it go to build/page/."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from gateway.pages import FOLDER
from gateway.up import free_port
from tests.conftest import BOARD
from tests.gateway.browser import INSECURE_HOST, SHOTS, Open
from tests.gateway.test_failures import gateway

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def catalog(gateway_url: str) -> Iterator[httpx.Client]:
    """The catalog's routes; defects that a test adds are taken away again."""
    with httpx.Client(base_url=gateway_url, timeout=60) as client:
        before = {defect["id"] for defect in client.get("/defects").json()["defects"]}
        yield client
        for defect in client.get("/defects").json()["defects"]:
            if defect["id"] not in before:
                client.delete(f"/defects/{defect['id']}")


@pytest.fixture(scope="module")
def piece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner of the board with a defect in it: one tile where the board has nine."""
    path = tmp_path_factory.mktemp("piece") / "piece.png"
    with Image.open(BOARD) as board:
        board.crop((384, 384, 640, 640)).save(path)
    return path


def look_for(page: Page, words: str) -> None:
    page.get_by_label(re.compile("What should be found|要找什么缺陷")).fill(words)
    page.keyboard.press("Enter")


def answered(page: Page) -> None:
    """Waits for the answer to what was asked last."""
    expect(page.locator("#verdict-word")).to_have_text(re.compile("OK|NG"))
    expect(page.locator("body[data-busy]")).to_have_count(0)


def give(page: Page, picture: Path) -> None:
    """Gives the page a picture, and waits for the answer to it and not to the one before."""
    with page.expect_response(re.compile("/detect$")):
        page.set_input_files("#file", picture)
    answered(page)


def scores(page: Page) -> list[float]:
    return sorted(float(text) for text in page.locator(".row .score").all_inner_texts())


def test_a_new_user_walks_through(open_page: Open, gateway_url: str) -> None:
    page = open_page(reduced_motion="no-preference")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("#readiness")).to_contain_text("Ready")
    page.screenshot(path=SHOTS / "empty.png")

    page.set_input_files("#file", BOARD)
    answered(page)
    plain = httpx.post(f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}, timeout=60).json()
    assert scores(page) == sorted(
        round(found["score"], 2) for found in plain["detections"]
    )  # the line's own thresholds
    expect(page.locator("#verdict-word")).to_have_text(plain["verdict"].upper())
    expect(page.locator(".mark")).to_have_count(len(plain["detections"]))

    look_for(page, "寻找短路")
    look_for(page, "find spurs")
    expect(page.locator(".group .name")).to_have_text(["寻找短路", "find spurs"])
    answered(page)
    page.screenshot(path=SHOTS / "words.png")

    page.get_by_role("button", name="Remove “find spurs”").click()
    expect(page.locator(".group .name")).to_have_text(["寻找短路"])
    answered(page)
    sent = len(asked)
    few = len(scores(page))
    page.locator("#threshold").fill("0.06")
    assert len(scores(page)) > few
    expect(page.locator(".mark")).to_have_count(len(scores(page)))
    page.locator("#threshold").fill("1")
    expect(page.locator("#verdict-word")).to_have_text("OK")
    page.get_by_role("button", name="Back to the line's own").click()
    assert len(scores(page)) == few
    readiness = f"{gateway_url}/readyz"  # is asked for all the time
    assert [url for url in asked[sent:] if url != readiness] == []  # a threshold is the page's own matter
    assert all(url.startswith((gateway_url, "blob:")) for url in asked)

    with page.expect_download() as download:
        page.get_by_role("button", name="Save with boxes").click()
    assert download.value.suggested_filename == "board.annotated.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    page.get_by_text("Answer of the service (JSON)").click()
    expect(page.locator("#raw-json")).to_contain_text(f'"name": "{plain["model"]["name"]}"')


def test_the_board_is_looked_at_as_often_as_is_chosen(open_page: Open, gateway_url: str) -> None:
    page = open_page()
    give(page, BOARD)
    once = scores(page)
    with page.expect_response(re.compile("/detect$")):
        page.get_by_label("Look at the board").select_option("[0.6,1.25]")
    answered(page)
    form = {"magnification": "[0.6,1.25]"}
    twice = httpx.post(f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}, data=form, timeout=60).json()
    assert scores(page) == sorted(round(found["score"], 2) for found in twice["detections"]) != once
    page.reload()
    expect(page.get_by_label("Look at the board")).to_have_value("[0.6,1.25]")  # as the words are
    give(page, BOARD)
    assert scores(page) == sorted(round(found["score"], 2) for found in twice["detections"])
    page.evaluate("sessionStorage.setItem('pcbd.looks', '[9]')")  # kept by a page that had another choice
    page.reload()
    expect(page.get_by_label("Look at the board")).to_have_value("1")


def test_the_language_is_the_browsers_and_can_be_switched(open_page: Open) -> None:
    page = open_page("zh-CN", color_scheme="dark", viewport={"width": 360, "height": 740})
    expect(page).to_have_title("电路板缺陷检测")
    page.get_by_role("button", name="示例电路板").click()
    look_for(page, "鼠咬")
    expect(page.locator("#inspect .chips li")).to_have_count(1)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.screenshot(path=SHOTS / "narrow_zh.png", full_page=True)
    found = scores(page)
    page.get_by_role("button", name="EN").click()
    expect(page.get_by_text("What should be found?")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert scores(page) == found
    page.reload()
    expect(page).to_have_title("PCB defect finder")  # the choice and the words are kept
    expect(page.locator("#inspect .chips li")).to_have_count(1)


def test_the_keyboard_alone_is_enough(open_page: Open) -> None:
    page = open_page()

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.className") == name:
                return
        raise AssertionError(f"the Tab key does not reach {name}")

    tab_to("sample")
    page.keyboard.press("Enter")
    answered(page)
    tab_to("word")
    page.keyboard.type("短路")
    page.keyboard.press("Enter")
    expect(page.locator(".group .name")).to_have_text(["短路"])
    answered(page)
    tab_to("row figure")
    expect(page.locator(".mark[data-on]")).to_have_count(1)
    first = page.locator(".mark[data-on]").get_attribute("data-mark")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".mark[data-on]")).not_to_have_attribute("data-mark", first or "")
    whole = page.locator("#stage .readout").inner_text()
    page.keyboard.press("Enter")  # brings the box near
    expect(page.locator("#stage .readout")).not_to_have_text(whole)


def test_hovering_a_box_shows_its_row(page: Page) -> None:
    give(page, BOARD)
    box = page.locator(".mark").last
    box.locator(".casing").hover()
    expect(page.locator(f".row[data-mark='{box.get_attribute('data-mark')}']")).to_have_attribute("data-on", "")


def test_words_that_say_how_to_draw_are_drawn_so(page: Page) -> None:
    give(page, BOARD)
    look_for(page, "用红框标出短路并用蓝色掩膜覆盖")
    expect(page.locator(".group")).to_have_count(1)
    answered(page)
    mark = page.locator(".mark").first
    assert page.evaluate("mark => mark.style.getPropertyValue('--colour')", mark.element_handle()) == "#e6194b"
    expect(mark.locator(".pixels")).to_have_attribute("d", re.compile("^M.+Z$"))


def test_a_refusal_is_told_in_the_services_words_and_nothing_is_lost(page: Page, piece: Path, tmp_path: Path) -> None:
    look_for(page, "短路")
    (tmp_path / "notes.png").write_text("no picture at all")
    page.set_input_files("#file", tmp_path / "notes.png")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("415")
    expect(notice).to_contain_text("not a readable JPEG, PNG, BMP or TIFF picture")
    expect(page.locator("#inspect .chips li")).to_have_count(1)
    give(page, piece)
    expect(notice).to_be_hidden()
    look_for(page, "https://line4.example/board.png")  # nothing is fetched
    expect(notice).to_contain_text("422")
    expect(page.locator("#verdict-word")).to_have_text("Not judged")  # not the verdict on the words before
    expect(page.locator(".mark")).to_have_count(0)
    page.get_by_role("button", name="Remove “https").click()
    answered(page)
    expect(notice).to_be_hidden()


def test_what_cannot_be_reached_is_tried_again(page: Page, piece: Path) -> None:
    expect(page.locator("#readiness")).to_contain_text("Ready")
    page.context.set_offline(True)
    page.set_input_files("#file", piece)
    expect(page.get_by_role("alert")).to_contain_text("Next try in")
    expect(page.locator("#readiness")).to_contain_text("cannot be reached")
    expect(page.locator("#filename")).to_have_text(piece.name)
    page.context.set_offline(False)
    answered(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_proxys_page_is_no_answer_of_the_service(page: Page, piece: Path) -> None:
    for path in ("detect", "readyz"):
        page.route(f"**/{path}", lambda route: route.fulfill(content_type="text/html", body="<html>log in</html>"))
    page.set_input_files("#file", piece)
    expect(page.get_by_role("alert")).to_contain_text("Next try in")
    expect(page.locator("#readiness")).to_contain_text("cannot be reached")
    page.unroute_all()
    answered(page)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#readiness")).to_contain_text("Ready")


def test_a_service_that_is_starting_says_so(open_page: Open) -> None:
    with gateway(f"127.0.0.1:{free_port()}") as (client, _):  # no Triton there
        page = open_page(url=str(client.base_url))
        expect(page.locator("#readiness")).to_contain_text("starting")
        page.set_input_files("#file", BOARD)
        notice = page.get_by_role("alert")
        expect(notice).to_contain_text("503")
        expect(notice).to_contain_text("Next try in")
        notice.get_by_role("button", name="Stop trying").click()
        expect(notice).to_be_hidden()
        expect(page.locator("#filename")).to_have_text(BOARD.name)


def test_a_picture_is_dropped_pasted_and_taken_by_camera(page: Page, piece: Path) -> None:
    give = """([kind, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
        const about = { bubbles: true, cancelable: true };
        const event = kind === "paste" ? new ClipboardEvent(kind, { ...about, clipboardData: transfer })
                                       : new DragEvent(kind, { ...about, dataTransfer: transfer });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        page.evaluate(give, [kind, list(piece.read_bytes())])
        expect(page.locator("#filename")).to_have_text(f"{kind}.png")
        answered(page)
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take picture").click()
    expect(page.locator("#filename")).to_contain_text("camera-")
    answered(page)
    expect(page.locator("#verdict-word")).to_have_text("NG")


def test_a_picture_of_the_camera_is_named_by_the_time_there(open_page: Open) -> None:
    page = open_page(timezone_id="Asia/Shanghai")
    page.locator("#camera").click()
    page.get_by_role("button", name="Take picture").click()
    expect(page.locator("#filename")).to_contain_text("camera-")
    named = datetime.strptime(page.locator("#filename").inner_text(), "camera-%Y-%m-%dT%H%M%S.png")
    there = named.replace(tzinfo=timezone(timedelta(hours=8)))
    assert abs(datetime.now(UTC) - there) < timedelta(hours=1)


def test_cells_of_a_spreadsheet_are_text_for_the_field_that_they_are_pasted_into(page: Page, piece: Path) -> None:
    paste = """(field, bytes) => {
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([new Uint8Array(bytes)], "cells.png", { type: "image/png" }));
        clipboardData.setData("text/plain", "cold joint");
        return field.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData }));
    }"""
    assert page.locator("#word").evaluate(paste, list(piece.read_bytes())), "the browser may not paste the text"
    expect(page.locator("#filename")).not_to_have_text("cells.png")


def test_of_several_pictures_one_is_taken_and_what_is_no_file_is_told(page: Page, piece: Path) -> None:
    drop = """(files) => {
        const dataTransfer = new DataTransfer();
        const file = (bytes) => new File([new Uint8Array(bytes)], "a.png", { type: "image/png" });
        for (const bytes of files) dataTransfer.items.add(file(bytes));
        document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
    }"""
    page.evaluate(drop, [list(piece.read_bytes())] * 3)
    expect(page.get_by_text("One of 3 pictures is shown")).to_be_visible()
    page.evaluate(
        "() => { File.prototype.arrayBuffer = async () => { throw new DOMException('', 'NotReadableError'); }; }"
    )
    page.evaluate(drop, [list(piece.read_bytes())])
    expect(page.get_by_text("“a.png” cannot be read")).to_be_visible()


def test_words_that_are_too_many_stay_where_they_were_typed(page: Page) -> None:
    page.evaluate(
        "sessionStorage.setItem('pcbd.prompts', JSON.stringify([...Array(64).keys()].map((n) => `thing ${n}`)))"
    )
    page.reload()
    look_for(page, "one more")
    expect(page.get_by_text("At most 64 things")).to_be_visible()
    expect(page.locator("#word")).to_have_value("one more")
    expect(page.locator("#inspect .chips li")).to_have_count(64)


def test_a_camera_that_the_browser_keeps_back_is_explained(open_page: Open, gateway_url: str) -> None:
    page = open_page(url=gateway_url.replace("127.0.0.1", INSECURE_HOST))
    page.locator("#camera").click()
    expect(page.get_by_role("dialog")).to_contain_text("https or localhost")


def test_a_picture_that_the_browser_cannot_show_is_judged_all_the_same(page: Page, tmp_path: Path) -> None:
    Image.open(BOARD).save(tmp_path / "board.tiff")
    give(page, tmp_path / "board.tiff")
    assert page.locator(".mark").count() > 0
    expect(page.get_by_role("button", name="Save with boxes")).to_be_disabled()


def test_a_cameras_orientation_does_not_turn_the_picture_under_its_boxes(page: Page, tmp_path: Path) -> None:
    board = Image.open(BOARD).convert("RGB").crop((0, 0, 640, 400))
    exif = board.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    board.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    give(page, tmp_path / "turned.jpg")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save with boxes").click()
    with Image.open(download.value.path()) as drawn:
        assert drawn.size == (640, 400)


def test_a_defect_is_taught_by_words_and_deleted_with_undo(open_page: Open, catalog: httpx.Client) -> None:
    def classes() -> set[str]:
        answer = catalog.post("/detect", files={"image": BOARD.read_bytes()}, data={"score_threshold": "0.01"})
        return {entry["defect"] for entry in answer.json()["understood"]}

    page = open_page()
    page.get_by_role("button", name="Sample board").click()
    answered(page)
    page.get_by_role("button", name="Teach a new defect by words").click()
    page.get_by_label("What does it look like?").fill("空白处有一小块铜\na small island of copper on bare ground")
    page.get_by_label("What is it called?").fill("test speck\n测试铜点")
    page.get_by_role("tab", name="Inspect").click()
    page.get_by_role("tab", name="Defects").click()  # the form is as it was left
    expect(page.get_by_label("What is it called?")).to_have_value("test speck\n测试铜点")
    page.get_by_role("button", name="Try on this picture").click()
    report = page.locator("#form-trial li")
    expect(report.first).to_contain_text("a small island of copper on bare ground")
    page.screenshot(path=SHOTS / "teach.png")
    page.get_by_label("Your name").fill("王工")
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("is taught")).to_be_visible()
    assert "test_speck" in classes()
    stored = catalog.get("/defects/test_speck").json()
    assert stored["descriptions"] == {"en": ["a small island of copper on bare ground"], "zh": ["空白处有一小块铜"]}
    assert stored["names"] == {"en": ["test speck"], "zh": ["测试铜点"]}

    row = page.locator("[data-defect=test_speck]")
    row.get_by_role("switch").click()
    expect(row.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    assert "test_speck" not in classes()
    row.get_by_role("link").click()
    page.get_by_text("History", exact=True).click()
    expect(page.locator(".changes li").first).to_contain_text("王工")
    expect(page.locator(".changes li").first.locator("ins")).to_have_text("off")
    page.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row).to_have_count(1)


def test_two_people_teach_defects_without_latin_letters_at_once(open_page: Open, catalog: httpx.Client) -> None:
    before = len(catalog.get("/defects").json()["defects"])
    pages = [open_page(), open_page()]
    for page, name in zip(pages, ("测试甲", "测试乙"), strict=True):
        page.get_by_role("button", name="Teach a new defect by words").click()
        page.get_by_label("What does it look like?").fill(f"{name}的样子")
        page.get_by_label("What is it called?").fill(name)
    for page in pages:
        page.get_by_role("button", name="Teach it").dblclick()
        expect(page.get_by_text("is taught")).to_be_visible()
    assert len(catalog.get("/defects").json()["defects"]) == before + 2


def test_a_colleagues_new_threshold_counts_from_the_next_answer_on(page: Page, catalog: httpx.Client) -> None:
    give(page, BOARD)
    expect(page.locator(".mark").first).to_be_visible()
    defects = [defect["id"] for defect in catalog.get("/defects").json()["defects"]]
    try:
        for name in defects:
            catalog.patch(f"/defects/{name}", json={"score_threshold": 1.0}).raise_for_status()
        page.set_input_files("#file", BOARD)
        expect(page.locator(".mark")).to_have_count(0)
        expect(page.locator("#verdict-word")).to_have_text("OK")
    finally:
        for name in defects:
            catalog.patch(f"/defects/{name}", json={"score_threshold": None}).raise_for_status()


def test_an_id_that_a_colleague_has_just_taken_is_left_to_them(open_page: Open, catalog: httpx.Client) -> None:
    page = open_page(place="#defects")
    expect(page.locator("[data-defect=spur]")).to_be_visible()  # the catalog is read
    page.get_by_role("button", name="Teach a new defect by words").click()
    page.get_by_label("What is it called?").fill("test speck #7")  # an id that is spelled like it would be its name
    theirs = {"names": {"en": ["test, something else"]}}
    catalog.put("/defects/test_speck_7", json=theirs).raise_for_status()
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("is taught")).to_be_visible()
    assert catalog.get("/defects/test_speck_7").json()["names"]["en"] == theirs["names"]["en"]
    assert catalog.get("/defects/test_speck_7_2").json()["names"]["en"] == ["test speck #7"]


def test_an_id_that_a_deleted_defect_had_is_not_given_again(open_page: Open, catalog: httpx.Client) -> None:
    catalog.put("/defects/test_ghost", json={"names": {"en": ["test ghost"]}}).raise_for_status()
    catalog.delete("/defects/test_ghost").raise_for_status()
    page = open_page(place="#defects/new")
    page.get_by_label("What is it called?").fill("test ghost")
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("is taught")).to_be_visible()
    assert [catalog.get(f"/defects/{name}").status_code for name in ("test_ghost", "test_ghost_2")] == [404, 200]


def test_an_id_is_not_made_of_what_is_left_of_a_chinese_name(open_page: Open, catalog: httpx.Client) -> None:
    page = open_page(place="#defects/new")
    page.get_by_label("What is it called?").fill("BGA空洞")
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("is taught")).to_be_visible()
    ids = {defect["id"]: defect["names"]["zh"] for defect in catalog.get("/defects").json()["defects"]}
    assert [name.startswith("defect_") for name, names in ids.items() if "BGA空洞" in names] == [True]


def test_a_deletion_is_signed_and_does_not_overtake_a_colleagues_change(open_page: Open, catalog: httpx.Client) -> None:
    catalog.put("/defects/test_fleck", json={"names": {"en": ["test fleck"]}}).raise_for_status()
    page, late = open_page(place="#defects/test_fleck"), open_page(place="#defects/test_fleck")
    page.get_by_label("Your name").fill("王工")
    expect(late.get_by_role("button", name="Delete")).to_be_visible()
    catalog.patch("/defects/test_fleck", json={"severity": "critical"}).raise_for_status()
    page.get_by_role("button", name="Delete").click()
    notice = page.get_by_role("alert")
    expect(notice.locator("del", has_text="critical")).to_be_visible()
    expect(notice.get_by_role("button", name="Save mine")).to_have_count(0)
    assert catalog.get("/defects/test_fleck").json()["severity"] == "critical"
    notice.get_by_role("button", name="Delete").click()
    expect(notice).to_contain_text("is deleted")
    last = catalog.get("/defects/test_fleck/history").json()[-1]
    assert (last["actor"], last["after"]) == ("王工", None)
    late.get_by_role("button", name="Delete").click()  # it is gone: that is what was wanted
    expect(late.get_by_role("alert")).to_contain_text("is deleted")
    expect(late.locator("[data-defect=test_fleck]")).to_have_count(0)
    assert len(catalog.get("/defects/test_fleck/history").json()) == last["version"]


def test_a_defect_is_taught_though_the_catalog_cannot_be_read_again(open_page: Open, catalog: httpx.Client) -> None:
    page = open_page(place="#defects/new")
    page.get_by_label("What is it called?").fill("test ripple")
    page.route("**/defects", lambda route: route.abort())
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("is taught")).to_be_visible()
    assert catalog.get("/defects/test_ripple").status_code == 200
    switch = page.locator("[data-defect=test_ripple]").get_by_role("switch")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")


def test_the_verdict_is_by_the_lines_thresholds_though_the_catalog_was_never_read(
    open_page: Open, catalog: httpx.Client, piece: Path
) -> None:
    page = open_page(place="page/mark.svg")  # a place of the same origin, until the route is set
    page.route("**/defects", lambda route: route.fulfill(status=503, json={"title": "no database"}))
    page.goto(page.url.replace("page/mark.svg", ""))
    defects = [defect["id"] for defect in catalog.get("/defects").json()["defects"]]
    try:
        for name in defects:
            catalog.patch(f"/defects/{name}", json={"score_threshold": 1.0}).raise_for_status()
        give(page, piece)
        expect(page.locator("#verdict-word")).to_have_text("OK")
        expect(page.locator(".mark")).to_have_count(0)
    finally:
        for name in defects:
            catalog.patch(f"/defects/{name}", json={"score_threshold": None}).raise_for_status()
    page.unroute("**/defects")
    expect(page.locator("#known-words option")).to_have_count(len(defects))  # it was tried again


def test_what_passes_a_threshold_that_the_page_did_not_know_is_asked_for(
    open_page: Open, catalog: httpx.Client
) -> None:
    page = open_page()
    expect(page.locator("#known-words option").first).to_be_attached()  # the catalog is read
    try:
        catalog.patch("/defects/short", json={"score_threshold": 0.01}).raise_for_status()
        give(page, BOARD)
        assert scores(page)[0] < 0.05
    finally:
        catalog.patch("/defects/short", json={"score_threshold": None}).raise_for_status()


def test_a_trial_counts_by_the_threshold_that_would_be_saved(open_page: Open, catalog: httpx.Client) -> None:
    plain = catalog.post("/detect", files={"image": BOARD.read_bytes()}, data={"prompt": "short circuit"}).json()
    try:
        catalog.patch("/defects/short", json={"score_threshold": 1.0}).raise_for_status()
        page = open_page()
        look_for(page, "short circuit")
        give(page, BOARD)
        expect(page.locator("#verdict-word")).to_have_text("OK")
        page.goto(page.url + "#defects/short")
        page.get_by_label("as the checkpoint sets it").check()
        page.get_by_role("button", name="Try on this picture").click()
        expect(page.locator("#form-trial li").first).to_contain_text(f"{len(plain['detections'])} found")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("is saved")).to_be_visible()
        page.get_by_role("tab", name="Inspect").click()
        expect(page.locator("#findings .row")).to_have_count(len(plain["detections"]))
        yours = page.get_by_text("By the thresholds set here")
        expect(yours).to_have_count(0)  # the trial's has gone with it
        page.locator("#threshold").fill("1")  # which is for Inspect
        expect(yours).to_be_visible()
        page.goto(page.url.replace("#inspect", "#defects/short"))
        page.get_by_role("button", name="Try on this picture").click()
        expect(page.locator("#form-trial li").first).to_contain_text(f"{len(plain['detections'])} found")
    finally:
        catalog.patch("/defects/short", json={"score_threshold": None}).raise_for_status()


def test_an_answer_that_no_longer_holds_is_not_there_to_be_copied(open_page: Open, piece: Path) -> None:
    page = open_page()
    give(page, piece)
    page.get_by_text("Answer of the service (JSON)").click()
    expect(page.locator("#raw-json")).to_contain_text("understood")
    page.route("**/detect", lambda route: route.fulfill(status=503, json={}))
    page.get_by_label("Look at the board").select_option("[0.6,1.25]")
    expect(page.get_by_role("alert")).to_contain_text("Next try in")
    expect(page.get_by_role("button", name="Copy")).to_be_hidden()
    page.unroute("**/detect")
    expect(page.locator("#raw-json")).to_contain_text("understood")


def test_a_file_is_asked_about_as_it_was_when_it_was_chosen(page: Page, piece: Path, tmp_path: Path) -> None:
    latest = tmp_path / "latest.png"
    latest.write_bytes(piece.read_bytes())
    give(page, latest)
    latest.write_bytes(BOARD.read_bytes())  # the camera has gone on
    with page.expect_response(re.compile("/detect$")) as response:
        look_for(page, "短路")
    assert response.value.json()["image"] == {"width": 256, "height": 256}
    answered(page)


def test_all_of_the_page_is_printed(page: Page) -> None:
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).overflow") == "visible"
    page.emulate_media(media="screen")


def test_nothing_is_left_out_that_a_defects_own_threshold_lets_pass(open_page: Open, catalog: httpx.Client) -> None:
    given = {"names": {"en": ["test glimmer"]}, "score_threshold": 0.01}
    catalog.put("/defects/test_glimmer", json=given).raise_for_status()
    page = open_page()
    with page.expect_response("**/detect") as answered:
        page.get_by_role("button", name="Sample board").click()
    assert 0.01 <= min(found["score"] for found in answered.value.json()["detections"]) < 0.05


def test_a_colleagues_change_is_not_overwritten_unseen(open_page: Open, catalog: httpx.Client) -> None:
    mine = {"names": {"en": ["test blister"]}, "descriptions": {"en": ["a bubble under the solder mask"]}}
    catalog.put("/defects/test_blister", json=mine)
    page = open_page(place="#defects/test_blister")
    page.get_by_label("What does it look like?").fill("a raised bubble")
    theirs = catalog.patch("/defects/test_blister", json={"severity": "critical"}).json()
    page.get_by_role("button", name="Save", exact=True).click()
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("Somebody else has changed this defect")
    expect(notice.locator("del", has_text="critical")).to_be_visible()
    expect(page.get_by_label("What does it look like?")).to_have_value("a raised bubble")
    assert catalog.get("/defects/test_blister").json() == theirs
    notice.get_by_role("button", name="Save mine").click()
    expect(notice).to_contain_text(f"version {theirs['version'] + 1}")
    notice.get_by_role("button", name="Undo").click()
    expect(notice).to_be_hidden()
    assert catalog.get("/defects/test_blister").json()["severity"] == "critical"


def test_what_is_typed_is_shown_as_text(open_page: Open, catalog: httpx.Client) -> None:
    catalog.put("/defects/test_hostile", json={"names": {"en": [HOSTILE]}, "enabled": False})
    page = open_page(place="#defects")
    expect(page.locator("[data-defect=test_hostile]")).to_contain_text(HOSTILE)
    page.get_by_role("tab", name="Inspect").click()
    page.get_by_role("button", name="Sample board").click()
    look_for(page, f"short {HOSTILE}")
    expect(page.locator("#inspect .chips li")).to_contain_text(HOSTILE)
    answered(page)
    expect(page.locator(".group .name").or_(page.locator(".nothing"))).to_contain_text(HOSTILE)
    expect(page.locator("img[src=x]")).to_have_count(0)


def test_both_languages_have_the_same_words_and_all_that_are_used() -> None:
    words = {code: json.loads((FOLDER / f"words/{code}.json").read_text(encoding="utf-8")) for code in ("en", "zh")}
    assert words["en"].keys() == words["zh"].keys()
    places = {
        code: {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in each.items()} for code, each in words.items()
    }
    assert places["en"] == places["zh"]
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*") if path.suffix in {".js", ".html"})
    used = set(re.findall(r"""(?:data-t[a-z-]*=|\bt\(|"data-t(?:-placeholder)?": )"([a-z_.]+)\"""", sources))
    assert "stage.label" in used
    assert used <= words["en"].keys()


def test_the_pages_files_are_guarded_and_kept(gateway_url: str) -> None:
    with httpx.Client(base_url=gateway_url) as client:
        page = client.get("/")
        assert page.headers["Content-Type"].startswith("text/html")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        module = client.get("/page/modules/main.js")
        assert module.headers["Content-Type"].startswith("text/javascript")
        again = client.get("/page/modules/main.js", headers={"If-None-Match": module.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["Content-Security-Policy"] == policy
        for name in ("modules/nowhere.js", "../pages.py", "..%2fpages.py", "%2e%2e/settings.py", ""):
            assert client.get(f"/page/{name}").status_code == 404, name
        assert client.head("/").status_code == 200
        size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
        assert size < 220_000  # bytes, all of it
