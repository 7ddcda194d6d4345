"""What Prometheus reads: labels that no client can multiply, reasons, buckets, the model in use."""

import uuid

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.errors import STATUS
from gateway.settings import Settings
from gateway.telemetry.metrics import (
    CONNECTION_REASONS,
    FAULT_REASON,
    KEY_REASONS,
    LEVEL_ROUTES,
    OTHER_ROUTES,
    OTHER_WORDS,
    REASONS,
    SECONDS,
    STATUSES,
    Metrics,
)
from tests.conftest import BOARD

TRACE = "0af7651916cd43dd8448eb211c80319c"


def series(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = httpx.get(f"{url}/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask_oddly(url: str) -> None:
    """Everything in a request that a client chooses, chosen anew."""
    odd = uuid.uuid4().hex
    with httpx.Client(base_url=url, timeout=60) as client:
        client.get(f"/{odd}")
        client.get(f"/defects/{odd}")
        client.request(odd.upper()[:8], "/detect")
        client.post(f"/detect?{odd}=1", files={odd: b"no picture"})
        named = {"board_id": odd, "camera_id": odd, "recipe": odd, "prompt": f"find {odd}", "score_threshold": "0"}
        answer = client.post(
            "/detect", files={"image": BOARD.read_bytes()}, data=named, headers={"X-Request-ID": odd, "X-Actor": odd}
        )
        assert answer.status_code == 200


def test_no_client_can_make_new_series(gateway_url: str) -> None:
    before = series(gateway_url)  # which may tell of defects that are deleted by now
    ask_oddly(gateway_url)
    series(gateway_url)  # asking for them is a request too
    first = series(gateway_url)
    ask_oddly(gateway_url)
    assert series(gateway_url).keys() == first.keys()
    catalog = {defect["id"] for defect in httpx.get(f"{gateway_url}/defects").json()["defects"]}
    values: dict[str, set[str]] = {}
    for _, labels in first:
        for name, value in labels:
            values.setdefault(name, set()).add(value)
    assert {dict(labels).get("defect", OTHER_WORDS) for _, labels in first.keys() - before.keys()} <= catalog | {
        OTHER_WORDS
    }
    assert values["reason"] <= {*REASONS.values(), FAULT_REASON, *KEY_REASONS, *CONNECTION_REASONS}
    assert values["model"] <= {"detector", "prompt_encoder", "generator"}
    assert "unknown" in values["route"]
    assert all(status.isdigit() for status in values["status"])


def test_an_answer_is_counted_in_tiles_rows_and_scores(gateway_url: str) -> None:
    before = series(gateway_url)
    answer = httpx.post(
        f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}, data={"prompt": "短路"}, timeout=60
    ).json()
    after = series(gateway_url)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(labels.items()))
        return after[key] - before.get(key, 0.0)

    assert grown("pcbd_tiles_sum") == grown("pcbd_batch_rows_sum", model="detector") == 9
    assert grown("pcbd_scores_count", defect="short") == len(answer["detections"])
    assert grown("pcbd_scores_sum", defect="short") == pytest.approx(
        sum(each["score"] for each in answer["detections"])
    )
    for stage in ("body", "catalog", "decode", "prompts", "infer", "triton", "postprocess", "serialize"):
        assert grown("pcbd_stage_seconds_count", stage=stage) == 1


def test_a_reject_has_a_reason_of_its_own(gateway_url: str) -> None:
    assert len(set(REASONS.values())) == len(STATUS)
    key = ("pcbd_rejects_total", (("reason", "deadline"), ("route", "/detect")))
    before = series(gateway_url).get(key, 0.0)
    late = httpx.post(
        f"{gateway_url}/detect", files={"image": BOARD.read_bytes()}, headers={"X-Request-Timeout-Ms": "1"}
    )
    assert late.status_code in {408, 504}
    grown = series(gateway_url)
    assert grown.get(key, 0.0) - before == (late.status_code == 504)


def test_a_reject_is_counted_where_it_happened(gateway_url: str) -> None:
    def rejects() -> dict[str, float]:
        found = series(gateway_url)
        routes = (*LEVEL_ROUTES, OTHER_ROUTES)
        return {route: found["pcbd_rejects_total", (("reason", "mediatype"), ("route", route))] for route in routes}

    before = rejects()
    text, batch = {"content": b"x", "headers": {"Content-Type": "text/plain"}}, {"files": [("image", b"x")] * 2}
    for path, request in (("/detect", text), ("/detect/batch", text), ("/feedback", text), ("/detect/batch", batch)):
        httpx.post(f"{gateway_url}{path}", **request)
    grown = {route: count - before[route] for route, count in rejects().items()}
    assert grown == {"/detect": 1, "/detect/batch": 3, OTHER_ROUTES: 1}


def test_openmetrics_names_the_trace_of_an_example(gateway_url: str) -> None:
    httpx.get(f"{gateway_url}/defects", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    answer = httpx.get(f"{gateway_url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert [line for line in answer.text.splitlines() if '"/defects"' in line and f'trace_id="{TRACE}"' in line]


def test_buckets_resolve_what_a_line_waits_for() -> None:
    assert list(SECONDS) == sorted(set(SECONDS))
    assert len([edge for edge in SECONDS if 0.001 <= edge <= 0.5]) >= 16


def test_what_alerts_count_is_there_before_it_happens() -> None:
    text, _ = Metrics().exposition(None)
    zeros = {
        (sample.name, *sample.labels.values())
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.value == 0
    }
    assert {
        ("pcbd_verdicts_total", "ng"),
        *(
            ("pcbd_rejects_total", reason, route)
            for reason in ("parameter", "deadline", FAULT_REASON)
            for route in (*LEVEL_ROUTES, OTHER_ROUTES)
        ),
        ("pcbd_refused_keys_total", "expired"),
        ("pcbd_dropped_connections_total", "crowded"),
        ("pcbd_records_total", "dropped"),
        ("pcbd_record_images_total", "dropped"),
        ("pcbd_batch_images_total", "503"),
        ("pcbd_circuit_opened_total",),
        ("pcbd_request_seconds_count", "/detect"),
        *(
            ("pcbd_requests_total", route, status)
            for route in ("/detect", "/detect/batch")
            for status in ("200", "429", "499", "500", "502", "503", "504")
        ),
    } <= zeros


def test_routes_that_are_counted_from_the_start_are_the_applications() -> None:
    assert set(LEVEL_ROUTES) <= set(create_app(Settings()).openapi()["paths"])
    assert len(STATUSES) == len(set(STATUSES)) < 20  # times two routes: every gateway has these series


def test_a_replaced_model_is_no_longer_the_one_in_use() -> None:
    metrics = Metrics()
    metrics.set_model("pcb", "1", "a")
    metrics.set_model("pcb", "2", "b")
    text, _ = metrics.exposition(None)
    found = {
        sample.labels["version"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        if family.name == "pcbd_model_info"
        for sample in family.samples
    }
    assert found == {"1": 0, "2": 1}
