from pathlib import Path

import pytest

from export.contract.tensors import INSTANCES
from export.runtime import engine as engine_module
from export.runtime.engine import load_engine, usable_cores


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of 64 cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))


def limit(cgroup: Path, **files: str) -> Path:
    """A control group's folder with these files in it."""
    for name, content in files.items():
        file = cgroup / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content + "\n")
    return cgroup


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [("200000 100000", 2), ("max 100000", 64), ("150000 100000", 2), ("5000 100000", 1), ("12800000 100000", 64)],
)
def test_cores_are_those_of_the_containers_limit(cpu_max: str, cores: int, tmp_path: Path) -> None:
    assert usable_cores(limit(tmp_path, **{"cpu.max": cpu_max})) == cores


@pytest.mark.parametrize(("quota", "cores"), [("200000", 2), ("-1", 64)])
def test_cores_are_those_of_the_limit_of_version_1(quota: str, cores: int, tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000"}
    assert usable_cores(limit(tmp_path, **files)) == cores


def test_cores_without_a_control_group_are_those_of_the_process(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 64


def test_an_engine_gets_an_instances_share_of_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(engine_module, "usable_cores", lambda: 4)
    monkeypatch.setitem(engine_module.ENGINES, ".onnx", lambda file, threads: given.append(threads))
    (tmp_path / "model.onnx").touch()
    load_engine(tmp_path)
    assert given == [4 // INSTANCES]
