"""The dashboards come from their source, every panel says what it shows, and Grafana is told where they are."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from tests.docker.monitoring.configuration import GRAFANA
from tests.docker.monitoring.dashboards import DASHBOARDS, panels


def test_dashboards_are_what_their_source_makes() -> None:
    specification = importlib.util.spec_from_file_location("build", GRAFANA / "build.py")
    assert specification
    assert specification.loader
    build = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(build)
    made = {path.stem: build.build(path) for path in (GRAFANA / "panels").glob("*.yml")}
    assert made
    assert {path.stem: path.read_text(encoding="utf-8") for path in DASHBOARDS} == made, "run docker/grafana/build.py"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_a_description_a_unit_and_a_place_of_its_own(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(path):
        title = panel["title"]
        assert panel["description"], title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"]["uid"] == "${datasource}", title
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert columns.stop <= 24, title
        assert not cells & taken, title
        taken |= cells


def test_dashboards_are_told_apart_and_find_each_other() -> None:
    read = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    assert len({each["uid"] for each in read}) == len({each["title"] for each in read}) == len(read)
    assert all(set(each["links"][0]["tags"]) <= set(each["tags"]) for each in read)


def test_grafana_is_told_where_dashboards_and_data_are() -> None:
    provisioning = GRAFANA / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    [provider] = yaml.safe_load((provisioning / "dashboards" / "pcbd.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"]
