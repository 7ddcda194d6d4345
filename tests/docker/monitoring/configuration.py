"""The files of docker/ as tests run them: on 127.0.0.1, and with a minute that lasts a second.

The files themselves stay untouched: copies get other addresses and shorter times, and nothing else.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

PROMETHEUS = ROOT / "docker" / "prometheus"
ALERTMANAGER = ROOT / "docker" / "alertmanager" / "alertmanager.yml"
GRAFANA = ROOT / "docker" / "grafana"
SPEED = 60
MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# Ranges, their steps and offsets of expressions, and the keys of YAML that hold a time; never the name of a recorded
# series.
DURATION = re.compile(
    r"(?P<before>\[|:(?=\d+[smhd]\])|offset |(?:for|interval|\w+_interval|group_wait): )"
    r"(?P<number>\d+)(?P<unit>[smhd])\b"
)


def hastened(text: str) -> str:
    """The same rules or settings, SPEED times as fast."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found['before']}{int(found['number']) * MILLISECONDS[found['unit']] // SPEED}ms"

    return DURATION.sub(shorter, text)


def moved(text: str, places: Mapping[str, str]) -> str:
    """The same settings with other addresses; each must be there."""
    for former, new in places.items():
        assert former in text, former
        text = text.replace(former, new)
    return text


def alerting_rules() -> list[dict[str, Any]]:
    """Every alert of docker/prometheus/rules."""
    return [rule for rule in _rules() if "alert" in rule]


def recorded_names() -> set[str]:
    """Every series that rules record."""
    return {str(rule["record"]) for rule in _rules() if "record" in rule}


def expressions() -> dict[str, str]:
    """Every expression of a rule, by where it stands."""
    return {str(rule.get("alert") or rule["record"]): str(rule["expr"]) for rule in _rules()}


def _rules() -> list[dict[str, Any]]:
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def write_copies(folder: Path, places: Mapping[str, str], webhook_url: str) -> tuple[Path, Path]:
    """Prometheus' and Alertmanager's files, hastened and moved, in a folder; their paths."""
    (folder / "rules").mkdir()
    for path in (PROMETHEUS / "rules").glob("*.yml"):
        (folder / "rules" / path.name).write_text(hastened(path.read_text(encoding="utf-8")), encoding="utf-8")
    prometheus = folder / "prometheus.yml"
    settings = hastened((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    patient = {"scrape_interval: 250ms": "scrape_interval: 1s"}  # which is its timeout too, on a machine that is busy
    prometheus.write_text(moved(settings, {**places, **patient}), encoding="utf-8")
    alertmanager = folder / "alertmanager.yml"
    alertmanager.write_text(hastened(with_webhook(webhook_url)), encoding="utf-8")
    return prometheus, alertmanager


def with_webhook(url: str) -> str:
    """Alertmanager's settings with URLs in the place of files of URLs, which Debian's 0.25 does not know yet."""
    return moved(
        ALERTMANAGER.read_text(encoding="utf-8"),
        {f"url_file: /run/secrets/alert_{name}_url": f"url: {url}/{name}" for name in ("page", "ticket")},
    )
