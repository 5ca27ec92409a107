"""`harness audit`: what stored runs would have been reported as under the rules of others."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.machine import Machine
from harness.cli.options import Json, RunsDir, takes_groups
from harness.cli.tables import Choice, DatasetFilter, FormatName, print_table
from harness.errors import StageError, UsageError

if TYPE_CHECKING:
    from harness.experiment.audit import Search
    from harness.experiment.place import Place
    from results.store.selection import Filters, RowRuns

TERMINAL_COLUMNS = 9  # of a table; more stand in a second one below

EXAMPLES = (
    "Examples: [bold]harness audit[/] · [bold]harness audit sasrec tiger letter --metric Recall[/] · "
    "[bold]harness audit --decode 10,50,exact --format csv --out audit.csv[/]"
)


@takes_groups
def audit(
    *,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Methods, as for harness compare (default: those of the table)."),
    ] = None,
    dataset: DatasetFilter = None,
    metric: Annotated[str, typer.Option(help="Recall, NDCG, MRR or a plug-in's.", metavar="M")] = "NDCG",
    k: Annotated[int, typer.Option(min=1, help="Length of the list.")] = 10,
    decode: Annotated[
        str | None,
        typer.Option(
            help="Ask models that generate again: 10,50,100 beams, exact. Kept beside the runs.",
            metavar="LIST",
        ),
    ] = None,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="Train the models again, for the columns of the last epoch and of the best one on the test. Kept "
            "beside the runs.",
        ),
    ] = False,
    format: Annotated[FormatName, typer.Option(help="How to print.")] = "rich",
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout.", metavar="FILE")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the ranks, as harness figure audit does.", metavar="DIR")
    ] = None,
    choice: Choice,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    machine: Machine,
) -> None:
    """Read stored runs by the rules of others: values, inflation, and what becomes of the order of methods."""
    from results.figures.audit import audit_figure
    from results.statistics.audit import audit as audited
    from results.tables.audit import audit_table, column_parts

    searches = searches_of(decode)
    if fit:
        from harness.jobs.local import start_server

        start_server()
    rows = _rows(runs_dir, dataset, runs or [], choice.filters())
    if searches:
        _decode(rows, searches, runs_dir, machine)
    if fit:
        _fit_again(rows, runs_dir, machine)
    found = audited(rows, metric, k)
    table, shown = audit_table(found), "json" if json else format
    for part in column_parts(table, TERMINAL_COLUMNS) if shown == "rich" and out is None else [table]:
        print_table(part, shown, out)
    if figure is not None:
        for path in audit_figure(found).save(figure):
            print(f"wrote {path}", file=sys.stderr)


def searches_of(text: str | None) -> list[Search]:
    """`10,50,exact` as searches; `UsageError` for others than the audit has columns for."""
    from results.statistics.audit import BEAMS, EXACT

    known: dict[str, Search] = {**{str(beams): beams for beams in BEAMS}, EXACT: EXACT}
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise UsageError(f"--decode must hold some of {', '.join(known)}, but got '{word}'")
    return [known[word] for word in words]


def _rows(runs_dir: Path, dataset: str | None, names: list[str], filters: Filters) -> list[RowRuns]:
    """The rows that the names mean, or those of the overall table; of one data set and contract."""
    from results.statistics.comparison import named_rows
    from results.store.find import only_dataset
    from results.store.selection import check_one_population, refuse_mixture, select_runs

    if not names:
        return list(select_runs(runs_dir, dataset or only_dataset(runs_dir), filters, variant="full").rows)
    rows = [row for name in names for row in named_rows(runs_dir, name, filters, dataset=dataset)[0]]
    refuse_mixture(rows)
    check_one_population(rows)
    return sorted(rows, key=lambda row: row.place)


def _decode(rows: list[RowRuns], searches: list[Search], runs_dir: Path, machine: Machine) -> None:
    """Asks the models of the rows that generate again, and tells each one on stderr."""
    import torch

    from harness.experiment.audit import decode_again

    place = _place(rows, runs_dir, machine, "--decode")
    torch.set_num_threads(place.threads)
    for row in rows:
        for run in row.runs if row.record.family == "generative" else ():
            for search in searches:
                cell = f"{row.label}, seed {run.record.seed}, {search}"
                print(f"{cell}: decoding", file=sys.stderr)
                decode_again(run, search, place, partial(_tell_speed, cell))


def _tell_speed(cell: str, users: int, seconds: float) -> None:
    from results.terminal.quantities import duration

    print(f"{cell}: {users:,} users in {duration(seconds)}, {users / seconds:.0f} users/s", file=sys.stderr)


def _fit_again(rows: list[RowRuns], runs_dir: Path, machine: Machine) -> None:
    """Trains the models of the rows again, those that have epochs and were not yet; shown as it goes on."""
    from harness.cli.progress import observed_jobs
    from harness.experiment.audit_fit import audit_jobs, job_key
    from harness.jobs.local import run_jobs
    from results.store.epochs import epochs_path, has_epochs

    idle = [row.label for row in rows if not has_epochs(row.runs[0])]
    if len(idle) == len(rows):
        raise UsageError(f"--fit needs a method that is trained in epochs, but got {', '.join(idle)}; name another one")
    if idle:
        print(f"not trained in epochs, and so left out by --fit: {', '.join(idle)}", file=sys.stderr)
    place = _place(rows, runs_dir, machine, "--fit")
    runs = [run for row in rows if row.label not in idle for run in row.runs if not epochs_path(run).exists()]
    jobs, labels = audit_jobs(runs, place)
    with observed_jobs(labels, len(jobs), frozenset(map(job_key, runs))) as observer:
        ended = run_jobs(
            jobs, processes=place.jobs, threads=place.threads, logs=place.cache / "logs", observer=observer
        )
    failed = [labels[key] for key, outcome in ended.items() if outcome.status != "done"]
    if failed:
        raise StageError(f"every fit must end well, but these did not: {', '.join(failed)}; see the lines above")


def _place(rows: list[RowRuns], runs_dir: Path, machine: Machine, option: str) -> Place:
    """Where the rows' models are asked again; `UsageError` where their data are gone."""
    from harness.experiment.stored import prepared_folder

    record, machine = rows[0].record, machine.checked()
    folder = prepared_folder(record.dataset_fingerprint, machine.cache_dir)
    if folder is None:
        raise UsageError(
            f"{option} needs the prepared data of '{record.dataset}', but {machine.cache_dir} has them no more; give "
            "harness data describe with that cache"
        )
    return machine.place(folder, runs_dir)
