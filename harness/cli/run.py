"""`harness run`: prepare a data set, compute what is missing, print the tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
)
from harness.errors import UsageError
from harness.jobs.local import start_server

if TYPE_CHECKING:
    from harness.experiment.plan import Plan, Settings

EXAMPLES = (
    "Examples: [bold]harness run --ablation all[/] · [bold]harness run --dataset data/ratings.csv.gz --core 5 "
    "--methods markov,sasrec,etegrec --seeds 3 --jobs 2[/] · [bold]harness run --set etegrec.mu=1e-3 --dry-run[/]"
)


def run(
    dataset: DatasetName = "demo",
    split: Split = "leave-one-out",
    methods: Annotated[str, typer.Option(help="Names with commas between, or all.", metavar="LIST")] = "all",
    ablation: Annotated[
        str, typer.Option(help="none, all, names (sia, psa, sia+psa, at, ete), or METHOD:NAME.", metavar="LIST")
    ] = "none",
    seeds: Annotated[
        str, typer.Option(help="3 means 0,1,2; with commas the seeds themselves (7, is seed 7 alone).", metavar="LIST")
    ] = "0",
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
    executor: Annotated[
        Literal["local", "submitit"],
        typer.Option(
            help="Where jobs run: in processes here, or through submitit on a Slurm cluster (100 at once, or --jobs).",
            rich_help_panel=options.MACHINE,
        ),
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            help="Any long option of sbatch: partition=gpu, time=240, gpus=1, mem=16G. Repeatable.",
            metavar="OPTION=VALUE",
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    submitit_cluster: Annotated[
        Literal["slurm", "local"],
        typer.Option(help="local: try it without a cluster.", rich_help_panel=options.MACHINE),
    ] = "slurm",
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
    format: Format = None,
    metadata: Metadata = None,
    user_col: UserColumn = None,
    item_col: ItemColumn = None,
    time_col: TimeColumn = None,
    core: Core = None,
    repeats: Repeats = None,
    short_users: ShortUsers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and an estimate of the time; compute nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Train and evaluate methods and ablations on a data set, then print the leaderboards.

    What is done already is not done again; a run that was interrupted goes on when the same command is given again.
    """
    if executor == "local" and not dry_run:
        start_server()
    from harness.cli import estimate, progress, summary
    from harness.data.open import open_dataset
    from harness.data.prepare import load_dataset
    from harness.experiment.place import Place
    from harness.experiment.run import run_plan
    from harness.jobs.torchrun import World, end_when_others_end

    world = World.of_environment()
    if world.size > 1:
        end_when_others_end()
        if jobs not in (None, 1):
            raise UsageError(
                f"processes that torchrun started work on one job at a time, but got --jobs {jobs}; leave it out"
            )
    cluster = None
    if executor == "submitit":
        cluster = settings.cluster_of(submitit_cluster, slurm or [], world.size)
    elif slurm:
        raise UsageError("--slurm options need a cluster; add --executor submitit, or leave them out")
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
    method_names, ablation_names = _cells(methods, ablation)
    seed_numbers = values.seeds_of(seeds)
    chosen_device = settings.device_named(device) if cluster is None else settings.device_of(cluster, device)

    with world.main_first("data set"), progress.working(f"reading {dataset}"):
        folder = open_dataset(source, cache_dir)
    with values.telling_lines(config, by_options):
        plan = _plan(folder, method_names, ablation_names, seed_numbers, replace(chosen, processes=world.size))
    place = Place(
        dataset=folder,
        cache=cache_dir,
        runs=runs_dir,
        device=chosen_device,
        threads=threads,
        jobs=jobs or (settings.jobs_at_once(threads, chosen_device, cluster) if world.size == 1 else 1),
        world=world,
    )
    data = load_dataset(folder)
    name = data.name
    if not world.is_main:
        if not dry_run:
            run_plan(plan, place, progress.SILENT)
        return 0
    if dry_run:
        estimate.show(estimate.estimated(plan, place, name), as_json=json)
        return 0
    total = len(estimate.stages_to_compute(plan, place, name)) + len(estimate.open_cells(plan, place, name))
    with progress.observed(plan, total) as observer:
        results = run_plan(plan, place, observer, execute=settings.execution(cluster))
    return summary.show(data, results, place, as_json=json)


def _cells(method_texts: str, ablation_texts: str) -> tuple[list[str], list[str]]:
    """Names of the methods and of the ablations; ablated methods come along, since the table needs their row."""
    from harness.experiment.plan import ablation_named, ablations_of
    from harness.methods import methods

    ablation_names = ablations_of(ablation_texts)
    method_names = values.names_of(method_texts, list(methods()), "method")
    ablated = [ablation_named(name)[0] for name in ablation_names]
    return list(dict.fromkeys([*method_names, *ablated])), ablation_names


def _plan(folder: Path, method_names: list[str], ablation_names: list[str], seeds: list[int], chosen: Settings) -> Plan:
    from harness.data.prepare import load_dataset
    from harness.experiment.plan import make_plan

    return make_plan(
        load_dataset(folder),
        method_names=method_names,
        ablation_names=ablation_names,
        seeds=seeds,
        settings=chosen,
    )
