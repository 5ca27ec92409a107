"""Grids as all commands print them, still without rows."""

from collections.abc import Collection
from typing import Any

from rich import box
from rich.table import Table as Grid


def headed_grid(
    *headings: str,
    numbers: Collection[str] = (),
    padding: tuple[int, int] | tuple[int, int, int, int] = (0, 1),
    **look: Any,
) -> Grid:
    """A grid with a line below its headings; columns of `numbers` stand on the right, `look` is that of all columns."""
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, collapse_padding=True)
    for heading in headings:
        grid.add_column(heading, justify="right" if heading in numbers else "left", **look)
    return grid


def bare_grid() -> Grid:
    """A grid of names and what is said of them, without headings and lines."""
    return Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
