"""Prometheus' rules and Grafana's dashboards as objects of the operators; docker/ has what they are made of.

    python -m tests.k8s.monitoring

kustomize reads no file outside of its folder and cannot put one into an object, so what this writes is kept in
k8s/components/monitoring, and test_monitoring.py fails where that is not up to date.
"""

from pathlib import Path

import yaml

from tests.conftest import ROOT

COMPONENT = ROOT / "k8s" / "components" / "monitoring"
RULES = ROOT / "docker" / "prometheus" / "rules"
DASHBOARDS = ROOT / "docker" / "grafana" / "dashboards"
HEAD = "# Made of {source}; change that, then: python -m tests.k8s.monitoring\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that a change of a dashboard can be read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def rules() -> str:
    """One PrometheusRule for each file of rules."""
    return _file(
        RULES,
        [
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {"name": f"pcbd-{path.stem}"},
                "spec": yaml.safe_load(path.read_text(encoding="utf-8")),
            }
            for path in sorted(RULES.glob("*.yml"))
        ],
    )


def dashboards() -> str:
    """One ConfigMap for each dashboard, with the label by which Grafana's sidecar finds it."""
    return _file(
        DASHBOARDS,
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"dashboard-{path.stem}", "labels": {"grafana_dashboard": "1"}},
                "data": {path.name: path.read_text(encoding="utf-8")},
            }
            for path in sorted(DASHBOARDS.glob("*.json"))
        ],
    )


def _file(source: Path, objects: list[dict[str, object]]) -> str:
    text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return HEAD.format(source=source.relative_to(ROOT)) + text


def main() -> None:
    """Writes both."""
    (COMPONENT / "rules.yaml").write_text(rules(), encoding="utf-8")
    (COMPONENT / "dashboards.yaml").write_text(dashboards(), encoding="utf-8")


if __name__ == "__main__":
    main()
