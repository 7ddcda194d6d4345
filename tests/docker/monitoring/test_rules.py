"""The rules, judged by Prometheus' own promtool: each alert fires, stays silent and is explained."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.telemetry.metrics import Metrics
from tests.conftest import ROOT
from tests.docker.monitoring.configuration import PROMETHEUS, alerting_rules, recorded_names, with_webhook

RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERT_NAME = re.compile(r'alertname="(\w+)"')
BUCKET = re.compile(r'(\w+_bucket)\{[^}]*\ble="([^"]+)"')
WINDOW = re.compile(r'window="(\w+)"')


def run(*command: object) -> None:
    """Fails with what the tool printed; skips where it is not installed."""
    program = str(command[0])
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration_and_rules() -> None:
    run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    run("promtool", "check", "rules", *RULES)


def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    copy = tmp_path / "alertmanager.yml"
    copy.write_text(with_webhook("http://127.0.0.1:9"), encoding="utf-8")
    run("amtool", "check-config", copy)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent_as_their_tests_say(path: Path) -> None:
    run("promtool", "test", "rules", path)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    firing: set[tuple[str, str]] = set()
    silent: set[str] = set()
    for path in RULE_TESTS:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for question in case["promql_expr_test"]:
                for name in ALERT_NAME.findall(question["expr"]):
                    for sample in question["exp_samples"]:
                        window = WINDOW.search(sample["labels"])
                        firing.add((name, window[1] if window else ""))
                    if not question["exp_samples"]:
                        silent.add(name)
    alerts = {(rule["alert"], rule["labels"].get("window", "")) for rule in alerting_rules()}
    assert alerts
    assert firing == alerts
    assert silent == {name for name, _ in alerts}


def test_every_alert_says_how_grave_it_is_what_it_saw_and_what_to_do() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE)
    for rule in alerting_rules():
        name, labels, notes = rule["alert"], rule["labels"], rule["annotations"]
        assert labels["severity"] in {"page", "ticket"}, name
        assert notes["summary"], name
        assert "$value" in notes["description"] or "absent(" in rule["expr"], name
        assert notes["runbook_url"] == f"docs/runbook.md#{name.lower()}", name
        assert name in headings
    assert set(headings) == {rule["alert"] for rule in alerting_rules()}


def test_a_bound_is_asked_for_as_the_gateway_writes_it() -> None:
    """`le="1"` would match nothing, and its alert never fire."""
    written = set(BUCKET.findall(Metrics().exposition(None)[0].decode()))
    asked = {bucket for path in RULES for bucket in BUCKET.findall(path.read_text(encoding="utf-8"))}
    assert asked
    assert asked <= written


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    assert [name for name in recorded_names() if not re.fullmatch(r"\w+:\w+:\w+", name)] == []
