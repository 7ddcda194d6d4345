"""docs/settings.md, made from the settings themselves."""

import pytest

from gateway.settings import Settings
from gateway.settings_table import page
from tests.conftest import ROOT


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_does(name: str) -> None:
    assert Settings.model_fields[name].description


def test_the_page_of_settings_is_what_they_are() -> None:
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == page(), "stale; python -m gateway.settings_table > docs/settings.md"
