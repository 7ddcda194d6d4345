"""Prometheus and Alertmanager themselves, watching the gateway and Triton at work: series, queries, alerts."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import BOARD, ROOT
from tests.docker.monitoring.configuration import expressions, recorded_names
from tests.docker.monitoring.dashboards import queries
from tests.docker.monitoring.stack import Stack
from tests.gateway.test_failures import wait_until

NAME = re.compile(r"\b(?:pcbd|nv|node|kubelet)_\w+|\b\w+:\w+:\w+|\bup\b")
QUOTED = re.compile(r'"[^"]*"')
NOT_HERE = re.compile(
    "nv_gpu_.*"  # Triton without a GPU
    "|node_filesystem_.*"  # node_exporter
    "|kubelet_volume_stats_.*"  # Kubernetes
)
VARIABLES = {
    "$namespace": ".*",
    "$__rate_interval": "5m",
    ":5m]": ":1s]",  # of a subquery, which needs two steps
}


@pytest.fixture(scope="module")
def used(monitoring: Stack) -> Stack:
    """After one of everything that the service is asked for, scraped."""
    client = monitoring.gateway
    answer = client.post(
        "/detect",
        files={"image": BOARD.read_bytes()},
        data={"prompt": ["短路", "find spurs"], "score_threshold": "0.1"},
    ).json()
    assert answer["detections"]
    batch = client.post("/detect/batch", files=[("image", BOARD.read_bytes())] * 2, data={"prompt": "短路"})
    assert batch.status_code == 200
    assert client.post("/detect", files={"image": b"no picture"}).status_code == 415
    inspection = f"/inspections/{answer['request_id']}"
    wait_until(lambda: client.get(inspection).status_code == 200)
    judgements = [{"id": found["id"], "judgement": "false"} for found in answer["detections"]]
    judgements[0]["judgement"] = "right"
    missed = [{"defect": "open", "box": {"x1": 1, "y1": 1, "x2": 9, "y2": 9}}]
    review = {"request_id": answer["request_id"], "complete": True, "detections": judgements, "missed": missed}
    assert client.post("/feedback", json=review).status_code == 200
    wait_until(lambda: bool(monitoring.query("pcbd_escape_ratio > 0")))
    return monitoring


def test_every_target_is_up(monitoring: Stack) -> None:
    wait_until(lambda: len(monitoring.query("up == 1")) == 4)
    assert {found["metric"]["job"] for found in monitoring.query("up")} == {
        "gateway",
        "triton",
        "prometheus",
        "alertmanager",
    }


def test_every_series_of_a_rule_or_a_dashboard_is_there(used: Stack) -> None:
    named = {name for each in [*expressions().values(), *queries().values()] for name in NAME.findall(bare(each))}
    assert len(named) > 50
    wanted = {name for name in named if not NOT_HERE.fullmatch(name)}
    assert {name for name in wanted if ":" in name} <= recorded_names()

    def missing() -> set[str]:
        used.detect()  # some recorded rates need work to measure
        return wanted - set(used.prometheus.get("/api/v1/label/__name__/values").json()["data"])

    wait_until(lambda: not missing())


def bare(expression: str) -> str:
    """Without its strings."""
    return QUOTED.sub('""', expression)


def test_every_rule_is_evaluated_without_an_error(used: Stack) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = used.prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {rule["name"] for rule in rules()} == set(expressions())
    assert [rule for rule in rules() if rule["health"] != "ok"] == []


def test_every_panel_can_be_shown(used: Stack) -> None:
    unanswered = {place: shown(query) for place, query in queries().items()}
    assert unanswered

    def all_answered() -> bool:  # a scrape that was missed on a busy machine leaves a gap
        for place, query in list(unanswered.items()):
            if used.query(query) or NOT_HERE.search(query):
                del unanswered[place]
        return not unanswered

    wait_until(all_answered)


def test_every_query_of_the_runbook_is_answered(used: Stack) -> None:
    asked = re.findall(r"^```promql\n(.*?)^```$", (ROOT / "docs" / "runbook.md").read_text(), re.DOTALL | re.MULTILINE)
    assert asked
    for query in asked:
        used.query(query)


def shown(query: str) -> str:
    """With values for the dashboard's variables."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def test_a_slow_model_is_paged_for_and_the_page_is_taken_back(used: Stack) -> None:
    page = {"alertname": "PcbdLatencyBudgetBurns", "window": "1h", "job": "gateway"}
    with asked_all_the_time(used):
        # The first requests count as well, and on a busy machine they were slow: paged for, if at all, and taken back.
        wait_until(lambda: used.post.has("page", "firing", **page) == used.post.has("page", "resolved", **page))
        used.post.alerts.clear()
        used.slow.touch()
        wait_until(lambda: used.post.has("page", "firing", **page))
        used.slow.unlink()
        wait_until(lambda: used.post.has("page", "resolved", **page))
    told = next(alert for _, alert in used.post.alerts if page.items() <= alert["labels"].items())
    assert re.match(r"\d+(\.\d+)?% ", told["annotations"]["description"])


def test_triton_away_is_one_page_whatever_follows_from_it(used: Stack) -> None:
    used.triton.stop()
    wait_until(lambda: used.post.has("page", "firing", alertname="PcbdTritonDown"))
    wait_until(lambda: bool(inhibited(used, "PcbdModelNotReady")))


def inhibited(running: Stack, name: str) -> list[dict[str, Any]]:
    """Alerts of that name that Alertmanager knows and keeps to itself."""
    alerts = running.alertmanager.get("/api/v2/alerts").json()
    return [each for each in alerts if each["labels"]["alertname"] == name and each["status"]["inhibitedBy"]]


@contextmanager
def asked_all_the_time(running: Stack) -> Iterator[None]:
    """One client asks for defects, one picture after the other: alone it is answered in time on a busy machine, too."""
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            running.detect("短路")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client)
        try:
            yield
        finally:
            over.set()
    asking.result()
