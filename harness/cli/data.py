"""`harness data`: list, fetch, prepare and describe data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.options import (
    CacheDir,
    Core,
    Format,
    ItemColumn,
    Json,
    Metadata,
    Repeats,
    ShortUsers,
    Split,
    TimeColumn,
    UserColumn,
    print_json,
)
from harness.errors import UsageError, nearest

if TYPE_CHECKING:
    from harness.data.open import Source

app = typer.Typer(
    help="List, fetch, prepare and describe data sets.",
    epilog="Example: [bold]harness data describe demo[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

NamedOrPath = Annotated[str, typer.Argument(metavar="NAME_OR_PATH", help="A named data set, a file, or a folder.")]


def source_of(
    name: str,
    *,
    format: str | None,
    metadata: Path | None,
    columns: tuple[str | None, str | None, str | None],
    core: int | None,
    repeats: str | None,
    short_users: str | None,
    split: str = "leave-one-out",
) -> Source:
    """The data set that these options name."""
    from harness.data.formats.format import Columns
    from harness.data.open import Source

    changes = {"core": core, "repeats": repeats, "short_users": short_users}
    given = {field: value for field, value in changes.items() if value is not None}
    return Source(name, format, metadata, Columns(*columns), given, split)


@app.command("list", epilog="Example: [bold]harness data list --json[/]")
def list_(json: Json = False, cache_dir: CacheDir = options.CACHE) -> None:
    """List the named data sets, and what is prepared."""
    from rich.console import Console
    from rich.text import Text

    from harness.data.catalog import NAMED
    from harness.data.open import prepared_folders
    from harness.data.prepare import describe

    prepared = [{**describe(folder), "folder": str(folder)} for folder in prepared_folders(cache_dir)]
    if json:
        print_json({"named": list(NAMED), "prepared": prepared})
        return
    grid = _grid("Data set", "Users", "Items", "Interactions", "Prepared in")
    for name in NAMED:
        if not any(found["name"] == name for found in prepared):
            grid.add_row(name, "", "", "", Text("not yet", "dim"))
    for found in prepared:
        label = found["name"] + (" (synthetic)" if found["synthetic"] else "")
        counts = [f"{found[key]:,}" for key in ("users", "items", "interactions")]
        grid.add_row(*map(Text, [label, *counts, found["folder"]]))
    Console(highlight=False).print(grid)


@app.command("fetch", epilog="Example: [bold]harness data fetch scientific[/]")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A named data set.")],
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Download a named data set (what is there is not downloaded again), check and prepare it."""
    from harness.data.catalog import NAMED
    from harness.data.open import Source

    if name not in NAMED:
        raise UsageError(f"unknown data set '{name}'; {nearest(name, NAMED)}; a path needs no fetching")
    _prepare(Source(name), cache_dir, json, again=False)


@app.command(
    "prepare",
    help="Read, filter and split a data set, even if that was done before.",
    epilog="Example: [bold]harness data prepare ratings.csv.gz --core 5 --short-users drop[/]",
)
@app.command(
    "describe",
    help="Print a data set's size, lengths, repeats, texts and cold items; it is prepared first if need be.",
    epilog="Example: [bold]harness data describe ../shared/data/scientific2018[/]",
)
def prepare_or_describe(
    context: typer.Context,
    name: NamedOrPath,
    format: Format = None,
    metadata: Metadata = None,
    user_col: UserColumn = None,
    item_col: ItemColumn = None,
    time_col: TimeColumn = None,
    core: Core = None,
    repeats: Repeats = None,
    short_users: ShortUsers = None,
    split: Split = "leave-one-out",
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Both commands: they differ in whether a data set that is prepared already is prepared again."""
    source = source_of(
        name,
        format=format,
        metadata=metadata,
        columns=(user_col, item_col, time_col),
        core=core,
        repeats=repeats,
        short_users=short_users,
        split=split,
    )
    _prepare(source, cache_dir, json, again=context.info_name == "prepare")


def _prepare(source: Source, cache_dir: Path, as_json: bool, *, again: bool) -> None:
    """Prepares the data set and prints what it is."""
    from harness.cli.progress import working
    from harness.data.open import open_dataset
    from harness.data.prepare import describe
    from harness.data.statistics import LABELS, shown

    with working(f"reading {source.name}"):
        folder = open_dataset(source, cache_dir, again=again)
    found = describe(folder)
    if as_json:
        print_json({**found, "folder": str(folder)})
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(found["name"] + (" (synthetic)" if found["synthetic"] else ""), "bold"))
    grid = _grid("", "", heading=False)
    for key, label in LABELS.items():
        if key in found:
            grid.add_row(Text(label, "dim"), Text(shown(key, found[key])))
    console.print(grid)
    print(f"prepared in {folder}", file=sys.stderr)


def _grid(*headings: str, heading: bool = True) -> Any:
    from rich import box
    from rich.table import Table

    grid = Table(
        box=box.SIMPLE_HEAD if heading else None,
        show_header=heading,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for place, name in enumerate(headings):
        is_number = 0 < place < len(headings) - 1 or (not heading and place == 1)
        grid.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return grid
