"""`harness codes`: item codes in files, this project's and others'."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options, values
from harness.cli.data import opened
from harness.cli.machine import Execution, Machine
from harness.cli.options import CacheDir, Json, Judging, Reading, RunsDir, print_json, print_view, takes_groups

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.experiment.plan import Plan
    from harness.experiment.run import CellResult
    from results.store.selection import RowRuns

app = typer.Typer(
    help="Describe, compare, evaluate, convert and reassign item codes: index.json, npy, parquet, a run's "
    "codes.safetensors.",
    epilog="Example: [bold]harness codes describe Scientific.index.json --dataset ../shared/data/scientific5core[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of codes.")]
OfDataset = Annotated[str, typer.Option("--dataset", help="Whose items the codes are for: a named data set or a path.")]


@app.command("describe")
@takes_groups
def describe(
    *, files: Files, dataset: OfDataset, reading: Reading, json: Json = False, cache_dir: CacheDir = options.CACHE
) -> None:
    """Print use, perplexity, collisions and neighbourhood of codes, a column for each file."""
    from harness.generative.tokenizer.code_facts import code_facts
    from harness.generative.tokenizer.code_files import read_codes

    data = _opened(dataset, reading, cache_dir)
    found = [code_facts(read_codes(path, data.catalog.keys), data) for path in files]
    if json:
        print_json([{"file": str(path), **facts} for path, facts in zip(files, found, strict=True)])
        return
    labels = {
        "items": "Items",
        "levels": "Levels",
        "sizes": "Codes of each level",
        "used_codes": "Codes in use",
        "perplexity": "Perplexity",
        "collision_rate": "Items beyond the first of their tuple",
        "colliding_items": "Items that share their tuple",
        "largest_group": "Most items in one tuple",
        "followers": "Neighbours with the same first code, times chance",
    }
    _print_grid(files, [[label, *(_shown(facts[name]) for facts in found)] for name, label in labels.items()])


@app.command("compare")
@takes_groups
def compare(
    *, files: Files, dataset: OfDataset, reading: Reading, json: Json = False, cache_dir: CacheDir = options.CACHE
) -> None:
    """Print how like two and two files are: equal tuples, and how much the prefixes' groups say of each other."""
    from harness.errors import UsageError
    from harness.generative.tokenizer.code_facts import agreements
    from harness.generative.tokenizer.code_files import read_codes

    if len(files) < 2:
        raise UsageError("harness codes compare needs two files or more, but got one; name another")
    data = _opened(dataset, reading, cache_dir)
    found = agreements([read_codes(path, data.catalog.keys) for path in files])
    if json:
        names = [str(path) for path in files]
        print_json([{**row, "first": names[row["first"]], "second": names[row["second"]]} for row in found])
        return
    headings = [f"{files[row['first']].name} / {files[row['second']].name}" for row in found]
    same = ["Items with the same tuple", *(f"{row['same_tuples']:.4f}" for row in found)]
    levels = ["Agreement of prefixes, level by level", *(_shown(row["level_agreement"]) for row in found)]
    _print_grid(headings, [same, levels])


@app.command("export")
@takes_groups
def export(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of codes, or a run's codes.safetensors.")],
    out: Annotated[Path, typer.Option(help="Where to write: .index.json, .npy or .parquet, each also with .gz.")],
    dataset: OfDataset,
    reading: Reading,
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Write codes in the form of another project."""
    from harness.generative.tokenizer.code_files import read_codes, write_codes

    keys = _opened(dataset, reading, cache_dir).catalog.keys
    write_codes(read_codes(file, keys), keys, out)
    if json:
        print_json({"path": str(out), "items": len(keys)})
    else:
        print(f"wrote {out}", file=sys.stderr)


@app.command("reassign")
@takes_groups
def reassign(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of codes, or a run's codes.safetensors.")],
    out: Annotated[Path, typer.Option(help="Where to write: .index.json, .npy or .parquet, each also with .gz.")],
    dataset: OfDataset,
    last_codes: Annotated[
        int | None, typer.Option(min=1, help="Codes of the last level (default: those of the largest level).")
    ] = None,
    reading: Reading,
    json: Json = False,
    cache_dir: CacheDir = options.CACHE,
) -> None:
    """Give items that share a tuple other last codes, as few as possible; a file tells no distances, so ids decide."""
    from harness.generative.tokenizer.code_files import read_codes, with_unique_tuples, write_codes

    keys = _opened(dataset, reading, cache_dir).catalog.keys
    table, found = with_unique_tuples(read_codes(file, keys), last_codes)
    write_codes(table, keys, out)
    if json:
        print_json({"items": len(keys), "moved": found.moved, "left": found.left, "out": str(out)})
        return
    print(f"moved {found.moved:,} of {len(keys):,} items; {found.left:,} stay in groups too large for the last level")
    print(f"wrote {out}", file=sys.stderr)


@app.command("evaluate", epilog="Example: [bold]harness codes evaluate indexes/*.json.gz --dataset DIR[/]")
@takes_groups
def evaluate(
    *,
    files: Files,
    dataset: OfDataset,
    method: Annotated[str, typer.Option(help="A method with a field `codes`.")] = "tiger",
    seeds: Annotated[str, typer.Option(help="As for harness run.", metavar="LIST")] = "0",
    reading: Reading,
    machine: Machine,
    judging: Judging,
    execution: Execution,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .txt, .md, .tex, .csv, .json, .html.", metavar="FILE")
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
) -> int:
    """Train a generator on the codes of each file; print its metrics by item and by tuple side by side.

    Each file gives an ordinary row, which harness table shows with --configs all. What is done is not done again.
    """
    from harness.jobs.local import start_server

    start_server()
    from harness.cli import progress, summary
    from harness.cli.tables import format_of, print_table
    from harness.data.prepare import load_dataset
    from harness.experiment.plan import joined
    from results.tables.codes import codes_table
    from results.tables.performance import PAPER_COLUMNS

    form = "json" if json else format_of(None, out)  # a wrong file is told before anything is trained
    machine, run_jobs = execution.checked(machine, 1)
    source = reading.source(dataset)
    folder = opened(source, machine.cache_dir)
    plans = _plans(files, load_dataset(folder), method, values.seeds_of(seeds), judging, source.preset, machine.device)
    plan, place = joined(plans), machine.place(folder, runs_dir)
    results = progress.observed_results(plan, place, run_jobs, waits=execution.busy == "wait")
    if failed := [result for result in results if result.outcome.status != "done"]:
        summary.tell_failed([("", result) for result in failed], len(results))
        return 1
    of_fit = {result.cell.fit.key: result for result in results}
    rows = [[of_fit[cell.fit.key] for cell in one.cells] for one in plans]
    longest = plan.cells[0].settings.contract.top_k
    columns = list(dict.fromkeys((metric, min(k, longest)) for metric, k in PAPER_COLUMNS))
    table = codes_table([(label, _row_of(row)) for label, row in zip(_labels(files), rows, strict=True)], columns)
    print_table(table, form, out)
    return 0


def _plans(
    files: Sequence[Path], data: Dataset, method: str, seeds: Sequence[int], judging: Judging, preset: str, device: str
) -> list[Plan]:
    """For each file the method's cells on its codes, one for each seed."""
    from dataclasses import replace

    from harness.experiment.plan import make_plan
    from harness.experiment.settings import overlaid

    settings = judging.settings(preset, device)
    made = []
    with judging.telling_lines():
        for path in files:
            tables = overlaid(settings.tables, {method: {"codes": f"file:{path}"}})
            own = replace(settings, tables=tables)
            made.append(make_plan(data, method_names=[method], ablation_names=[], seeds=seeds, settings=own))
    return made


def _row_of(results: Sequence[CellResult]) -> RowRuns:
    from results.store.runs import read_run
    from results.store.selection import RowRuns

    return RowRuns(tuple(read_run(result.folder) for result in results))


def _labels(files: Sequence[Path]) -> list[str]:
    """The files' names, or their paths where two have one name."""
    names = [path.name for path in files]
    return [path.name if names.count(path.name) == 1 else str(path) for path in files]


def _opened(dataset: str, reading: Reading, cache_dir: Path) -> Dataset:
    from harness.data.prepare import load_dataset

    return load_dataset(opened(reading.source(dataset), cache_dir))


def _shown(value: Any) -> str:
    """A number, or those of all levels."""
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _print_grid(headings: list[Any], rows: list[list[str]]) -> None:
    from rich.text import Text

    from results.terminal.grids import headed_grid

    grid = headed_grid("", padding=(0, 2, 0, 0))
    for heading in headings:
        grid.add_column(Text(heading.name if isinstance(heading, Path) else heading), justify="right", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    print_view(grid)
