"""`harness sweep ls`, `show`, `best`, `finish`, `dashboard`: what can be done with stored studies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, values
from harness.cli.data import opened
from harness.cli.machine import Machine
from harness.cli.options import Json, RunsDir, Studies, print_json, takes_groups
from harness.errors import UsageError

if TYPE_CHECKING:
    from sweeps.storage import StudyStorage
    from sweeps.summaries import StudySummary

app = typer.Typer(rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]})

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name, or a unique beginning of it.")]


def show_ended(names: Sequence[str], storage: StudyStorage, *, as_json: bool) -> int:
    """Prints the studies of a search; the exit code: 1 if none has a complete trial."""
    from rich.console import Console

    from harness.cli.sweep_tables import described, studies_table
    from sweeps.summaries import load_named

    found = [load_named(name, storage) for name in names]
    if as_json:
        print_json({"studies": [described(study) for study in found]})
    else:
        console = Console(highlight=False)
        console.print(studies_table(found, console.width))
        for study in found:
            print(f"harness sweep show {study.name}", file=sys.stderr)
    return int(all(study.best is None for study in found))


@app.command("ls", epilog="Example: [bold]harness sweep ls --json[/]")
@takes_groups
def ls(*, where: Studies, json: Json = False) -> None:
    """List the studies."""
    from rich.console import Console

    from harness.cli.sweep_tables import described, studies_table
    from sweeps.summaries import load_studies

    found = load_studies(where.opened())
    if json:
        print_json([described(study) for study in found])
    elif found:
        console = Console(highlight=False)
        console.print(studies_table(found, console.width))
    else:
        print(f"no study in {where.storage or where.studies_dir}; make one with: harness sweep", file=sys.stderr)


@app.command("show", epilog="Example: [bold]harness sweep show etegrec-demo[/]")
@takes_groups
def show(*, study: StudyName, where: Studies, json: Json = False) -> None:
    """Print a study: its trials, what the searched fields matter, and what it cost."""
    from rich.console import Console

    from harness.cli.sweep_tables import described, study_panel
    from sweeps.summaries import importances, load_named, trials_frame

    found = load_named(study, where.opened())
    if json:
        print_json(
            {
                **described(found),
                "sweep": found.sweep.model_dump(mode="json"),
                "trials": trials_frame(found).to_dicts(),
                "importances": importances(found),
            }
        )
    else:
        console = Console(highlight=False)
        console.print(study_panel(found, console.width))


@app.command("best", epilog="Example: [bold]harness sweep best etegrec-demo --toml best.toml[/]")
@takes_groups
def best(
    *,
    study: StudyName,
    toml: Annotated[
        Path | None, typer.Option("--toml", metavar="FILE", help="Write it for harness run --config FILE.")
    ] = None,
    where: Studies,
    json: Json = False,
) -> None:
    """Print the best trial's fields, as the TOML that harness run --config takes."""
    from harness.cli.sweep_tables import described
    from sweeps.best import best_toml

    found = load_with_best(study, where.opened())
    content = best_toml(found)
    if toml is not None:
        toml.write_text(content, encoding="utf-8")
        print(f"wrote {toml}", file=sys.stderr)
    if json:
        print_json({**described(found), "toml": content})
    elif toml is None:
        typer.echo(content, nl=False)


def load_with_best(study: str, storage: StudyStorage) -> StudySummary:
    """The named study; `UsageError` where none of its trials is complete."""
    from sweeps.summaries import load_named

    found = load_named(study, storage)
    if found.best is None:
        raise UsageError(f"a best trial needs a complete one, but study '{found.name}' has none; give it more --trials")
    return found


@app.command("finish", epilog="Example: [bold]harness sweep finish etegrec-demo --seeds 3[/]")
@takes_groups
def finish(
    *,
    study: StudyName,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="3 means 0,1,2; with commas the seeds themselves (default: the study's seed).", metavar="LIST"
        ),
    ] = None,
    machine: Machine,
    runs_dir: RunsDir = options.RUNS,
    where: Studies,
    json: Json = False,
) -> int:
    """Run the best trial's config like harness run, test split included; its rows say how many trials preceded them."""
    from harness.cli import progress, summary
    from harness.data.prepare import load_dataset
    from results.store.runs import raise_trials
    from sweeps.best import best_plan

    found = load_with_best(study, where.opened())
    machine, source = machine.checked(), found.sweep.data_source()
    folder = opened(source, machine.cache_dir)
    data = load_dataset(folder)
    plan = best_plan(found, data, [found.sweep.seed] if seeds is None else values.seeds_of(seeds), machine.device)
    place = machine.place(folder, runs_dir)
    results = progress.observed_results(plan, place)
    for result in results:
        if result.outcome.status == "done":
            raise_trials(result.folder, found.ended)
    code = summary.show([summary.Done(data, results, place)], as_json=json)
    assert found.best is not None
    print(
        f"\nThe best of {found.ended} trials: number {found.best.number}, validation NDCG@10 {found.best.value:.4f}.",
        file=sys.stderr if json else sys.stdout,
    )
    return code


@app.command("dashboard", epilog="Example: [bold]harness sweep dashboard etegrec-demo[/]")
@takes_groups
def dashboard(
    *,
    study: StudyName,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine's loopback address.")] = 8080,
    json: Json = False,
    where: Studies,
) -> None:
    """Serve optuna-dashboard for a study, to this machine alone."""
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UsageError(
            "the dashboard needs optuna-dashboard, which is not installed; pip install 'etegrec-harness[dashboard]'"
        ) from None
    from sweeps.summaries import load_named

    storage = where.opened()
    found = load_named(study, storage)
    if json:
        print_json({"url": f"http://127.0.0.1:{port}/", "study": found.name})
        sys.stdout.flush()  # it is needed while the server runs
    print(f"http://127.0.0.1:{port}/ shows {found.name}; Ctrl-C ends it", file=sys.stderr)
    run_server(storage.open(found.name), host="127.0.0.1", port=port)
