"""`harness bench`: speed and memory, beside transformers' T5 and beside what was aimed at."""

from __future__ import annotations

import sys
from importlib import util
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.data import source_of
from harness.cli.options import CacheDir, Json, print_json

if TYPE_CHECKING:
    from harness.bench.measure import Row
    from harness.bench.workload import Setup

EXAMPLES = "Examples: [bold]harness bench --dataset ../shared/data/instruments2018[/] · [bold]harness bench --quick[/]"


def bench(
    dataset: Annotated[str, typer.Option(help="A named data set, a file, or a folder.", metavar="NAME|PATH")] = "demo",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of ours and of the peer (default: cores).", rich_help_panel=options.MACHINE),
    ] = None,
    peer_batch: Annotated[
        int | None,
        typer.Option(
            "--peer-batch",
            min=1,
            help="Split the peer's batch of 512 into pieces of so many samples; 512: whole, over 24 GB.",
        ),
    ] = 32,
    full: Annotated[bool, typer.Option("--full", help="Serve all users in the evaluation, not a sample.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: only shows that the benchmark runs.")] = False,
    cache_dir: CacheDir = options.CACHE,
    json: Json = False,
) -> None:
    """Measure speed and memory at the paper's sizes, in turns with transformers' T5 (the extra bench)."""
    from harness.bench.measure import measure
    from harness.bench.workload import QUICK, Setup, Sizes
    from harness.cli import progress
    from harness.cli.settings import cores
    from harness.data.open import open_dataset
    from harness.data.prepare import load_dataset

    source = source_of(
        dataset, format=None, metadata=None, columns=(None, None, None), core=None, repeats=None, short_users=None
    )
    with_peer = util.find_spec("transformers") is not None
    if not with_peer:
        print(
            "note: the peer is left out, for transformers is not installed; pip install 'etegrec-harness[bench]'",
            file=sys.stderr,
        )
    with progress.working(f"reading {dataset}"):
        folder = open_dataset(source, cache_dir)
    setup = Setup(
        folder,
        threads=threads or cores(),
        sizes=QUICK if quick else Sizes(),
        peer_batch=peer_batch,
        all_users=full,
        with_peer=with_peer,
    )
    with progress.told() as report:
        rows = measure(setup, report)
    name = load_dataset(folder).name
    if json:
        print_json(_content(name, setup, rows))
    else:
        _print(name, setup, rows)


def notes(setup: Setup) -> list[str]:
    """What a reader must know to judge the numbers."""
    told = ["random weights, codes and vectors; ratio: how many times better ours is"]
    if setup.with_peer:
        told += [
            "the peer is transformers' T5 with the same weights, optimiser, random batches (padded to their longest "
            "member), threads and allocator settings; it is trained by cross-entropy alone and generates without a "
            "trie, and so does less than ours",
        ]
    if setup.with_peer and setup.peer_batch:
        told += [
            f"the peer's batch is split into pieces of {setup.peer_batch}, each padded to its own longest member, "
            "whose gradients are added up"
        ]
    return told if setup.has_aims else [*told, "small sizes: these numbers mean nothing"]


def _content(name: str, setup: Setup, rows: list[Row]) -> dict[str, object]:
    from harness.provenance import environment

    return {
        "dataset": name,
        "threads": setup.threads,
        "peer_batch": setup.peer_batch,
        "rows": [{**row._asdict(), "ratio": row.ratio, "reached": row.reached} for row in rows],
        "notes": notes(setup),
        "environment": environment(),
    }


def _print(name: str, setup: Setup, rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = ["ours", *(["transformers", "ratio"] if setup.with_peer else []), *(["aim"] if setup.has_aims else [])]
    grid = Table(title=f"Speed on {name}, {setup.threads} threads", title_justify="left")
    grid.add_column("what")
    for column in columns:
        grid.add_column(column, justify="right")
    if setup.has_aims:
        grid.add_column("reached")
    marks = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("")}
    for row in rows:
        cells = {"ours": _number(row.ours), "transformers": _number(row.peer), "ratio": _ratio(row), "aim": _aim(row)}
        mark = [marks[row.reached]] if setup.has_aims else []
        grid.add_row(f"{row.what}, {row.unit}", *(cells[column] for column in columns), *mark)
    console = Console(highlight=False)
    console.print(grid)
    for note in notes(setup):
        console.print(Text(note, "dim"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f} ×"


def _aim(row: Row) -> str:
    if row.aim is None:
        return ""
    sign = "<" if row.lower_is_better else "≥"
    return f"{sign} {row.aim:,.0f}" + (f", ≥ {row.aim_ratio:.0f} ×" if row.aim_ratio else "")
