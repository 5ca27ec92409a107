"""Options that several commands share, and where their output goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

MACHINE = "Machine and folders"
FILES = "Reading and filtering a path"

RunsDir = Annotated[
    Path,
    typer.Option(
        "--runs-dir", envvar="HARNESS_RUNS_DIR", metavar="DIR", help="Where results lie.", rich_help_panel=MACHINE
    ),
]
CacheDir = Annotated[
    Path,
    typer.Option(
        "--cache-dir",
        envvar="HARNESS_CACHE_DIR",
        metavar="DIR",
        help="Where prepared data and stages lie.",
        rich_help_panel=MACHINE,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

RUNS = Path("runs")
CACHE = Path("cache")

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="F",
        help="amazon2023, recbole, s3rec, etegrec-jsonl, csv or parquet (default: recognised from the content).",
        rich_help_panel=FILES,
    ),
]
Metadata = Annotated[
    Path | None,
    typer.Option(
        "--metadata", metavar="FILE", help="The items' texts (default: found beside the file).", rich_help_panel=FILES
    ),
]
UserColumn = Annotated[
    str | None,
    typer.Option("--user-col", metavar="C", help="Column of users in a csv or parquet file.", rich_help_panel=FILES),
]
ItemColumn = Annotated[
    str | None, typer.Option("--item-col", metavar="C", help="Column of items.", rich_help_panel=FILES)
]
TimeColumn = Annotated[
    str | None,
    typer.Option(
        "--time-col",
        metavar="C",
        help="Column of times (without it, row order is time).",
        rich_help_panel=FILES,
    ),
]
Core = Annotated[
    int | None,
    typer.Option("--core", min=0, help="k of the k-core filter (default 0: no filter).", rich_help_panel=FILES),
]
Repeats = Annotated[
    str | None,
    typer.Option(
        "--repeats", metavar="keep|drop", help="A user's repeats of an item (default keep).", rich_help_panel=FILES
    ),
]
ShortUsers = Annotated[
    str | None,
    typer.Option(
        "--short-users",
        metavar="error|drop",
        help="Users with fewer than 3 interactions (default error).",
        rich_help_panel=FILES,
    ),
]

Protocol = Annotated[
    Literal["leave-one-out", "unseen-users"],
    typer.Option(
        "--protocol", help="unseen-users: nothing is learnt of the 5 % of users with the fewest interactions."
    ),
]


def print_json(content: Any) -> None:
    """`content` as the only thing on stdout."""
    typer.echo(json.dumps(content, indent=1, default=str))
