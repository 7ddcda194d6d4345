"""X-Request-Timeout-Ms: counted from the request's head, subtracted along the way, enforced on Triton's side too."""

import asyncio
import signal
import socket
from typing import Any

import httpx
import pytest
from tritonclient.grpc import InferenceServerClient

from export.contract.tensors import DETECTOR
from export.server import TritonServer
from gateway.errors import DeadlineError
from gateway.models.served import describe
from gateway.models.trial import try_once
from gateway.models.triton import Triton
from gateway.request.deadline import Deadline
from tests.conftest import BOARD
from tests.gateway.test_failures import gateway, status, wait_until

PICTURE = BOARD.read_bytes()


def detect(client: httpx.Client, milliseconds: str, **request: Any) -> httpx.Response:  # noqa: ANN401
    content = {"files": {"image": PICTURE}} | request
    return client.post("/detect", headers={"X-Request-Timeout-Ms": milliseconds}, **content)


def inferences(triton: TritonServer) -> int:
    with InferenceServerClient(triton.grpc_url) as client:
        statistics = client.get_inference_statistics("detector").model_stats
    return sum(model.inference_stats.success.count + model.inference_stats.fail.count for model in statistics)


def test_a_stuck_triton_is_given_up_when_the_client_wants(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="60", watch_interval_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        triton.signal(signal.SIGSTOP)
        try:
            late = detect(client, "400")
            batch = client.post(
                "/detect/batch", files=[("image", PICTURE)] * 2, headers={"X-Request-Timeout-Ms": "400"}
            )
            assert "pcbd_in_flight 0.0" in client.get("/metrics").text
        finally:
            triton.signal(signal.SIGCONT)
        assert (late.status_code, "0.4 s" in late.json()["detail"]) == (504, True)
        assert batch.text.count('"status":504') == 2
        assert detect(client, "60000").status_code == 200


def test_what_is_too_late_does_not_reach_triton(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        before = inferences(triton)
        for _ in range(5):
            assert detect(client, "1").status_code in {408, 504}  # by whether the body or the decoding was late
        assert inferences(triton) == before


def test_tiles_whose_time_is_over_are_not_sent(triton: TritonServer) -> None:
    async def send(deadline: Deadline) -> None:
        connection = Triton(triton.grpc_url)
        try:
            served = await describe(connection)
            await try_once(connection, served, [DETECTOR], deadline)
        finally:
            await connection.close()

    before = inferences(triton)
    with pytest.raises(DeadlineError):
        asyncio.run(send(Deadline.within(-0.1)))
    assert inferences(triton) == before
    asyncio.run(send(Deadline.within(60)))
    assert inferences(triton) == before + 1


def test_the_server_bounds_what_a_client_may_ask_for(triton: TritonServer) -> None:
    with gateway(triton.grpc_url, deadline_s="0.4", watch_interval_s="60") as (client, _):
        wait_until(lambda: status(client, "/readyz") == 200)
        triton.signal(signal.SIGSTOP)
        try:
            assert detect(client, "60000").status_code == 504
        finally:
            triton.signal(signal.SIGCONT)


def test_a_body_that_comes_later_than_the_client_wants_is_given_up(gateway_url: str) -> None:
    url = httpx.URL(gateway_url)
    head = (
        f"POST /detect HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: image/png\r\nContent-Length: {len(PICTURE)}\r\n"
        "X-Request-Timeout-Ms: 300\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall(head.encode() + PICTURE[:100])
        assert connection.recv(1024).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "1e3", "", "9999999999"])
def test_a_deadline_is_whole_milliseconds(gateway_url: str, given: str) -> None:
    with httpx.Client(base_url=gateway_url, timeout=60) as client:
        refused = detect(client, given)
    assert (refused.status_code, "X-Request-Timeout-Ms" in refused.json()["detail"]) == (422, True)
