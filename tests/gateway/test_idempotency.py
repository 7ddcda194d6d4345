"""A repeated request gets the first one's answer, without work and within bounds."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from export.server import TritonServer
from gateway.access.scope import Scope
from gateway.access.store import KeyStore
from gateway.database import Database
from gateway.errors import DeadlineError, ParameterError
from gateway.request.body import DetectRequest
from gateway.request.idempotency import IdempotencyKey, Replies, fingerprint_of
from gateway.request.parameters import DetectParameters
from tests.conftest import BOARD
from tests.gateway.test_failures import gateway, status, wait_until

PICTURE = BOARD.read_bytes()
KEY = IdempotencyKey("key")


class Answer(BaseModel):
    request_id: str


class Work:
    """Counts how often it is done, and waits until it may end."""

    def __init__(self) -> None:
        self.times = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> Answer:
        self.times += 1
        name = f"answer {self.times}"
        await self.may_end.wait()
        return Answer(request_id=name)


def test_a_repeat_waits_for_the_first_and_a_later_one_finds_its_answer() -> None:
    async def scenario() -> None:
        replies, work = Replies(Answer, 60, 2**20), Work()
        first = asyncio.create_task(replies.get(KEY, b"a", work))
        repeat = asyncio.create_task(replies.get(KEY, b"a", work))
        other = asyncio.create_task(replies.get(IdempotencyKey("other key"), b"a", work))
        await asyncio.sleep(0)
        with pytest.raises(ParameterError, match="another image"):
            await replies.get(KEY, b"b", work)
        assert not first.done()
        work.may_end.set()
        assert [(found.request_id, again) for found, again in (await first, await repeat)] == [
            ("answer 1", False),
            ("answer 1", True),
        ]
        assert ((await other)[0].request_id, (await other)[1]) == ("answer 2", False)
        assert await replies.get(KEY, b"a", work) == ((await first)[0], True)
        assert work.times == 2
        with pytest.raises(ParameterError, match="another image"):
            await replies.get(KEY, b"b", work)

    asyncio.run(scenario())


def test_a_client_that_goes_away_leaves_the_work_to_its_repeat() -> None:
    async def scenario() -> None:
        replies, work = Replies(Answer, 60, 2**20), Work()
        first = asyncio.create_task(replies.get(KEY, b"a", work))
        await asyncio.sleep(0)
        first.cancel()
        repeat = asyncio.create_task(replies.get(KEY, b"a", work))
        await asyncio.sleep(0)
        work.may_end.set()
        assert (await repeat)[1] is True
        assert work.times == 1

    asyncio.run(scenario())


def test_a_failure_is_shared_by_those_who_wait_and_not_kept() -> None:
    async def scenario() -> None:
        replies, work = Replies(Answer, 60, 2**20), Work()
        work.may_end.set()

        async def fail() -> Answer:
            raise DeadlineError("too late")

        both = await asyncio.gather(*(replies.get(KEY, b"a", fail) for _ in range(2)), return_exceptions=True)
        assert [type(error) for error in both] == [DeadlineError] * 2
        assert (await replies.get(KEY, b"b", work))[1] is False

    asyncio.run(scenario())


@pytest.mark.parametrize("bounds", [(60.0, 30), (0.0, 2**20)], ids=["bytes", "seconds"])
def test_answers_are_forgotten_beyond_the_bounds(bounds: tuple[float, int]) -> None:
    async def scenario() -> None:
        replies, work = Replies(Answer, *bounds), Work()
        work.may_end.set()
        for key in ("first", "second", "third", "first"):
            assert (await replies.get(IdempotencyKey(key), b"a", work))[1] is False
        assert replies.kept_bytes <= bounds[1]

    asyncio.run(scenario())


def ask(url: str, key: str, **fields: str) -> httpx.Response:
    return httpx.post(
        f"{url}/detect", files={"image": PICTURE}, data=fields, headers={"Idempotency-Key": key}, timeout=60
    )


def test_a_fingerprint_tells_pictures_and_parameters_apart() -> None:
    def of(image: bytes, **parameters: object) -> bytes:
        asked = DetectRequest(image, DetectParameters.model_validate(parameters))
        return asyncio.run(fingerprint_of(asked, None))

    assert of(b"one", magnification="[1, 1.5]") == of(b"one", magnification=[1, 1.5])
    fingerprints = [of(b"one"), of(b"two"), of(b"one", magnification=2), of(b"one", regions=[[[0, 0], [9, 0], [9, 9]]])]
    assert len(set(fingerprints)) == 4


def test_the_same_request_sent_several_times_is_worked_on_once(gateway_url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(
            pool.map(lambda key: ask(gateway_url, key, prompt="短路"), ['"board-17"', "board-17", "board-17"])
        )
    answers.append(ask(gateway_url, "board-17", prompt="短路"))
    assert [each.status_code for each in answers] == [200] * 4
    assert len({each.text for each in answers}) == 1
    assert sorted("Idempotent-Replayed" in each.headers for each in answers) == [False, True, True, True]
    assert ["triton" in each.headers["Server-Timing"] for each in answers] == [
        "Idempotent-Replayed" not in each.headers for each in answers
    ]
    another = ask(gateway_url, "board-17", prompt="毛刺")
    assert (another.status_code, "new key" in another.json()["detail"]) == (422, True)


@pytest.mark.parametrize("key", ["", "a b", '"', "x" * 201, "é".encode().decode("latin-1")])
def test_a_key_is_bounded_visible_ascii(gateway_url: str, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    refused = httpx.post(f"{gateway_url}/detect", files={"image": PICTURE}, headers=headers)
    assert (refused.status_code, "Idempotency-Key" in refused.json()["detail"]) == (422, True)


def test_a_key_is_the_api_keys_own(triton: TritonServer, tmp_path: Path) -> None:
    database = Database(url := f"sqlite:///{tmp_path}/gateway.db")
    database.migrate()
    lines = [KeyStore(database).create(name, frozenset({Scope.DETECT}), None)[1] for name in ("line-3", "line-4")]
    database.close()
    with gateway(triton.grpc_url, database_url=url, api_keys="required", deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)

        def ask_as(line: str, picture: bytes, path: str = "/detect") -> httpx.Response:
            headers = {"X-API-Key": line, "Idempotency-Key": "17"}
            return client.post(path, files={"image": picture}, data={"prompt": "短路"}, headers=headers)

        other = PICTURE + b"\0"
        answers = [ask_as(lines[0], PICTURE), ask_as(lines[1], other), ask_as(lines[0], PICTURE)]
        assert [each.status_code for each in answers] == [200] * 3
        assert ["Idempotent-Replayed" in each.headers for each in answers] == [False, False, True]
        refused = ask_as(lines[1], PICTURE)
        assert (refused.status_code, "Idempotency-Key '17' has" in refused.json()["detail"]) == (422, True)
        batches = [ask_as(lines[0], PICTURE, "/detect/batch"), ask_as(lines[1], other, "/detect/batch")]
        assert [each.json()["problem"] for each in batches] == [None, None]
