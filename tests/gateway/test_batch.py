"""POST /detect/batch: a line for each picture, each admitted and limited by itself."""

import asyncio
import base64
import json
import select
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx
import pytest
from starlette.types import Message

from export.server import TritonServer
from gateway.app import create_app
from gateway.batch import LinesResponse
from gateway.settings import Settings
from tests.conftest import BOARD, REPOSITORY
from tests.gateway.test_arrival import begin
from tests.gateway.test_failures import PATIENCE_S, POLL_S, gateway, status, wait_until

PICTURE = BOARD.read_bytes()
BASE64 = base64.b64encode(PICTURE).decode()


@pytest.fixture
def client(gateway_url: str) -> Any:  # noqa: ANN401
    with httpx.Client(base_url=gateway_url, timeout=60) as client:
        yield client


def lines(answer: httpx.Response) -> dict[int, dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(line["index"] for line in found) == list(range(len(found)))
    return {line["index"]: line for line in found}


def boxes(answer: dict[str, Any]) -> list[Any]:
    return [(found["prompt"], found["box"], found["score"]) for found in answer["detections"]]


def test_each_picture_gets_its_own_answer_or_problem(client: httpx.Client) -> None:
    files = [("image", (name, data)) for name, data in (("a.png", PICTURE), ("b.txt", b"hello"), ("短路.png", PICTURE))]
    form = client.post("/detect/batch", files=files, data={"prompt": "短路", "board_id": "B1"})
    listed = [{"image": BASE64, "name": "a.png"}, {"image": "aGVsbG8=", "name": "b.txt"}, {"image": BASE64}]
    listed[2]["name"] = "短路.png"
    same = client.post("/detect/batch", json={"images": listed, "prompt": ["短路"], "board_id": "B1"})
    alone = client.post("/detect", files={"image": PICTURE}, data={"prompt": "短路"}).json()
    for answer in (form, same):
        found = lines(answer)
        assert [found[index]["name"] for index in range(3)] == ["a.png", "b.txt", "短路.png"]
        assert found[1]["answer"] is None
        assert found[1]["problem"]["status"] == 415
        for index in (0, 2):
            own = found[index]["answer"]
            assert own["request_id"] == f"{answer.headers['X-Request-ID']}-{index}"
            assert (own["board_id"], boxes(own)) == ("B1", boxes(alone))


def test_base64_that_is_none_fails_its_own_picture_only(client: httpx.Client) -> None:
    found = lines(client.post("/detect/batch", json={"images": [{"image": "***"}, {"image": BASE64}]}))
    assert (found[0]["problem"]["status"], found[1]["problem"]) == (422, None)


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "raw": ({"content": PICTURE, "headers": {"Content-Type": "image/png"}}, 415, "multipart/form-data"),
    "no picture": ({"files": {"prompt": (None, "open")}}, 422, "0 images"),
    "too many pictures": ({"files": [("image", b"x")] * 33}, 400, "32"),
    "too many in JSON": ({"json": {"images": [{"image": "QUJD"}] * 33}}, 422, "33 images"),
    "another file": ({"files": [("image", b"x"), ("picture", b"x")]}, 422, "'picture'"),
    "a bad parameter": ({"files": {"image": b"x"}, "data": {"score_threshold": "2"}}, 422, "score_threshold"),
    "no list": ({"json": {"images": "QUJD"}}, 422, "images"),
    "none": ({"json": {"prompt": "open"}}, 422, "images"),
    "a member of another type": ({"json": {"images": ["QUJD", {"image": 5}]}}, 422, "images.1.image"),
    "an unknown name": ({"json": {"images": [{"image": "QUJD", "prompt": "x"}]}}, 422, "images.0.prompt"),
    "a long name": ({"json": {"images": [{"image": "QUJD", "name": "x" * 256}]}}, 422, "images.0.name"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_batch_is_refused_as_a_whole(client: httpx.Client, name: str) -> None:
    request, code, word = BAD[name]
    answer = client.post("/detect/batch", **request)
    assert (answer.status_code, word in answer.json()["detail"]) == (code, True), answer.text


def test_a_repeated_batch_costs_work_for_new_pictures_only(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "a batch".replace(" ", "-")}
    short = lines(client.post("/detect/batch", files=[("image", PICTURE)], headers=headers))
    longer = lines(client.post("/detect/batch", files=[("image", PICTURE)] * 2, headers=headers))
    assert longer[0]["answer"]["request_id"] == short[0]["answer"]["request_id"]
    assert longer[1]["answer"]["request_id"] != short[0]["answer"]["request_id"]


def test_a_batch_waits_for_room_and_takes_no_more_than_there_is(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, max_in_flight="1", deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        found = lines(client.post("/detect/batch", files=[("image", PICTURE)] * 3))
        assert [found[index]["problem"] for index in range(3)] == [None] * 3


def test_a_client_that_goes_away_stops_its_batch(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="60", watch_interval_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        triton.signal(signal.SIGSTOP)
        try:
            with client.stream("POST", "/detect/batch", files=[("image", PICTURE)] * 4) as answer:
                assert answer.status_code == 200
                wait_until(lambda: "pcbd_in_flight 2.0" in client.get("/metrics").text)
            wait_until(lambda: "pcbd_in_flight 0.0" in client.get("/metrics").text)
            lines = client.get("/metrics").text.splitlines()
            counted = [line for line in lines if line.startswith("pcbd_batch_images_total{")]
            assert counted
            assert all(line.endswith(" 0.0") for line in counted)
        finally:
            triton.signal(signal.SIGCONT)


def test_work_under_a_key_keeps_its_place_when_the_client_goes_away(triton: TritonServer) -> None:
    settings = Settings(
        triton_url=triton.grpc_url, model_repository=REPOSITORY, max_in_flight=1, deadline_s=60, watch_interval_s=60
    )

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(POLL_S)

    async def scenario() -> None:
        app = create_app(settings)
        service = app.state.service

        async def ask(request_id: str) -> httpx.Response:
            headers = {"Idempotency-Key": "a-batch", "X-Request-ID": request_id}
            return await client.post("/detect/batch", files=[("image", PICTURE)] * 2, headers=headers)

        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=PATIENCE_S) as client,
        ):
            await service.watch.look()
            triton.signal(signal.SIGSTOP)
            try:
                asking = asyncio.create_task(ask("first"))
                await until(lambda: service.queues["grounding"].ahead > 0)
                asking.cancel()
                await asyncio.wait([asking])
                assert service.in_flight == 1
                assert (await client.post("/detect", files={"image": PICTURE})).status_code == 429
            finally:
                triton.signal(signal.SIGCONT)
            await until(lambda: service.in_flight == 0)
            again = lines(await ask("again"))
        assert [again[index]["answer"]["request_id"] for index in range(2)] == ["first-0", "again-1"]

    asyncio.run(scenario())


def test_a_client_that_does_not_read_stops_its_batch() -> None:
    ended = []

    async def lines() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"{}\n"
        finally:
            ended.append("lines")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    held = AsyncExitStack()
    held.callback(ended.append, "pictures")
    asyncio.run(LinesResponse(lines(), patience_s=0.05, held=held)({"type": "http"}, receive, send))
    assert ended == ["lines", "pictures"]


def test_the_pictures_of_a_batch_count_until_they_are_done(triton: TritonServer) -> None:
    """Three bodies of this size are allowed side by side."""
    size, settings = 680_000, {"max_in_flight": "3", "max_body_bytes": "700000"}
    with gateway(triton.grpc_url, **settings, deadline_s="60", watch_interval_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        triton.signal(signal.SIGSTOP)
        try:
            with client.stream("POST", "/detect/batch", files=[("image", PICTURE.ljust(size // 10))] * 10):
                wait_until(lambda: "pcbd_in_flight 2.0" in client.get("/metrics").text)
                with ExitStack() as stack:
                    begun = [begin(client, stack, length=size + 1, sent=size) for _ in range(3)]
                    (refused,) = select.select(begun, [], [], PATIENCE_S)[0]
                    assert refused.recv(1000).startswith(b"HTTP/1.1 429")
            wait_until(lambda: "pcbd_in_flight 0.0" in client.get("/metrics").text)
        finally:
            triton.signal(signal.SIGCONT)
        with ExitStack() as stack:
            for _ in range(2):
                begin(client, stack, length=size + 1, sent=size)
            answer = client.post("/detect", content=bytes(size), headers={"Content-Type": "image/png"})
            assert answer.status_code == 415, answer.text
