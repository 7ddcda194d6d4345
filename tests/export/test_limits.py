import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from export.gate.limits import FILE, PRECISIONS, LimitsError, read_limits
from tests.conftest import ROOT


def changed(tmp_path: Path, precision: str, **values: object) -> Path:
    """The shipped file with some values of a precision replaced; None takes one away."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    content[precision] |= values
    content[precision] = {name: value for name, value in content[precision].items() if value is not None}
    file = tmp_path / "limits.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def test_limits_are_the_ones_that_were_promised() -> None:
    limits = read_limits()
    assert tuple(limits) == PRECISIONS
    assert limits["fp32"].token_agreement == limits["fp32"].box_agreement == 1
    assert [limits[precision].max_map_drop for precision in ("fp16", "bf16", "int8", "fp8")] == [
        0.002,
        0.002,
        0.011,
        0.011,
    ]


def test_limits_of_a_file_are_used(tmp_path: Path) -> None:
    assert read_limits(changed(tmp_path, "int8", max_error=0.125))["int8"].max_error == 0.125


def test_limits_name_every_fault_at_once(tmp_path: Path) -> None:
    file = changed(tmp_path, "bf16", max_error="much", min_cosine=None, max_eror=0.1, batch_error=True)
    with pytest.raises(LimitsError) as error:
        read_limits(file)
    for name in ("max_error", "min_cosine", "max_eror", "batch_error"):
        assert f"bf16.{name} " in str(error.value)


@pytest.mark.parametrize("text", ["", "[1]", "fp32: {", "fp32: 3\nint4: {}"])
def test_limits_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LimitsError, match=r"limits\.yaml"):
        read_limits(file)


def test_limits_that_are_none_do_not_keep_the_gate_from_being_imported(tmp_path: Path) -> None:
    """They are read when something is judged; then the commands say what is wrong."""
    source = "import export.gate.limits as limits; limits.yaml = None; import export.gate.verify"
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_limits_that_nothing_could_exceed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match=r"int8\.max_map_drop"):
        read_limits(changed(tmp_path, "int8", max_map_drop=float("nan")))
