"""Options that several commands share, and where their output goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

MACHINE = "Machine and folders"
FILES = "Reading and filtering a path"
CONTRACT = "How all methods are judged"

DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset", help="A named data set (see harness data list), a file, or a folder.", metavar="NAME|PATH"
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Sizes and schedules: lite or paper (default: paper for the paper's data sets, else lite).",
    ),
]
Recipe = Annotated[
    Literal["default", "paper", "official"],
    typer.Option("--recipe", help="Where the paper and the released code differ: our choice, the paper's, the code's."),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        help="Text encoder of all methods that read text: tfidf-svd, minilm, a model, file:PATH.npy.",
        metavar="ENCODER",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any field: etegrec.mu=3e-4, contract.num_beams=50. Repeatable.", metavar="M.F=V"),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file: a table per method, and one for the contract.", metavar="FILE"),
]
Decoding = Annotated[
    str | None,
    typer.Option(
        "--decoding",
        help="trie: beams over existing items (default); free: over all codes; released: as each authors' code.",
        metavar="HOW",
        rich_help_panel=CONTRACT,
    ),
]
Beams = Annotated[int | None, typer.Option("--beams", help="Beam width (default 20).", rich_help_panel=CONTRACT)]
TopK = Annotated[
    int | None, typer.Option("--top-k", help="Length of the ranked lists (default 10).", rich_help_panel=CONTRACT)
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Processes side by side (default: cores / threads); changes no number.",
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of each process.", rich_help_panel=MACHINE)]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option("--device", help="Where to compute.", rich_help_panel=MACHINE),
]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option("--precision", help="Of the forward passes.", rich_help_panel=MACHINE)
]

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

Split = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="NAME",
        help="leave-one-out, or unseen-users: nothing is learnt of the 5 % of users with the fewest interactions.",
    ),
]


def print_json(content: Any) -> None:
    """`content` as the only thing on stdout."""
    typer.echo(json.dumps(content, indent=1, default=str))
