"""Outcomes as a table for people; Chinese takes two columns a character."""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.client.asking import Outcome

WIDTH = 160  # columns, where the output is no terminal


def console(*, stderr: bool = False) -> Console:
    """Writes what it is given and nothing else: no markup, no emoji codes, no highlighting."""
    plain = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    return (
        plain if plain.is_terminal else Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=WIDTH)
    )


def table_of(outcomes: Iterable[Outcome]) -> Table:
    """A line for each detection, one for a board without any or one that failed."""
    table = rows("image", "verdict", ">score", "defect", ">x1", ">y1", ">x2", ">y2", "prompt")
    for outcome in outcomes:
        name = str(outcome.picture)
        if outcome.answer is None:
            table.add_row(Text(name), Text("error", "bold red"))
            continue
        verdict = Text(outcome.answer.verdict, "bold red" if outcome.answer.verdict == "ng" else "bold green")
        if not outcome.answer.detections:
            table.add_row(Text(name), verdict)
        for found in outcome.answer.detections:
            corners = [f"{value:.0f}" for value in (found.box.x1, found.box.y1, found.box.x2, found.box.y2)]
            table.add_row(
                Text(name), verdict, f"{found.score:.3f}", Text(found.defect or "-"), *corners, Text(found.prompt)
            )
    return table


def rows(*columns: str) -> Table:
    """An empty table; a column whose name begins with > is of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return table
