"""README.md and its Chinese twin: the same commands, the same figures, links that lead somewhere."""

import re

import pytest

from tests.conftest import ROOT
from tests.docker.daemon import PACKAGES

TWINS = ("README.md", "README.zh-CN.md")
FENCED = re.compile(r"^ *```\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"  +# .*")
FOLDER = re.compile(r"(?:^|  )([\w/]+/)", re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(([^)#]+)[^)]*\)")
COMMAND = re.compile(r"`((?:python -m|make|pcbd) [^`]*)`")
FIGURE = re.compile(r"\d+(?:\.\d+)?")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tables(name: str) -> list[list[list[str]]]:
    """The figures of each cell of each row of a table."""
    rows = [line.split("|") for line in text(name).splitlines() if line.startswith("|")]
    return [[sorted(FIGURE.findall(cell)) for cell in row] for row in rows]


def test_both_readmes_show_the_same_commands() -> None:
    """All blocks but the last, the folders, whose comments each says in its language."""
    english, chinese = ([COMMENT.sub("", block) for block in FENCED.findall(text(name))[:-1]] for name in TWINS)
    assert english
    assert english == chinese


def test_both_readmes_tell_the_same_folders_which_are_there() -> None:
    english, chinese = (FOLDER.findall(FENCED.findall(text(name))[-1]) for name in TWINS)
    assert english
    assert english == chinese
    assert [folder for folder in english if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize("name", TWINS)
def test_a_readme_names_the_packages_that_a_bare_debian_needs(name: str) -> None:
    """Those of the trial's own Debian, which needs the certificates for its index alone."""
    packages = set(PACKAGES.split(",")) - {"ca-certificates"}
    assert [package for package in sorted(packages) if package not in text(name)] == []


def test_both_readmes_name_the_same_commands_in_their_prose() -> None:
    # What `make demo IMAGE=path` stands for is said in each language.
    english, chinese = ([re.sub(r"=\w+", "=", each) for each in COMMAND.findall(text(name))] for name in TWINS)
    assert english
    assert english == chinese


def test_both_readmes_have_the_same_figures_in_their_tables() -> None:
    english, chinese = (tables(name) for name in TWINS)
    assert sum(map(len, english)) > 20
    assert english == chinese


@pytest.mark.parametrize("name", TWINS)
def test_a_readmes_links_lead_somewhere(name: str) -> None:
    links = [link for link in LINK.findall(text(name)) if not link.startswith("http")]
    assert set(TWINS) - {name} <= set(links)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_both_readmes_link_to_the_same_places() -> None:
    english, chinese = (set(LINK.findall(text(name))) - set(TWINS) for name in TWINS)
    assert english == chinese
