"""What the commands that measure share: an option, and tables with notes below them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

from harness.cli import options

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Threads = Annotated[int | None, options.machine_option(min=1, help="Threads of ours and of peers (default: cores).")]


def table(title: str, columns: Sequence[str]) -> Table:
    """An empty table: what is measured, then right-aligned columns."""
    from rich.table import Table

    grid = Table(title=title, title_justify="left")
    grid.add_column("what")
    for column in columns:
        grid.add_column(column, justify="right")
    return grid


def mark(is_reached: bool | None) -> Text:
    """Yes, no, or nothing where it was not measured."""
    from rich.text import Text

    return Text("") if is_reached is None else Text("yes", "green") if is_reached else Text("no", "bold red")


def show(tables: Iterable[Table], notes: Iterable[str]) -> None:
    """The tables, and the notes below them."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for grid in tables:
        console.print(grid)
    for note in notes:
        console.print(Text(note, "dim"))
