"""`harness sweep`: hyper-parameter search on validation scores."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import options, studies, values
from harness.cli.data import opened, tell_columns
from harness.cli.machine import Machine
from harness.cli.options import DatasetName, Json, Judging, Reading, Studies, takes_groups
from harness.errors import FieldError, UsageError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.experiment.place import Place
    from harness.experiment.plan import Cell, Settings
    from sweeps.spaces import Space
    from sweeps.storage import StudyStorage
    from sweeps.study import Sweep

EXAMPLES = (
    "Examples: [bold]harness sweep --trials 50[/] · [bold]harness sweep --method all --trials 20 --jobs 2[/] · "
    "[bold]harness sweep --grid mu[/] · [bold]harness sweep finish etegrec-demo[/]"
)
TRIALS = 20

app = studies.app


@app.callback(invoke_without_command=True)
@takes_groups
def sweep(
    *,
    context: typer.Context,
    method: Annotated[
        str, typer.Option(help="A method, several with commas between, or a group: a study each.", metavar="NAME")
    ] = options.METHOD,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help=f"Trials of each study (default {TRIALS}; all points of a --grid). More extend it."),
    ] = None,
    dataset: DatasetName = "demo",
    reading: Reading,
    seed: Annotated[int, typer.Option(min=0, max=values.LARGEST_SEED, help="Of the search and of every fit.")] = 0,
    space: Annotated[
        Path | None,
        options.search_option(
            help="TOML file, a table per method: field = \\[values], {low=, high=, log=true} or {low=, high=, step=} "
            "(default: the methods' published grids).",
            metavar="FILE",
        ),
    ] = None,
    log_uniform: Annotated[
        bool, typer.Option("--log-uniform", help="Ranges from least to greatest value of each list of floats.")
    ] = False,
    grid: Annotated[
        str | None,
        typer.Option(help="One field alone, every value of it: mu or lambda for the paper's curves.", metavar="FIELD"),
    ] = None,
    sampler: Annotated[Literal["tpe", "random", "grid"], options.search_option(help="How values are picked.")] = "tpe",
    pruner: Annotated[
        Literal["median", "hyperband", "none"], options.search_option(help="When a trial is given up early.")
    ] = "median",
    study: Annotated[
        str | None, options.search_option(help="The study's name (default: made of what decides its numbers).")
    ] = None,
    machine: Machine,
    judging: Judging,
    where: Studies,
    heartbeat: Annotated[
        int,
        options.machine_option(
            min=1,
            metavar="SECONDS",
            help="Between signs of life in a database; after two without, a trial is taken over.",
        ),
    ] = 60,
    json: Json = False,
) -> int:
    """Search hyper-parameters by validation NDCG@10, with Optuna. The test split is never read.

    The same command on any machine that reaches the study works on it too; given again, it goes on where it stopped.
    """
    if context.invoked_subcommand is not None:
        return 0
    from harness.data.prepare import load_dataset
    from harness.experiment.plan import check_limits
    from sweeps.study import Sweep

    source = reading.source(dataset)
    machine = machine.checked()
    settings = judging.settings(source.preset, machine.device)
    spaces = spaces_of(method, space, grid)
    storage = where.opened(heartbeat)
    if study is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", study):
        raise UsageError(f"--study must be letters, digits, dots, - and _, but got '{study}'; choose another name")
    if grid:
        sampler, pruner = "grid", "none"
    folder = opened(source, machine.cache_dir)
    data = load_dataset(folder)
    with judging.telling_lines():
        check_limits(data, settings.contract)
        cells = [_cell(data, one, settings, seed, is_curve=grid is not None) for one in spaces]
    spaces, cells = _possible(spaces, cells, data, method)
    with values.telling_lines(space):
        checked = [
            (one.log_uniform() if log_uniform else one).checked(cell.config)
            for one, cell in zip(spaces, cells, strict=True)
        ]
        if sampler == "grid":
            for one in checked:
                next(one.points())  # a range that cannot be listed is refused here
    tell_columns(folder)
    place = machine.place(folder, options.RUNS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt
    names = []
    for one, cell in zip(checked, cells, strict=True):
        curve = next(iter(one.fields)) if grid else None
        made = Sweep.of(cell, one, data, source, sampler=sampler, pruner=pruner, curve=curve)
        names.append(made.name if study is None else study if len(cells) == 1 else f"{study}-{made.method}")
        _search(made, cell, names[-1], trials, place, storage)
    return studies.show_ended(names, storage, as_json=json)


def spaces_of(method: str, path: Path | None, grid: str | None) -> list[Space]:
    """The space of each method that is asked for; a group leaves out those that have nothing to search, and says so."""
    from harness.methods import groups, method_named, methods
    from sweeps.spaces import curve_of, grid_of, spaces_from_tables

    names = values.names_of(method, list(methods()), "method", groups())
    if grid is not None and path is not None:
        raise UsageError("--grid and --space exclude each other: both say what is searched; leave one of them out")
    if grid is not None:
        return [curve_of(method_named(name), grid) for name in names]
    with values.telling_lines(path):
        listed = spaces_from_tables(values.config_file(path)) if path is not None else {}
        for name in listed:
            if name not in names:
                raise FieldError(
                    f"[{name}] is not searched by --method {method}; add it there, or drop the table", name
                )
    if method in groups():
        idle = [name for name in names if name not in listed and not method_named(name).grid]
        names = [name for name in names if name not in idle]
        for name in idle:
            print(f"{method_named(name).title} has nothing to search and is left out", file=sys.stderr)
    return [listed[name] if name in listed else grid_of(method_named(name)) for name in names]


def _possible(spaces: list[Space], cells: list[Cell], data: Dataset, method: str) -> tuple[list[Space], list[Cell]]:
    """Those that the data allow, the others being told; errors as in `harness.experiment.plan.impossible`."""
    from harness.cli.summary import tell_left_out
    from harness.experiment.plan import impossible

    left_out = impossible(cells, data, values.by_group_alone(method, [cell.method for cell in cells]))
    tell_left_out(left_out)
    dropped = {name for names in left_out.values() for name in names}
    kept = [place for place, cell in enumerate(cells) if cell.method not in dropped]
    return [spaces[place] for place in kept], [cells[place] for place in kept]


def _cell(data: Dataset, space: Space, settings: Settings, seed: int, *, is_curve: bool) -> Cell:
    """The cell whose config the trials change; other fields of a curve stand where the method's paper has them."""
    from harness.experiment.plan import FULL, cell_of, check_tables
    from harness.experiment.settings import overlaid
    from harness.methods import method_named
    from sweeps.spaces import nested

    check_tables(settings)
    curve = method_named(space.method).curves.get(next(iter(space.fields))) if is_curve else None
    if curve is not None:
        settings = replace(settings, tables=overlaid({space.method: nested(curve.fixed)}, settings.tables))
    return cell_of(data, space.method, FULL, seed, settings)


def _search(one: Sweep, cell: Cell, name: str, trials: int | None, place: Place, storage: StudyStorage) -> None:
    from harness.cli.sweep_progress import watched
    from sweeps.search import search

    budget = trials or TRIALS
    if one.sampler == "grid":
        points = sum(1 for _ in one.space.points())
        budget = points if one.curve else min(budget, points)
    print(f"study {name}: {budget} trials of {one.method} on {one.dataset}", file=sys.stderr)
    with watched() as watch:
        search(one, cell, name, budget, place, storage, watch)
