"""`harness bench`: speed and memory, beside transformers' T5 and beside what was aimed at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import util
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import measurements, options, scale
from harness.cli.data import opened
from harness.cli.options import CacheDir, Json, Reading, print_json
from harness.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.text import Text

    from harness.bench.rows import Row, Spread
    from harness.bench.workload import Setup

EXAMPLES = (
    "Examples: [bold]harness bench --dataset ../shared/data/instruments2018[/] · "
    "[bold]harness bench --rows gru4rec,hgn[/] · [bold]harness bench --quick[/] · [bold]harness bench scale --quick[/]"
)

SMALL = "small sizes: these numbers mean nothing"

app = typer.Typer(rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]})
app.command("scale", epilog=scale.EXAMPLES)(scale.scale)

RecBolePython = Annotated[
    str | None,
    options.machine_option(
        "--recbole-python",
        envvar="HARNESS_RECBOLE_PYTHON",
        metavar="PATH",
        help="A Python that has RecBole (default: this one, if it has).",
    ),
]


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="A named data set, a file, or a folder.", metavar="NAME|PATH")] = "demo",
    threads: measurements.Threads = None,
    peer_batch: Annotated[
        int | None,
        typer.Option(
            "--peer-batch",
            min=1,
            help="Split the peer's batch of 512 into pieces of so many samples; 512: whole, over 24 GB.",
        ),
    ] = 32,
    recbole_python: RecBolePython = None,
    device: Annotated[
        Literal["cpu", "cuda"], options.machine_option(help="Of ours and of T5; RecBole is measured on a CPU alone.")
    ] = "cpu",
    precision: Annotated[
        Literal["fp32", "bf16"], options.machine_option(help="Of the forward passes, of ours and of T5.")
    ] = "fp32",
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Rounds in which ours and the peers take turns.")
    ] = 5,
    full: Annotated[bool, typer.Option("--full", help="Serve all users in the evaluation, not a sample.")] = False,
    rows: Annotated[
        str,
        typer.Option(
            help="What is measured, with commas: core (ETEGRec and its parts, SASRec, memory), or methods beside peers "
            "of their own; all: everything.",
            metavar="NAMES",
        ),
    ] = "all",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: only shows that the benchmark runs.")] = False,
    cache_dir: CacheDir = options.CACHE,
    json: Json = False,
) -> None:
    """Measure speed and memory at the paper's sizes, in turns with transformers' T5 (the extra bench) and RecBole."""
    if context.invoked_subcommand is not None:
        return
    from harness.bench.measure import measure
    from harness.bench.recbole_peer import recbole_python as checked_python
    from harness.bench.workload import CORE, QUICK, Setup, Sizes
    from harness.cli import progress
    from harness.cli.machine import cores, device_named
    from harness.data.prepare import load_dataset

    source, chosen = Reading().source(dataset), _rows(rows)
    device_named(device)
    with_peer = CORE in chosen and _has_transformers()
    python = checked_python(recbole_python) if device == "cpu" else None
    folder = opened(source, cache_dir)
    setup = Setup(
        folder,
        threads=threads or cores(),
        sizes=QUICK if quick else Sizes(),
        peer_batch=peer_batch,
        all_users=full,
        with_peer=with_peer,
        recbole_python=python,
        repeats=repeats,
        device=device,
        precision=precision,
        rows=chosen,
    )
    with progress.told() as report:
        found = measure(setup, report)
    name = load_dataset(folder).name
    if json:
        print_json(_content(name, setup, found))
    else:
        _print(name, setup, found)


def _rows(names: str) -> tuple[str, ...]:
    """The rows that are named; `UsageError` for an unknown name."""
    from harness.bench.workload import ALL_ROWS

    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in (*ALL_ROWS, "all"):
            raise UsageError(f"--rows names '{name}', which is not measured; {nearest(name, (*ALL_ROWS, 'all'))}")
    if not chosen:
        raise UsageError("--rows must name a row at least, but got none; leave it out to measure all")
    return ALL_ROWS if "all" in chosen else tuple(dict.fromkeys(chosen))


def _has_transformers() -> bool:
    """Whether the peer T5 can run; a note says so if not."""
    found = util.find_spec("transformers") is not None
    if not found:
        print(
            "note: the peer T5 is left out, for transformers is not installed; pip install 'etegrec-harness[bench]'",
            file=sys.stderr,
        )
    return found


def notes(setup: Setup) -> list[str]:
    """What a reader must know to judge the numbers."""
    from harness.bench.workload import CORE, Sizes

    told = [
        f"random weights, codes and vectors; medians of {setup.repeats} rounds or more, in which ours and the peers "
        "take turns, with the least and the most; ratio: how many times better our median is"
    ]
    if setup.with_peer:
        pieces = f"pieces of {setup.peer_batch}" if setup.peer_batch else "one piece"
        told += [
            "T5 is transformers', with the same weights, optimiser, samples, threads and allocator settings; it is "
            "trained by cross-entropy alone and generates without a trie, and so does less than ours",
            f"T5 in random batches: {pieces}, each padded to its longest member, whose gradients are added up; by "
            "length: the same samples sorted, in pieces of like length; generate: batches of 16 users",
        ]
    if setup.recbole_python and CORE in setup.rows:
        told += [
            "RecBole's SASRec has the same weights, loss (checked on each run) and optimiser, and batches made "
            "beforehand, padded as its loader pads them; its loader and its metrics take no part"
        ]
    told += _model_notes(setup)
    return told if setup.sizes == Sizes() else [*told, SMALL]


def _model_notes(setup: Setup) -> Iterator[str]:
    if {"gru4rec", "fdsa", "bert4rec", "s3-rec", "caser", "hgn"} & set(setup.rows):
        yield (
            "GRU4Rec, FDSA, BERT4Rec, S3-Rec, Caser and HGN stand beside RecBole's models of the same name: same "
            "widths, batch and longest history, its own loader and loss; both sides make their batches within the "
            "time; a sample is a predicted target: a next item, or in BERT4Rec and S3-Rec's pre-training a masked "
            "item; lists have 50 places; item features are drawn"
        )
    if {"hstu", "esasrec"} & set(setup.rows):
        yield (
            "operations: those of the matrix products of one training step, as torch counts them; the aim is SASRec's "
            "rate divided by their ratio"
        )


def _content(name: str, setup: Setup, rows: list[Row]) -> dict[str, object]:
    from harness.provenance import environment, gpu

    return {
        "dataset": name,
        "threads": setup.threads,
        "repeats": setup.repeats,
        "peer_batch": setup.peer_batch,
        "rows": [_row_content(row) for row in rows],
        "notes": notes(setup),
        "device": setup.device,
        "precision": setup.precision,
        "environment": environment() | gpu(setup.device),
    }


def _row_content(row: Row) -> dict[str, object]:
    peers = [
        {
            "name": rival.name,
            **({"missing": rival.missing} if rival.spread is None else _spread_content(rival.spread)),
            "ratio": row.ratio(rival),
        }
        for rival in row.rivals
    ]
    aims = {"aim": row.aim, "aim_ratio": row.aim_ratio, "reached": row.reached}
    return {"what": row.what, "unit": row.unit, "ours": _spread_content(row.ours), "peers": peers, **aims}


def _spread_content(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "min": spread.least, "max": spread.most}


def _print(name: str, setup: Setup, rows: list[Row]) -> None:
    from harness.provenance import gpu

    columns = ["median", "min to max", "ratio", *(["aim", "reached"] if setup.has_aims else [])]
    where = f"{setup.threads} threads" if setup.device == "cpu" else next(iter(gpu(setup.device).values()))
    grid = measurements.table(f"Speed on {name}, {where}, {setup.precision}", columns)
    for row in rows:
        judged: list[str | Text] = [_aim(row), measurements.mark(row.reached)] if setup.has_aims else []
        grid.add_row(f"{row.what}, {row.unit}", _number(row.ours.median), _range(row.ours), "", *judged)
        for place, rival in enumerate(row.rivals):
            aim = [_ratio(row.aim_ratio, "≥ ") if place == 0 else ""] if setup.has_aims else []
            name, cells = rival.missing, ("", "", "")
            if rival.spread is not None:
                name = rival.name
                cells = (_number(rival.spread.median), _range(rival.spread), _ratio(row.ratio(rival)))
            grid.add_row(f"  {name}", *cells, *aim, style="dim")
    measurements.show([grid], notes(setup))


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _range(spread: Spread) -> str:
    return "" if spread.least == spread.most else f"{_number(spread.least)} to {_number(spread.most)}"


def _ratio(ratio: float | None, sign: str = "") -> str:
    return "" if ratio is None else f"{sign}{ratio:.3g} ×"


def _aim(row: Row) -> str:
    return "" if row.aim is None else f"{'≤' if row.lower_is_better else '≥'} {row.aim:,.0f}"
