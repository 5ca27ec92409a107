"""`harness sweep`: hyper-parameter search on validation scores, and what can be done with its studies."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options, settings, values
from harness.cli.data import source_of
from harness.cli.options import (
    Beams,
    CacheDir,
    ConfigFile,
    Core,
    DatasetName,
    Decoding,
    Device,
    Format,
    ItemColumn,
    Jobs,
    Json,
    Metadata,
    Precision,
    Preset,
    Recipe,
    Repeats,
    RunsDir,
    Set,
    ShortUsers,
    Split,
    Text,
    Threads,
    TimeColumn,
    TopK,
    UserColumn,
    print_json,
)
from harness.errors import FieldError, UsageError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.data.open import Source
    from harness.experiment.place import Place
    from harness.experiment.plan import Cell, Settings
    from sweeps.spaces import Space
    from sweeps.study import Place as Storage
    from sweeps.study import StudySummary, Sweep

app = typer.Typer(rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]})

EXAMPLES = (
    "Examples: [bold]harness sweep --trials 50[/] · [bold]harness sweep --method all --trials 20 --jobs 2[/] · "
    "[bold]harness sweep --grid mu[/] · [bold]harness sweep finish etegrec-demo[/]"
)
TRIALS = 20
STUDIES = Path("studies")
SEARCH = "The search"

StudiesDir = Annotated[
    Path,
    typer.Option(
        "--studies-dir",
        envvar="HARNESS_STUDIES_DIR",
        metavar="DIR",
        help="Where studies lie, one journal file each.",
        rich_help_panel=options.MACHINE,
    ),
]
StorageUrl = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="HARNESS_STORAGE",
        metavar="URL",
        help="A database instead, which several machines may share: postgresql://..., sqlite:///FILE.",
        rich_help_panel=options.MACHINE,
    ),
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name, or a unique beginning of it.")]


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    method: Annotated[
        str, typer.Option(help="A method, several with commas between, or all: a study each.", metavar="NAME")
    ] = "etegrec",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help=f"Trials of each study (default {TRIALS}; all points of a --grid). More extend it."),
    ] = None,
    dataset: DatasetName = "demo",
    split: Split = "leave-one-out",
    seed: Annotated[int, typer.Option(min=0, help="Of the search and of every fit.")] = 0,
    space: Annotated[
        Path | None,
        typer.Option(
            help="TOML file, a table per method: field = \\[values], {low=, high=, log=true} or {low=, high=, step=} "
            "(default: the methods' published grids).",
            metavar="FILE",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    log_uniform: Annotated[
        bool, typer.Option("--log-uniform", help="Ranges from least to greatest value of each list of floats.")
    ] = False,
    grid: Annotated[
        str | None,
        typer.Option(help="One field alone, every value of it: mu or lambda for the paper's curves.", metavar="FIELD"),
    ] = None,
    sampler: Annotated[
        Literal["tpe", "random", "grid"], typer.Option(help="How values are picked.", rich_help_panel=SEARCH)
    ] = "tpe",
    pruner: Annotated[
        Literal["median", "hyperband", "none"],
        typer.Option(help="When a trial is given up early.", rich_help_panel=SEARCH),
    ] = "median",
    study: Annotated[
        str | None,
        typer.Option(help="The study's name (default: made of what decides its numbers).", rich_help_panel=SEARCH),
    ] = None,
    preset: Preset = None,
    recipe: Recipe = "default",
    text: Text = None,
    set_: Set = None,
    config: ConfigFile = None,
    decoding: Decoding = None,
    beams: Beams = None,
    top_k: TopK = None,
    jobs: Jobs = None,
    threads: Threads = 1,
    device: Device = "auto",
    precision: Precision = "fp32",
    studies_dir: StudiesDir = STUDIES,
    storage: StorageUrl = None,
    heartbeat: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Between signs of life in a database; after two without, a trial is taken over.",
            rich_help_panel=options.MACHINE,
        ),
    ] = 60,
    cache_dir: CacheDir = options.CACHE,
    format: Format = None,
    metadata: Metadata = None,
    user_col: UserColumn = None,
    item_col: ItemColumn = None,
    time_col: TimeColumn = None,
    core: Core = None,
    repeats: Repeats = None,
    short_users: ShortUsers = None,
    json: Json = False,
) -> int:
    """Search hyper-parameters by validation NDCG@10, with Optuna. The test split is never read.

    The same command on any machine that reaches the study works on it too; given again, it goes on where it stopped.
    """
    if context.invoked_subcommand is not None:
        return 0
    from harness.cli import progress
    from harness.data.open import open_dataset
    from harness.data.prepare import load_dataset
    from harness.experiment.place import Place

    source = source_of(
        dataset,
        format=format,
        metadata=metadata,
        columns=(user_col, item_col, time_col),
        core=core,
        repeats=repeats,
        short_users=short_users,
        split=split,
    )
    tables = settings.tables_of(config, set_, decoding=decoding, beams=beams, top_k=top_k)
    by_options = settings.tables_of(None, set_, decoding=decoding, beams=beams, top_k=top_k)
    with values.telling_lines(config, by_options):
        chosen = settings.settings_of(tables, preset or source.preset, recipe, precision, text)
    spaces = spaces_of(method, space, grid)
    chosen_device = settings.device_named(device)
    place_of_studies = storage_of(studies_dir, storage, heartbeat)
    if study is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", study):
        raise UsageError(f"--study must be letters, digits, dots, - and _, but got '{study}'; choose another name")
    with progress.working(f"reading {dataset}"):
        folder = open_dataset(source, cache_dir)
    data = load_dataset(folder)
    with values.telling_lines(config, by_options):
        planned = [
            planned_sweep(
                data,
                source,
                one,
                chosen,
                seed,
                sampler="grid" if grid else sampler,
                pruner="none" if grid else pruner,
                curve=grid,
                log_uniform=log_uniform,
                space_file=space,
            )
            for one in spaces
        ]
    place = Place(
        dataset=folder,
        cache=cache_dir,
        runs=options.RUNS,
        device=chosen_device,
        threads=threads,
        jobs=jobs or settings.jobs_at_once(threads, chosen_device),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt
    names = [_named(study, one, len(planned)) for one, _ in planned]
    for (one, cell), name in zip(planned, names, strict=True):
        _search(one, cell, name, trials, place, place_of_studies)
    return _show_search(names, place_of_studies, json)


def spaces_of(method: str, path: Path | None, grid: str | None) -> list[Space]:
    """The space of each method that is asked for; `all` leaves out those that have nothing to search, and says so."""
    from harness.methods import method_named, methods
    from sweeps.spaces import curve_of, grid_of, spaces_from_tables

    names = values.names_of(method, list(methods()), "method")
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
    if method == "all":
        idle = [name for name in names if name not in listed and not method_named(name).grid]
        names = [name for name in names if name not in idle]
        for name in idle:
            print(f"{method_named(name).title} has nothing to search and is left out", file=sys.stderr)
    return [listed[name] if name in listed else grid_of(method_named(name)) for name in names]


def storage_of(studies_dir: Path, url: str | None, heartbeat: int = 60) -> Storage:
    """Where studies lie."""
    from sweeps.study import Place

    return Place(studies_dir, url, heartbeat, 2 * heartbeat)


def planned_sweep(
    data: Dataset,
    source: Source,
    space: Space,
    chosen: Settings,
    seed: int,
    *,
    sampler: Literal["tpe", "random", "grid"],
    pruner: Literal["median", "hyperband", "none"],
    curve: str | None,
    log_uniform: bool,
    space_file: Path | None,
) -> tuple[Sweep, Cell]:
    """A method's sweep and the cell that its trials change; every value is checked against the method's config."""
    from dataclasses import asdict, replace

    from harness.experiment.plan import make_plan
    from harness.methods import method_named
    from sweeps.spaces import CURVE_METHOD, CURVE_TABLES, field_name
    from sweeps.study import Sweep

    field = None if curve is None else field_name(curve)
    if field is not None and space.method == CURVE_METHOD:
        fixed = {CURVE_METHOD: CURVE_TABLES.get(field, {})}
        chosen = replace(chosen, tables=values.overlaid(fixed, chosen.tables))
    plan = make_plan(data, method_names=[space.method], ablation_names=[], seeds=[seed], settings=chosen)
    (cell,) = plan.cells
    with values.telling_lines(space_file):
        space = (space.log_uniform() if log_uniform else space).checked(cell.config)
        if sampler == "grid":
            next(space.points())  # a range that cannot be listed is refused here
    config = cell.config.model_dump(mode="json")
    made = Sweep(
        method=space.method,
        version=method_named(space.method).version,
        dataset=data.name,
        fingerprint=data.fingerprint,
        source={**asdict(source), "metadata": source.metadata and str(source.metadata)},
        preset=chosen.preset,
        recipe=chosen.recipe,
        tables={space.method: _as_held(chosen.tables.get(space.method, {}), config)},
        text=chosen.text_encoder,
        config=config,
        contract=chosen.contract.model_dump(mode="json"),
        precision=chosen.precision,
        seed=seed,
        space=space,
        sampler=sampler,
        pruner=pruner,
        curve=field,
    )
    return made, cell


def _as_held(table: Mapping[str, Any], config: Mapping[str, Any]) -> values.Table:
    """The table with its values as the config holds them: `--set` gives texts."""
    from sweeps.spaces import field_name

    held = {}
    for key, value in table.items():
        inner = config[field_name(key)]
        held[field_name(key)] = _as_held(value, inner) if isinstance(value, Mapping) else inner
    return held


def _named(wanted: str | None, one: Sweep, number: int) -> str:
    if wanted is None:
        return one.name
    return wanted if number == 1 else f"{wanted}-{one.method}"


def _search(one: Sweep, cell: Cell, name: str, trials: int | None, place: Place, storage: Storage) -> None:
    from harness.cli.sweep_progress import watched
    from sweeps.search import search

    budget = trials or TRIALS
    if one.sampler == "grid":
        points = sum(1 for _ in one.space.points())
        budget = points if one.curve else min(budget, points)
    print(f"study {name}: {budget} trials of {one.method} on {one.dataset}", file=sys.stderr)
    with watched() as watch:
        search(one, cell, name, budget, place, storage, watch)


def _show_search(names: Sequence[str], storage: Storage, as_json: bool) -> int:
    from rich.console import Console

    from harness.cli.sweep_tables import described, studies_table
    from sweeps.study import load_named

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
def ls(json: Json = False, studies_dir: StudiesDir = STUDIES, storage: StorageUrl = None) -> None:
    """List the studies."""
    from rich.console import Console

    from harness.cli.sweep_tables import described, studies_table
    from sweeps.study import load_studies

    found = load_studies(storage_of(studies_dir, storage))
    if json:
        print_json([described(study) for study in found])
    elif found:
        console = Console(highlight=False)
        console.print(studies_table(found, console.width))
    else:
        print(f"no study in {storage or studies_dir}; make one with: harness sweep", file=sys.stderr)


@app.command("show", epilog="Example: [bold]harness sweep show etegrec-demo[/]")
def show(study: StudyName, json: Json = False, studies_dir: StudiesDir = STUDIES, storage: StorageUrl = None) -> None:
    """Print a study: its trials, what the searched fields matter, and what it cost."""
    from rich.console import Console

    from harness.cli.sweep_tables import described, study_panel
    from sweeps.study import importances, load_named, trials_frame

    found = load_named(study, storage_of(studies_dir, storage))
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
def best(
    study: StudyName,
    toml: Annotated[
        Path | None, typer.Option("--toml", metavar="FILE", help="Write it for harness run --config FILE.")
    ] = None,
    json: Json = False,
    studies_dir: StudiesDir = STUDIES,
    storage: StorageUrl = None,
) -> None:
    """Print the best trial's fields, as the TOML that harness run --config takes."""
    from harness.cli.sweep_tables import described

    found = load_with_best(study, storage_of(studies_dir, storage))
    content = best_toml(found)
    if toml is not None:
        toml.write_text(content, encoding="utf-8")
        print(f"wrote {toml}", file=sys.stderr)
    if json:
        print_json({**described(found), "toml": content})
    elif toml is None:
        typer.echo(content, nl=False)


def load_with_best(study: str, storage: Storage) -> StudySummary:
    """The named study; `UsageError` where none of its trials is complete."""
    from sweeps.study import load_named

    found = load_named(study, storage)
    if found.best is None:
        raise UsageError(f"a best trial needs a complete one, but study '{found.name}' has none; give it more --trials")
    return found


def best_tables(study: StudySummary) -> dict[str, values.Table]:
    """The user's own changes, and over them the best trial's values: a table per method."""
    from sweeps.spaces import nested

    assert study.best is not None
    return values.overlaid(study.sweep.tables, {study.sweep.method: nested(study.best.params)})


def best_toml(study: StudySummary) -> str:
    """A config file with only what differs from the preset; its first line is the command that takes it."""
    from harness.config import to_toml
    from harness.interfaces import Contract

    sweep, defaults = study.sweep, Contract().model_dump(mode="json")
    contract = {name: value for name, value in sweep.contract.items() if value != defaults[name]}
    tables = best_tables(study) | ({"contract": contract} if contract else {})
    given = {"--dataset": sweep.source["name"], "--methods": sweep.method, "--preset": sweep.preset}
    given |= {"--recipe": sweep.recipe} if sweep.recipe != "default" else {}
    given |= {"--text": sweep.text} if sweep.text else {}
    command = " ".join(f"{option} {value}" for option, value in given.items())
    return f"# harness run {command} --config FILE\n{to_toml(tables)}"


@app.command("finish", epilog="Example: [bold]harness sweep finish etegrec-demo --seeds 3[/]")
def finish(
    study: StudyName,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="3 means 0,1,2; with commas the seeds themselves (default: the study's seed).", metavar="LIST"
        ),
    ] = None,
    jobs: Jobs = None,
    threads: Threads = 1,
    device: Device = "auto",
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
    studies_dir: StudiesDir = STUDIES,
    storage: StorageUrl = None,
    json: Json = False,
) -> int:
    """Run the best trial's config like harness run, test split included; its rows say how many trials preceded them."""
    from dataclasses import replace

    from harness.cli import estimate, progress, summary
    from harness.data.open import open_dataset
    from harness.data.prepare import load_dataset
    from harness.experiment.place import Place
    from harness.experiment.plan import Plan, Settings, make_plan
    from harness.experiment.run import run_plan
    from harness.interfaces import Contract
    from results.store.runs import raise_trials

    found = load_with_best(study, storage_of(studies_dir, storage))
    sweep = found.sweep
    with progress.working(f"reading {sweep.source['name']}"):
        folder = open_dataset(source_from(sweep), cache_dir)
    data = load_dataset(folder)
    if data.fingerprint != sweep.fingerprint:
        raise UsageError(
            f"study '{found.name}' is of data set {sweep.fingerprint}, but {sweep.source['name']} is now "
            f"{data.fingerprint}; bring that data back, or sweep again"
        )
    chosen = Settings(
        preset=sweep.preset,
        recipe=sweep.recipe,
        contract=Contract.model_validate(sweep.contract),
        precision=sweep.precision,
        tables=best_tables(found),
        text_encoder=sweep.text,
    )
    numbers = [sweep.seed] if seeds is None else values.seeds_of(seeds)
    plan = make_plan(data, method_names=[sweep.method], ablation_names=[], seeds=numbers, settings=chosen)
    plan = Plan(tuple(replace(cell, trials=found.ended) for cell in plan.cells), plan.stages)
    chosen_device = settings.device_named(device)
    place = Place(
        dataset=folder,
        cache=cache_dir,
        runs=runs_dir,
        device=chosen_device,
        threads=threads,
        jobs=jobs or settings.jobs_at_once(threads, chosen_device),
    )
    total = len(estimate.stages_to_compute(plan, place, data.name)) + len(estimate.open_cells(plan, place, data.name))
    with progress.observed(plan, total) as observer:
        results = run_plan(plan, place, observer)
    for result in results:
        if result.outcome.status == "done":
            raise_trials(result.folder, found.ended)
    code = summary.show(data, results, place, as_json=json)
    assert found.best is not None
    print(
        f"\nThe best of {found.ended} trials: number {found.best.number}, validation NDCG@10 {found.best.value:.4f}.",
        file=sys.stderr if json else sys.stdout,
    )
    return code


def source_from(sweep: Sweep) -> Source:
    """The data set as the study's command named it."""
    from harness.data.formats.format import Columns
    from harness.data.open import Source

    content: dict[str, Any] = dict(sweep.source)
    if "protocol" in content:  # as studies of before named the split
        content["split"] = content.pop("protocol")
    metadata = content["metadata"]
    return Source(**{**content, "metadata": metadata and Path(metadata), "columns": Columns(**content["columns"])})


@app.command("dashboard", epilog="Example: [bold]harness sweep dashboard etegrec-demo[/]")
def dashboard(
    study: StudyName,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine's loopback address.")] = 8080,
    studies_dir: StudiesDir = STUDIES,
    storage: StorageUrl = None,
) -> None:
    """Serve optuna-dashboard for a study, to this machine alone."""
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UsageError(
            "the dashboard needs optuna-dashboard, which is not installed; pip install 'etegrec-harness[dashboard]'"
        ) from None
    from sweeps.study import load_named

    place = storage_of(studies_dir, storage)
    found = load_named(study, place)
    print(f"http://127.0.0.1:{port}/ shows {found.name}; Ctrl-C ends it", file=sys.stderr)
    run_server(place.open(found.name), host="127.0.0.1", port=port)
