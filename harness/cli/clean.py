"""`harness clean`: what serves nothing in the runs and cache folders, listed or removed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, values
from harness.cli.options import CacheDir, Json, RunsDir, print_json, print_view
from results.terminal.quantities import size

if TYPE_CHECKING:
    from harness.experiment.leftovers import Leftover

EXAMPLES = (
    "Examples: [bold]harness clean[/] · [bold]harness clean --only unfinished,damaged --remove[/] · "
    "[bold]harness clean --only unused --json[/]"
)


def clean(
    only: Annotated[
        str,
        typer.Option(
            help="Of unfinished, damaged, stale (of an earlier version, or replaced), unused (no finished run stands "
            "on it), with commas between; or all.",
            metavar="LIST",
        ),
    ] = "all",
    remove: Annotated[bool, typer.Option("--remove", help="Remove what is listed; without it nothing is.")] = False,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """List, and with --remove remove, runs and cache stages that are unfinished, damaged, stale or unused.

    What a running process holds is left alone. What goes from the cache is computed again when it is asked for.
    """
    from harness.experiment import leftovers

    found = leftovers.find_leftovers(
        runs_dir, cache_dir, values.names_of(only, leftovers.STATES, "state", {"all": leftovers.STATES})
    )
    removed, freed = leftovers.remove(found, runs_dir) if remove else ([], 0)
    if json:
        told = [
            {**asdict(one), "path": str(one.path), "lock": str(one.lock), "removed": one in removed} for one in found
        ]
        print_json({"leftovers": told, "freed_bytes": freed})
        return
    if found:
        _print(found)
    print(_summary(found, removed, freed, remove), file=sys.stderr)


def _summary(found: list[Leftover], removed: list[Leftover], freed: int, is_removing: bool) -> str:
    if not found:
        return "nothing to clean"
    held = sum(one.held for one in found)
    of_others = f"; {held} held by running processes left alone" if held else ""
    if is_removing:
        return f"removed {len(removed)} of {len(found)}, {size(freed)} freed{of_others}"
    total = sum(one.size for one in found if not one.held)
    return f"{len(found) - held} to remove, {size(total)}{of_others}; nothing was removed, add --remove"


def _print(found: list[Leftover]) -> None:
    from rich.text import Text

    from results.terminal.grids import headed_grid

    grid = headed_grid("State", "What", "Where", "Size", "Written", "Why", numbers=("Size",), overflow="fold")
    for one in found:
        why = f"{one.why}; held by a running process" if one.held else one.why
        written = one.changed[:16].replace("T", " ")
        grid.add_row(*map(Text, (one.state, one.what, one.name, size(one.size), written, why)))
    print_view(grid)
