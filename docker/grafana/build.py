"""Writes Grafana's dashboards from the panels described in docker/grafana/panels/.

    python docker/grafana/build.py

A file of panels/ is a dashboard, dashboards/ has its JSON. A panel has a title, a kind, a description, the unit of its
values as Grafana calls it, queries (`expr`, `legend`) and, where values can be bad, `thresholds`: from which one on it
has which colour, green below. `min`, `max`, `decimals`, `width` and `mappings` are optional. 24 columns are a row.
"""

import json
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
SCHEMA_VERSION = 41  # Grafana 12.0
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
HEIGHTS = {"row": 1, "stat": 4, "timeseries": 8, "heatmap": 9, "table": 8}
WIDTH = 24
INSTANT = ("stat", "table")  # what they show is of now
LABELS_OF_PROMETHEUS = ("Time", "__name__", "job", "instance", "namespace")  # no columns of a table
OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}},
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "right", "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
    },
    "table": {"showHeader": True},
}


def dashboard(described: dict[str, Any]) -> dict[str, Any]:
    """The JSON model of a dashboard."""
    return {
        "uid": described["uid"],
        "title": described["title"],
        "description": described["description"],
        "tags": ["pcb-defect-detector"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": described.get("from", "now-6h"), "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource_variable(), _namespace_variable()]},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "PCB defect detector",
                "tags": ["pcb-defect-detector"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": _panels(described["rows"]),
    }


def _panels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": WIDTH, "h": HEIGHTS["row"]}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row["title"], "gridPos": place, "panels": []})
        top += HEIGHTS["row"]
        left = height = 0
        for each in row["panels"]:
            width = each.get("width", WIDTH // len(row["panels"]))
            if left + width > WIDTH:
                left, top, height = 0, top + height, 0
            place = {"x": left, "y": top, "w": width, "h": HEIGHTS[each["kind"]]}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(each)})
            left, height = left + width, max(height, place["h"])
        top += height
    return panels


def _panel(described: dict[str, Any]) -> dict[str, Any]:
    kind = described["kind"]
    steps = [{"value": None, "color": "green"}]
    steps += [{"value": value, "color": colour} for value, colour in described.get("thresholds", {}).items()]
    defaults = {
        "unit": described["unit"],
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "mappings": [
            {"type": "value", "options": {str(value): {"text": text}}}
            for value, text in described.get("mappings", {}).items()
        ],
        **{name: described[name] for name in ("min", "max", "decimals") if name in described},
    }
    if kind == "timeseries":
        style = "line+area" if "thresholds" in described else "off"
        defaults["custom"] = {"fillOpacity": 5, "showPoints": "never", "thresholdsStyle": {"mode": style}}
    if kind == "table":
        defaults["custom"] = {"cellOptions": {"type": "color-text"}}
    panel = {
        "type": kind,
        "title": described["title"],
        "description": described["description"],
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": OPTIONS[kind],
        "targets": [_target(kind, number, query) for number, query in enumerate(described["queries"])],
    }
    if kind == "table":
        hidden = dict.fromkeys(LABELS_OF_PROMETHEUS, True)
        panel["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return panel


def _target(kind: str, number: int, query: dict[str, str]) -> dict[str, Any]:
    form = {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series")
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query["expr"],
        "legendFormat": query.get("legend", "__auto"),
        "format": form,
        "instant": kind in INSTANT,
        "range": kind not in INSTANT,
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _namespace_variable() -> dict[str, Any]:
    query = 'label_values(up{job="gateway"}, namespace)'
    return {
        "name": "namespace",
        "type": "query",
        "label": "Namespace",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "namespace"},
        "definition": query,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",  # of compose, too, where the label is missing
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def build(described: Path) -> str:
    """The text of a dashboard's JSON."""
    return json.dumps(dashboard(yaml.safe_load(described.read_text(encoding="utf-8"))), indent=1) + "\n"


if __name__ == "__main__":
    for path in sorted((FOLDER / "panels").glob("*.yml")):
        (FOLDER / "dashboards" / f"{path.stem}.json").write_text(build(path), encoding="utf-8")
