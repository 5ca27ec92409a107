"""What an installation computes beside what ours does, on a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

Line = tuple[str, float, float, float, bool]  # quantity, shipped, found here, allowed difference, agreement


def installation_view(lines: Sequence[Line], seconds: float) -> RenderableType:
    """Each quantity, and whether all agree."""
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for place, name in enumerate(("Quantity", "Shipped", "Here", "Difference", "Allowed", "")):
        grid.add_column(name, justify="right" if 0 < place < 5 else "left")
    for quantity, shipped, found, allowed, agrees in lines:
        numbers = [f"{value:,.6g}" for value in (shipped, found, found - shipped, allowed)]
        grid.add_row(*map(Text, [quantity, *numbers, "agrees" if agrees else "DIFFERS"]))
    off = [line[0] for line in lines if not line[-1]]
    told = (
        f"This installation differs from ours in {', '.join(off)}."
        if off
        else "This installation computes what ours does."
    )
    return Group(grid, Text(), Text(f"{told} {seconds:.0f} s."))
