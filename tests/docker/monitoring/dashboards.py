"""Grafana's dashboards as their JSON has them; Grafana itself is not here to load them."""

import json
from pathlib import Path
from typing import Any

from tests.docker.monitoring.configuration import GRAFANA

DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def panels(path: Path) -> list[dict[str, Any]]:
    """Those that show something, of one dashboard."""
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Every query of every panel, by where it stands."""
    return {
        f"{path.stem}: {panel['title']}, {target['refId']}": target["expr"]
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel["targets"]
    }
