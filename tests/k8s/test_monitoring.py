"""The operators' objects say what docker/ says."""

from tests.k8s.monitoring import COMPONENT, dashboards, rules


def test_rules_and_dashboards_are_those_of_docker() -> None:
    assert (COMPONENT / "rules.yaml").read_text(encoding="utf-8") == rules()
    assert (COMPONENT / "dashboards.yaml").read_text(encoding="utf-8") == dashboards()
