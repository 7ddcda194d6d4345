"""Writes docs/settings.md from gateway/settings.py: every setting with its type, default, range and meaning.

python -m gateway.settings_table > docs/settings.md
"""

import sys
from typing import Any

from gateway.settings import Settings

HEAD = """# Settings

Each is an environment variable of the gateway; with a value that does not fit it does not start, and says which. `_S`
at the end of a name are seconds. In a container it may be a file instead, as in `/run/secrets/pcbd_database_url`; the
variable wins. This page is made by `python -m gateway.settings_table > docs/settings.md`.

| variable | type | default | range | what it does |
|---|---|---|---|---|
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
TYPES = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text"}


def page() -> str:
    """The whole page."""
    prefix = Settings.model_config["env_prefix"].upper()
    properties = Settings.model_json_schema()["properties"]
    return HEAD + "".join(_row(prefix + name.upper(), schema) for name, schema in properties.items())


def _row(variable: str, schema: dict[str, Any]) -> str:
    # A setting that may be left out is any of its own type and of null.
    own = next((each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"), schema)
    bounds = [f"{sign} {_figure(own[name])}" for name, sign in BOUNDS.items() if name in own]
    cells = [f"`{variable}`", _type(own), _default(schema.get("default")), ", ".join(bounds), schema["description"]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return "path" if schema.get("format") == "path" else TYPES[schema["type"]]


def _default(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{_figure(value)}`" if isinstance(value, int | float) else f"`{value}`"


def _figure(value: float) -> str:
    return f"{value:.15g}"  # as the variable takes it


if __name__ == "__main__":
    sys.stdout.write(page())
