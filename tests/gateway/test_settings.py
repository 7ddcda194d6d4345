"""Settings from a container's secret files."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import Settings

URL = "postgresql://gateway:secret@db/gateway"


def test_a_secret_is_read_from_its_file_and_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pcbd_database_url").write_text(f"{URL}\n")
    monkeypatch.delenv("PCBD_DATABASE_URL")
    assert Settings(_secrets_dir=tmp_path).database_url == URL
    monkeypatch.setenv("PCBD_DATABASE_URL", "sqlite:///here.db")
    assert Settings(_secrets_dir=tmp_path).database_url == "sqlite:///here.db"


def test_a_share_for_no_canary_is_refused() -> None:
    with pytest.raises(ValidationError, match="PCBD_CANARY_VERSION"):
        Settings(canary_share=0.1)
    assert Settings(canary_share=0.1, canary_version=2).canary_version == 2
