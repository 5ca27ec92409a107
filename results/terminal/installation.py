"""What an installation computes beside what ours does, on a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from results.terminal.grids import headed_grid

Line = tuple[str, float, float, float, bool]  # quantity, shipped, found here, allowed difference, agreement


def installation_view(lines: Sequence[Line], seconds: float) -> RenderableType:
    """Each quantity, and whether all agree."""
    headings = ("Shipped", "Here", "Difference", "Allowed")
    grid = headed_grid("Quantity", *headings, "", numbers=headings)
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
