"""`harness data`: list, fetch, prepare, describe and export data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.options import CacheDir, Json, Reading, print_json, print_view, takes_groups
from harness.errors import UsageError, nearest

if TYPE_CHECKING:
    from harness.data.open import Source

app = typer.Typer(
    help="List, fetch, prepare, describe and export data sets.",
    epilog="Example: [bold]harness data describe demo[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

NamedOrPath = Annotated[str, typer.Argument(metavar="NAME_OR_PATH", help="A named data set, a file, or a folder.")]


@app.command("list", epilog="Example: [bold]harness data list --json[/]")
def list_(json: Json = False, cache_dir: CacheDir = options.CACHE) -> None:
    """List the named data sets, and what is prepared."""
    from rich.text import Text

    from harness.data.catalog import NAMED
    from harness.data.open import prepared_folders
    from harness.data.prepare import describe
    from results.terminal.grids import headed_grid

    prepared = [{**describe(folder), "folder": str(folder)} for folder in prepared_folders(cache_dir)]
    if json:
        print_json({"named": list(NAMED), "prepared": prepared})
        return
    numbers = ("Users", "Items", "Interactions")
    grid = headed_grid("Data set", *numbers, "Prepared in", numbers=numbers, padding=(0, 2, 0, 0), overflow="fold")
    for name in NAMED:
        if not any(found["name"] == name for found in prepared):
            grid.add_row(name, "", "", "", Text("not yet", "dim"))
    for found in prepared:
        label = found["name"] + (" (synthetic)" if found["synthetic"] else "")
        counts = [f"{found[key]:,}" for key in ("users", "items", "interactions")]
        grid.add_row(*map(Text, [label, *counts, found["folder"]]))
    print_view(grid)


@app.command("fetch", epilog="Example: [bold]harness data fetch scientific[/]")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A named data set.")],
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Download a named data set (what is there is not downloaded again), check and prepare it."""
    from harness.data.catalog import NAMED

    if name not in NAMED:
        raise UsageError(f"unknown data set '{name}'; {nearest(name, NAMED)}; a path needs no fetching")
    _prepare(Reading().source(name), cache_dir, json, again=False)


@app.command("prepare", epilog="Example: [bold]harness data prepare ratings.csv.gz --core 5 --short-users drop[/]")
@takes_groups
def prepare(
    *,
    path: NamedOrPath,
    reading: Reading,
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Read, filter and split a data set, even if that was done before."""
    _prepare(reading.source(path), cache_dir, json, again=True)


@app.command("describe", epilog="Example: [bold]harness data describe ../shared/data/scientific2018[/]")
@takes_groups
def describe(
    *,
    name: NamedOrPath,
    reading: Reading,
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Print a data set's format, columns, times, texts, size and traps; it is prepared first if need be."""
    _prepare(reading.source(name), cache_dir, json, again=False)


@app.command("items", epilog="Example: [bold]harness data items ratings.csv > vectors.keys[/]")
@takes_groups
def items(
    *,
    name: NamedOrPath,
    reading: Reading,
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Print the items' keys in the order of their numbers, one a line: the order of vectors without keys."""
    from harness.data.prepare import load_dataset

    keys = load_dataset(opened(reading.source(name), cache_dir)).catalog.keys
    if json:
        print_json(keys)
    else:
        typer.echo("\n".join(keys))


@app.command("export", epilog="Example: [bold]harness data export demo --to etegrec-jsonl --out demo-jsonl[/]")
@takes_groups
def export(
    *,
    name: NamedOrPath,
    to: Annotated[
        str,
        typer.Option(metavar="F", help="amazon2023 (csv), etegrec-jsonl, letter (json), minionerec (csv) or recbole."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    reading: Reading,
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Write a data set and its split in another code base's files; `--split given` reads the same split from them."""
    from harness.cli.progress import working
    from harness.data.export import export as write

    with working(f"writing {out}"):
        files, note = write(reading.source(name), cache_dir, to, out)
    tell_notes([note] if note else [])
    if json:
        print_json({"files": list(map(str, files))})
        return
    for file in files:
        print(file)


def _prepare(source: Source, cache_dir: Path, as_json: bool, *, again: bool) -> None:
    """Prepares the data set and prints what it is."""
    from harness.data.prepare import describe

    folder = opened(source, cache_dir, again=again)
    found = describe(folder)
    tell_notes(found["notes"])
    if as_json:
        print_json({**found, "folder": str(folder)})
        return
    _print_description(found)
    print(f"prepared in {folder}", file=sys.stderr)


def opened(source: Source, cache_dir: Path, *, again: bool = False) -> Path:
    """The folder of the prepared data set, as `open_dataset`; a terminal shows that it is being read."""
    from harness.cli.progress import working
    from harness.data.open import open_dataset

    with working(f"reading {source.name}"):
        return open_dataset(source, cache_dir, again=again)


def tell_columns(folder: Path) -> None:
    """One line on stderr of the columns that were recognised or named, where the format leaves that open."""
    from harness.data.prepare import describe

    source = describe(folder)["source"]
    if source["columns"] and not source["columns"]["is_fixed"]:
        print(f"{source['format']}: {source['told']}", file=sys.stderr)


def tell_notes(notes: list[str]) -> None:
    """What could not be read as it was meant, on stderr."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _print_description(found: dict[str, Any]) -> None:
    """What `describe` says of a prepared data set: where it comes from, its size, and its traps."""
    from rich.console import Console
    from rich.text import Text

    from harness.data.statistics import LABELS, shown
    from harness.data.text.metadata import told_texts
    from harness.data.times import told_times
    from harness.data.traps import TRAPS
    from results.terminal.grids import bare_grid

    console, source = Console(highlight=False), found["source"]
    console.print(Text(found["name"] + (" (synthetic)" if found["synthetic"] else ""), "bold"))
    facts = {"Format": source["format"], "Columns": source["told"], "Times": told_times(source["times"])}
    for label, told in (facts | {"Texts": told_texts(source["texts"])}).items():
        if told:
            console.print(Text.assemble((f"{label:9}", "dim"), told), soft_wrap=True)
    console.print()
    grid = bare_grid()
    grid.add_column(overflow="fold")
    grid.add_column(justify="right", overflow="fold")
    for key, label in LABELS.items():
        if key in found:
            grid.add_row(Text(label, "dim"), Text(shown(key, found[key])))
    console.print(grid)
    console.print(Text("\nWhat can turn a comparison", "bold"))
    for key, share in found["traps"].items():
        label, effect = TRAPS[key]
        told = Text.assemble(f"{shown(key, share):>9}  {label}", (f": {effect}" if share else "", "dim"))
        console.print(told, soft_wrap=True)
