"""The page's review side as a quality engineer meets it: a real Chromium before the real service and its database."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from export.server import TritonServer
from gateway.review.coco import confirmed
from gateway.review.feedback import Judged
from gateway.review.recorded import RecordedAnswer
from tests.conftest import BOARD
from tests.gateway.browser import SHOTS, Open
from tests.gateway.test_failures import gateway, status, wait_until

INSPECTIONS = ".inspections li"
BOXES = ".judging [data-box]"
MISSED = ".judging [data-missed]"

Inspect = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def service(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A gateway that keeps every picture."""
    folder = tmp_path_factory.mktemp("review")
    settings = {
        "database_url": f"sqlite:///{folder}/gateway.db",
        "image_store": f"file://{folder}/pictures",
        "review_random_share": "1",
    }
    with gateway(triton.grpc_url, **settings) as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        yield client


@pytest.fixture
def inspect(service: httpx.Client, request: pytest.FixtureRequest) -> Inspect:
    """Has the board inspected under this test's recipe; returns the answer once it is recorded."""

    def inspect_(**more: str) -> dict[str, Any]:
        data = {"recipe": request.node.name[:64], "prompt": ["短路", "find spurs"], **more}
        answer: dict[str, Any] = service.post("/detect", files={"image": BOARD.read_bytes()}, data=data).json()
        wait_until(lambda: status(service, f"/inspections/{answer['request_id']}") == 200)
        return answer

    return inspect_


@pytest.fixture
def open_review(open_page: Open, service: httpx.Client) -> Open:
    """Opens the review side, or one inspection."""

    def open_(answer: dict[str, Any] | None = None, language: str = "en-US", **options: Any) -> Page:  # noqa: ANN401
        place = "#review" + (f"/{answer['request_id']}" if answer else "")
        page = open_page(language, str(service.base_url), place, **options)
        if answer:
            expect(page.locator(BOXES).first).to_be_visible()
        return page

    return open_


def feedback(service: httpx.Client, answer: dict[str, Any]) -> Any:  # noqa: ANN401
    return service.get(f"/inspections/{answer['request_id']}").json()["feedback"]


def choose_recipe(page: Page, recipe: str) -> None:
    page.get_by_label("Why").select_option("random")  # the board's scores are far from any threshold
    page.get_by_label("Recipe").fill(recipe)
    page.keyboard.press("Enter")


def draw(page: Page) -> None:
    """Draws a box by the mouse, from 2/8 to 3/8 of the field."""
    field = page.locator("#review-stage .field").bounding_box()
    assert field is not None
    near, far = ((field["x"] + field["width"] * part, field["y"] + field["height"] * part) for part in (2 / 8, 3 / 8))
    page.mouse.move(*near)
    page.mouse.down()
    page.mouse.move(*far, steps=3)
    page.mouse.up()


def save_in_vain(page: Page, retry_after_s: int) -> Locator:
    """Says that all is right; the service is asked again and again, until `page.unroute`. What tells of it."""
    headers = {"Retry-After": str(retry_after_s)}
    page.route("**/feedback", lambda route: route.fulfill(status=503, headers=headers, json={}))
    page.keyboard.press("r")
    page.get_by_role("button", name="Save and go on").click()
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("Next try in")
    return notice


def test_a_quality_engineer_goes_through_the_list_by_keyboard(
    open_review: Open, inspect: Inspect, service: httpx.Client, request: pytest.FixtureRequest
) -> None:
    older, newer = inspect(board_id="B-1"), inspect(board_id="B-2")
    page = open_review(viewport={"width": 1440, "height": 900})
    choose_recipe(page, request.node.name[:64])
    expect(page.locator(INSPECTIONS)).to_have_count(2)
    expect(page.locator(INSPECTIONS).first).to_contain_text("B-2")
    page.screenshot(path=SHOTS / "review_list.png")
    page.locator(INSPECTIONS).first.get_by_role("link").focus()
    page.keyboard.press("Enter")
    assert len(newer["detections"]) == 3
    expect(page.locator(BOXES)).to_have_count(3)
    expect(page.locator("#review-stage .mark")).to_have_count(3)

    page.keyboard.press("r")
    expect(page.locator(BOXES).nth(1)).to_have_attribute("data-on", "")  # on to the next
    page.keyboard.press("f")
    page.keyboard.press("r")
    expect(page.locator("#review-progress")).to_have_text("3 of 3 judged")
    page.keyboard.press("r")  # there is no other to go on to: taken back
    expect(page.locator("#review-progress")).to_have_text("2 of 3 judged")
    page.keyboard.press("k")
    expect(page.locator(BOXES).nth(1)).to_have_attribute("data-on", "")
    page.keyboard.press("m")
    page.keyboard.press("Enter")  # a box in the middle
    expect(page.locator(MISSED)).to_have_count(1)
    page.get_by_label("Class of the missed defect").select_option("pin_hole")
    page.keyboard.press("Escape")  # out of the field
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("c")
    expect(page.get_by_label("I looked at all of it")).to_be_checked()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next box")
    page.keyboard.press("Escape")
    page.screenshot(path=SHOTS / "review.png")
    page.keyboard.press("Enter")  # saves and goes on
    expect(page).to_have_url(re.compile(older["request_id"]))
    expect(page.locator(BOXES)).to_have_count(len(older["detections"]))

    said = feedback(service, newer)
    ids = [found["id"] for found in newer["detections"]]
    assert {each["id"]: each["judgement"] for each in said["detections"]} == {ids[0]: "right", ids[1]: "false"}
    assert [each["defect"] for each in said["missed"]] == ["pin_hole"]
    box = said["missed"][0]["box"]
    assert box["y2"] - box["y1"] == pytest.approx(box["x2"] - box["x1"] + 2, abs=0.05)
    assert said["complete"] is True
    page.keyboard.press("Escape")
    expect(page.locator(INSPECTIONS)).to_have_count(1)  # the other is no longer open


def test_what_is_said_is_shown_and_replaced(open_review: Open, inspect: Inspect, service: httpx.Client) -> None:
    answer = inspect()
    page = open_review(answer)
    page.get_by_label("Your name").fill("王工")
    page.get_by_role("button", name="right").first.click()
    page.get_by_role("button", name="Draw a missed defect").click()
    draw(page)
    page.get_by_label("in your words").fill("a bite out of the pad")
    page.get_by_label("Comment").fill("镜头有灰")
    page.get_by_role("button", name="Save and go on").click()
    wait_until(lambda: feedback(service, answer) is not None)
    first = feedback(service, answer)
    assert first["actor"] == "王工"
    assert first["comment"] == "镜头有灰"
    assert first["missed"][0]["description"] == "a bite out of the pad"
    box = first["missed"][0]["box"]
    assert 0 <= box["x1"] < box["x2"] <= 640
    assert 0 <= box["y1"] < box["y2"] <= 640

    again = open_review(answer)
    expect(again.get_by_text("Judged by 王工")).to_be_visible()
    expect(again.get_by_label("Comment")).to_have_value("镜头有灰")
    expect(again.locator(MISSED)).to_have_count(1)
    expect(again.locator(BOXES).first).to_have_attribute("data-judgement", "right")
    again.get_by_role("button", name="false").first.click()
    again.get_by_role("button", name="Remove missed defect 1").click()
    again.get_by_role("button", name="Save and go on").click()
    wait_until(lambda: feedback(service, answer)["at"] != first["at"])
    second = feedback(service, answer)
    assert [each["judgement"] for each in second["detections"]] == ["false"]
    assert second["missed"] == []


def test_nothing_said_is_lost_offline_or_by_reloading(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page = open_review(answer)
    page.locator("#review-stage .mark").first.locator(".casing").click(force=True)
    page.keyboard.press("f")
    page.get_by_label("Comment").fill("reflection of the lamp")
    page.reload()
    expect(page.get_by_label("Comment")).to_have_value("reflection of the lamp")
    page.context.set_offline(True)
    page.get_by_role("button", name="Save and go on").click()
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("Next try in")
    expect(page.get_by_label("Comment")).to_have_value("reflection of the lamp")
    assert feedback(service, answer) is None
    page.context.set_offline(False)
    wait_until(lambda: feedback(service, answer) is not None)
    assert feedback(service, answer)["comment"] == "reflection of the lamp"
    expect(notice.get_by_text("Next try in")).to_have_count(0)


def test_what_is_said_while_a_save_is_tried_again_is_sent(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page = open_review(answer)
    save_in_vain(page, retry_after_s=1)
    page.get_by_label("Comment").fill("said later")
    page.get_by_role("tab", name="Inspect").click()
    page.unroute("**/feedback")
    wait_until(lambda: feedback(service, answer) is not None)
    assert feedback(service, answer)["comment"] == "said later"
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page).to_have_url(re.compile("#inspect$"))  # nobody is called back


def test_who_goes_on_while_a_save_is_tried_is_told_and_led_back(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page = open_review(answer)
    notice = save_in_vain(page, retry_after_s=9)
    page.route(re.compile(r"/inspections\?"), lambda route: route.fulfill(status=503, json={}), times=1)
    page.keyboard.press("Escape")
    notice.get_by_role("button", name="Try again").click()  # a problem of the list does not hide it for good
    expect(notice).to_contain_text(answer["request_id"])
    page.unroute("**/feedback")
    notice.get_by_role("button", name="Back to it").click()
    expect(page.locator(BOXES).first).to_have_attribute("data-judgement", "right")
    expect(notice).to_be_hidden()
    page.keyboard.press("Enter")
    wait_until(lambda: feedback(service, answer) is not None)


def test_a_review_is_signed_with_the_name_that_its_form_shows(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page = open_review(answer)
    page.get_by_label("Your name").fill("王工")
    page.goto(page.url.partition("#")[0] + "#defects/new")
    expect(page.locator("#form-actor")).to_have_value("王工")
    page.locator("#form-actor").fill("李工")
    page.get_by_role("tab", name="Review").click()
    expect(page.locator("#review-actor")).to_have_value("李工")
    other = open_review(answer)  # another tab of the same computer
    other.get_by_label("Your name").fill("张工")
    page.reload()
    expect(page.locator("#review-actor")).to_have_value("李工")
    page.get_by_label("Comment").fill("signed")
    page.get_by_role("button", name="Save and go on").click()
    wait_until(lambda: feedback(service, answer) is not None)
    assert feedback(service, answer)["actor"] == "李工"


def test_a_class_that_was_taught_meanwhile_can_be_chosen(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    older, newer = inspect(), inspect()
    page = open_review(newer)
    expect(page.get_by_role("button", name="Draw a missed defect")).to_be_enabled()  # the catalog is read
    try:
        service.put("/defects/test_late", json={"names": {"en": ["test late"]}}).raise_for_status()
        page.goto(page.url.replace(newer["request_id"], older["request_id"]))
        expect(page.locator("#review-name")).to_have_text(older["request_id"])
        page.keyboard.press("m")
        page.keyboard.press("Enter")
        page.get_by_label("Class of the missed defect").select_option("test_late")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(page.locator("#review-defect option[value=test_late]")).to_be_attached()
    finally:
        service.delete("/defects/test_late").raise_for_status()


def test_what_is_being_typed_into_a_filter_stays(
    open_review: Open, inspect: Inspect, request: pytest.FixtureRequest
) -> None:
    inspect()
    page = open_review()
    choose_recipe(page, request.node.name[:64])
    expect(page.locator(INSPECTIONS)).to_have_count(1)
    held: list[Route] = []
    page.route(re.compile(r"/inspections\?"), lambda route: held.append(route), times=1)
    with page.expect_request(re.compile(r"/inspections\?")):
        page.locator("#review-state").select_option("reviewed")
    recipe = page.get_by_label("Recipe")
    recipe.fill("A7")
    held[0].continue_()
    expect(page.locator(INSPECTIONS)).to_have_count(0)
    expect(recipe).to_have_value("A7")


def test_what_is_said_while_a_save_is_under_way_stays(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page = open_review(answer)
    held: list[Route] = []
    page.route("**/feedback", lambda route: held.append(route))
    page.keyboard.press("r")
    with page.expect_request("**/feedback"):
        page.get_by_role("button", name="Save and go on").click()
    page.get_by_label("Comment").fill("said too late")
    held[0].continue_()
    expect(page.get_by_role("alert")).to_contain_text("Save again")
    assert "comment" not in {name for name, value in feedback(service, answer).items() if value}
    page.reload()
    expect(page.get_by_label("Comment")).to_have_value("said too late")


def test_two_who_judge_at_once_do_not_replace_each_other_unseen(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page, other = open_review(answer), open_review(answer)
    other.get_by_label("Your name").fill("李工")
    other.get_by_label("Comment").fill("theirs")
    other.get_by_role("button", name="Save and go on").click()
    wait_until(lambda: feedback(service, answer) is not None)
    page.get_by_label("Comment").fill("mine")
    page.get_by_role("button", name="Save and go on").click()
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("李工")
    assert feedback(service, answer)["comment"] == "theirs"
    expect(page.get_by_label("Comment")).to_have_value("mine")
    page.reload()  # what was said in view of nothing stays so
    page.get_by_role("button", name="Save and go on").click()
    page.screenshot(path=SHOTS / "review_overtaken.png")
    page.get_by_role("button", name="Show theirs").click()
    expect(page.get_by_label("Comment")).to_have_value("theirs")
    page.get_by_label("Comment").fill("both")
    page.get_by_role("button", name="Save and go on").click()  # they were seen
    wait_until(lambda: feedback(service, answer)["comment"] == "both")
    stale = open_review(answer)
    service.post("/feedback", json={"request_id": answer["request_id"], "complete": True}).raise_for_status()
    stale.get_by_label("Comment").fill("after all")
    stale.get_by_role("button", name="Save and go on").click()
    stale.get_by_role("button", name="Replace it with mine").click()
    wait_until(lambda: feedback(service, answer).get("comment") == "after all")


def test_a_save_whose_answer_is_lost_is_no_conflict(open_review: Open, inspect: Inspect, service: httpx.Client) -> None:
    answer = inspect()
    page = open_review(answer)

    def lose_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/feedback", lose_answer, times=1)
    page.keyboard.press("r")
    page.get_by_label("Comment").fill("said once")
    with page.expect_response(lambda response: response.status == 409):
        page.get_by_role("button", name="Save and go on").click()
    expect(page).not_to_have_url(re.compile(answer["request_id"]))
    expect(page.get_by_text("Replace it with mine")).to_have_count(0)
    assert feedback(service, answer)["comment"] == "said once"


def test_a_review_goes_to_what_was_judged_though_its_id_comes_again(
    open_review: Open, inspect: Inspect, service: httpx.Client, request: pytest.FixtureRequest
) -> None:
    answer = inspect()
    page = open_review(answer)
    form: dict[str, Any] = {"files": {"image": BOARD.read_bytes()}, "data": {"recipe": request.node.name[:64]}}
    service.post("/detect", **form, headers={"X-Request-ID": answer["request_id"]}).raise_for_status()

    def reviewed() -> list[bool]:
        page = service.get("/inspections", params={"recipe": request.node.name[:64]}).json()
        return [each["reviewed"] for each in page["inspections"]]

    wait_until(lambda: reviewed() == [False, False])
    page.get_by_label("Comment").fill("the older one")
    page.get_by_role("button", name="Save and go on").click()
    wait_until(lambda: any(reviewed()))
    assert reviewed() == [False, True]  # the newest comes first


def test_a_change_of_the_catalog_leaves_the_reviewer_where_they_are(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    page = open_review(inspect(prompt="短路", score_threshold="0.05"))
    page.keyboard.press("j")
    second = page.locator(BOXES).nth(1)
    expect(second).to_have_attribute("data-on", "")
    page.get_by_label("Comment").press_sequentially("a scratch")
    names = service.get("/defects/short").json()["names"]
    renamed = {"names": names | {"en": ["bridge of copper", *names["en"]]}}
    service.patch("/defects/short", json=renamed).raise_for_status()
    try:
        page.context.set_offline(True)
        expect(page.locator("#readiness")).to_contain_text("cannot be reached")
        page.context.set_offline(False)  # the catalog is read again
        expect(second).to_contain_text("bridge of copper")
    finally:
        service.patch("/defects/short", json={"names": names}).raise_for_status()
    expect(second).to_have_attribute("data-on", "")
    expect(page.get_by_label("Comment")).to_be_focused()
    page.keyboard.type(", no short")
    expect(page.get_by_label("Comment")).to_have_value("a scratch, no short")
    page.get_by_role("button", name="中文").click()
    expect(second).to_have_attribute("data-on", "")


def test_a_key_that_is_held_judges_one_box(open_review: Open, inspect: Inspect) -> None:
    page = open_review(inspect())
    for _ in range(3):
        page.keyboard.down("r")  # the second and third are repeats
    page.keyboard.up("r")
    expect(page.locator("#review-progress")).to_have_text("1 of 3 judged")


def test_a_list_that_could_not_be_read_is_asked_for_again(
    open_review: Open, inspect: Inspect, request: pytest.FixtureRequest
) -> None:
    inspect()
    page = open_review()
    choose_recipe(page, request.node.name[:64])
    expect(page.locator(INSPECTIONS)).to_have_count(1)
    page.route(re.compile(r"/inspections\?"), lambda route: route.fulfill(status=503, json={}), times=1)
    page.locator("#review-state").select_option("reviewed")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(INSPECTIONS)).to_have_count(0)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_inspection_that_is_gone_is_told(open_page: Open, service: httpx.Client) -> None:
    page = open_page(url=str(service.base_url), place="#review/nowhere")
    expect(page.get_by_role("alert")).to_contain_text("404")
    page.get_by_role("tab", name="Review").click()
    expect(page.get_by_label("Recipe")).to_be_visible()


def test_a_detection_of_the_page_is_judged_from_there(open_page: Open, service: httpx.Client) -> None:
    page = open_page(url=str(service.base_url))
    page.get_by_role("button", name="Sample board").click()
    passing = page.locator("#findings .row")
    expect(passing.first).to_be_visible()
    count = passing.count()
    request_id = (page.get_by_role("link", name="Judge these boxes").get_attribute("href") or "").split("/")[-1]
    wait_until(lambda: status(service, f"/inspections/{request_id}") == 200)
    page.get_by_role("link", name="Judge these boxes").click()
    expect(page.locator(BOXES)).to_have_count(count)  # not the fainter ones that the page asks for, too
    more = page.get_by_role("button", name="more below the line's threshold")
    expect(more).to_be_visible()
    for _ in range(count):
        page.keyboard.press("r")
    page.keyboard.press("c")
    more.click()
    assert page.locator(BOXES).count() > count
    page.keyboard.press("Enter")
    wait_until(lambda: feedback(service, {"request_id": request_id}) is not None)
    inspection = service.get(f"/inspections/{request_id}").json()
    answer = RecordedAnswer.model_validate(inspection["answer"])
    judged = Judged.model_validate({name: inspection["feedback"][name] for name in Judged.model_fields})
    assert len(judged.detections) == count < len(answer.detections)
    assert len(confirmed(answer, judged, inspection["thresholds"]) or []) == count  # training may learn from it


def test_the_boxes_shown_are_those_that_the_line_counted_then(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect(prompt="短路", score_threshold="0.05")
    thresholds = service.get(f"/inspections/{answer['request_id']}").json()["thresholds"]
    counted = [found for found in answer["detections"] if found["score"] >= thresholds[0]]
    service.patch("/defects/short", json={"score_threshold": 0.99}).raise_for_status()
    try:
        expect(open_review(answer).locator(BOXES)).to_have_count(len(counted))
    finally:
        service.patch("/defects/short", json={"score_threshold": None}).raise_for_status()


def test_the_review_speaks_chinese_on_a_narrow_screen(
    open_review: Open, inspect: Inspect, service: httpx.Client
) -> None:
    answer = inspect()
    page = open_review(answer, "zh-CN", color_scheme="dark", viewport={"width": 360, "height": 740})
    page.get_by_role("button", name="误报").first.click()
    page.get_by_role("button", name="标出漏检").click()
    draw(page)
    expect(page.locator(MISSED)).to_have_count(1)
    page.screenshot(path=SHOTS / "review_zh.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_role("button", name="保存并继续").click()
    wait_until(lambda: feedback(service, answer) is not None)
    assert feedback(service, answer)["missed"] != []
