"""`harness score` and `export`: ranked lists into our tables, and out of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.options import CacheDir, DatasetName, Json, Reading, RunsDir, print_json, takes_groups
from harness.cli.tables import check_folder_of, run_folder_named
from harness.cli.values import LARGEST_SEED, names_of

SCORE_EXAMPLES = (
    'Examples: [bold]harness score lists.csv --dataset beauty.csv --name "My model"[/] · '
    '[bold]harness score run.trec --dataset demo --name "My model" --seed 1 --allow short-lists[/]'
)
EXPORT_EXAMPLES = "Examples: [bold]harness export sasrec[/] · [bold]harness export sasrec/full --out lists.parquet[/]"


@takes_groups
def score(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Ranked lists: .csv, .tsv, .parquet, .jsonl or a TREC .run; user, item, rank or score."
        ),
    ],
    dataset: DatasetName,
    name: Annotated[str, typer.Option(help="What the tables call the model.", metavar="NAME")],
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Files of several seeds make one row.")] = 0,
    allow: Annotated[
        str | None,
        typer.Option(help="Faults to let pass: missing-users, unknown-users, unknown-items, short-lists, all."),
    ] = None,
    contract: Annotated[
        str | None, typer.Option(help="Of a stored run's digest its beginning, or rules of others by name.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Length of the lists (default: as the data's runs).")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="The row that another file of this name made.")] = False,
    reading: Reading,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Judge another program's ranked lists like our own methods': check them, store a row, print the leaderboard."""
    from rich.console import Console

    from harness.data.open import open_dataset
    from harness.data.prepare import load_dataset
    from harness.evaluation.given_lists import ALLOWED
    from harness.experiment.score import Given, contract_for, score_lists
    from results.store.selection import Filters
    from results.tables.console import RichTable
    from results.tables.performance import overall_table

    allowed = names_of(allow, ALLOWED, "fault", {"all": ALLOWED}) if allow else []
    prepared = open_dataset(reading.source(dataset), cache_dir)
    data = load_dataset(prepared)
    rules = contract_for(runs_dir, data, contract, top_k)
    given = Given(file, name, seed, tuple(allowed), replace)
    made = score_lists(given, prepared, runs_dir, rules)
    for note in made.notes:
        print(note, file=sys.stderr)
    if not made.is_new:
        print(f"'{name}', seed {seed}, was made from this file before", file=sys.stderr)
    if json:
        metrics = {f"{row['metric']}@{row['k']}": row["value"] for row in made.run.metrics().iter_rows(named=True)}
        print_json({"folder": str(made.run.folder), "new": made.is_new, **asdict(made.run.record), "metrics": metrics})
        return
    filters = Filters(contract=made.run.record.contract_digest)
    Console().print(RichTable(overall_table(runs_dir, f"{data.name}-{data.fingerprint}", filters)))


def export(
    run: Annotated[str, typer.Argument(help="A run's folder, or a part of its path that is unique: sasrec, a digest.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .csv, .tsv, .parquet, .jsonl, a TREC .run (default: METHOD-VARIANT-seedN.csv).",
            metavar="FILE",
        ),
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Write a run's ranked lists, users and items by their raw keys, as harness score and other programs read them."""
    from harness.evaluation.list_files import form_of, write_lists
    from harness.experiment.score import lists_of
    from results.store.runs import read_run

    found = read_run(run_folder_named(run, runs_dir))
    record = found.record
    out = out or Path(f"{record.method}-{record.variant}-seed{record.seed}.csv")
    form_of(out)
    check_folder_of(out)
    lists = lists_of(found, cache_dir)
    write_lists(lists, out, record.title)
    users = lists["user"].n_unique()
    if json:
        print_json({"path": str(out), "users": users, "rows": len(lists)})
    else:
        print(f"wrote {out}: {len(lists):,} places of {users:,} users", file=sys.stderr)
