"""`harness run`: prepare a data set, compute what is missing, print the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options, values
from harness.cli.data import opened, tell_columns, tell_notes
from harness.cli.machine import Execution, Machine
from harness.cli.options import Json, Judging, Reading, RunsDir, takes_groups
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.experiment.place import Place
    from harness.experiment.plan import Plan
    from harness.jobs.torchrun import World

EXAMPLES = (
    "Examples: [bold]harness run --ablation all[/] · [bold]harness run --dataset data/ratings.csv.gz --core 5 "
    "--methods markov,sasrec,etegrec --seeds 3 --jobs 2[/] · [bold]harness run --set etegrec.mu=1e-3 --dry-run[/]"
)


@takes_groups
def run(
    *,
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="Named data sets (see harness data list), files or folders; several with commas between.",
            metavar="LIST",
        ),
    ] = "demo",
    reading: Reading,
    methods: Annotated[
        str, typer.Option(help="Names or groups (core, paper, generative, strong, all) with commas.", metavar="LIST")
    ] = "core",
    ablation: Annotated[
        str, typer.Option(help="none, all, names (sia, psa, sia+psa, at, ete), or METHOD:NAME.", metavar="LIST")
    ] = "none",
    seeds: Annotated[
        str, typer.Option(help="3 means 0,1,2; with commas the seeds themselves (7, is seed 7 alone).", metavar="LIST")
    ] = "0",
    machine: Machine,
    judging: Judging,
    execution: Execution,
    runs_dir: RunsDir = options.RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and an estimate of the time; compute nothing.")
    ] = False,
    card: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: the time on this GPU (h100, a100, l40s, l4, rtx4090), from counts; default: the own.",
            metavar="NAME",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Train and evaluate methods and ablations on one or several data sets, then print the leaderboards.

    What is done already is not done again; a run that was interrupted goes on when the same command is given again.
    """
    if execution.executor == "local" and not dry_run:
        from harness.jobs.local import start_server

        start_server()
    from harness.cli import estimate, progress, summary
    from harness.experiment.run import run_plan
    from harness.jobs.graph import Observer
    from harness.jobs.torchrun import World, end_when_others_end

    world = World.of_environment()
    if world.size > 1:
        end_when_others_end()
    chosen_card = None if card is None else estimate.card_for(card, dry_run=dry_run)
    machine, run_jobs = execution.checked(machine, world.size)
    method_names, ablation_names, optional = _variants(methods, ablation)
    seed_numbers = values.seeds_of(seeds)
    asked: dict[str, Any] = {"method_names": method_names, "ablation_names": ablation_names}
    asked |= {"optional": optional, "seeds": seed_numbers}
    names = datasets_of(dataset)
    if len(names) > 1 and world.size > 1:
        raise UsageError("processes that torchrun started work on one data set at a time; name one with --dataset")
    # All are read and planned before anything is trained.
    experiments = [_experiment(name, reading, judging, machine, runs_dir, world, asked) for name in names]
    if not world.is_main:
        if not dry_run:
            run_plan(*experiments[0][1:], Observer())
        return 0
    if dry_run:
        estimate.show([(plan, place) for _, plan, place in experiments], card=chosen_card, as_json=json)
        return 0
    done = []
    for data, plan, place in experiments:
        if len(names) > 1:
            progress.headed(data.name)
        results = progress.observed_results(plan, place, run_jobs, waits=execution.busy == "wait")
        done.append(summary.Done(data, results, place))
    return summary.show(done, as_json=json)


def _experiment(
    name: str,
    reading: Reading,
    judging: Judging,
    machine: Machine,
    runs_dir: Path,
    world: World,
    asked: Mapping[str, Any],
) -> tuple[Dataset, Plan, Place]:
    """The data set, prepared now if need be, what is to be computed on it, and where; tells what is left out."""
    from harness.cli import summary
    from harness.data.prepare import describe, load_dataset
    from harness.experiment.plan import make_plan

    source = reading.source(name)
    settings = judging.settings(source.preset, machine.device, world.size)
    with world.main_first("data set"):
        folder = opened(source, machine.cache_dir)
    data = load_dataset(folder)
    with judging.telling_lines():
        plan = make_plan(data, settings=settings, **asked)
    if world.is_main:
        tell_columns(folder)
        tell_notes(describe(folder)["notes"])
        summary.tell_left_out(plan.left_out)
    return data, plan, machine.place(folder, runs_dir, world)


def datasets_of(text: str) -> list[str]:
    """The data sets that `--dataset` names: one that is there under the whole text, else those between the commas."""
    return [text] if "," not in text or Path(text).exists() else values.names_in(text, "--dataset")


def _variants(method_texts: str, ablation_texts: str) -> tuple[list[str], list[str], list[str]]:
    """Names of the methods, of the ablations, and of the methods that no one named by themselves.

    Ablated methods come along, since the table needs their row.
    """
    from harness.experiment.plan import ablation_named, ablations_of
    from harness.methods import groups, methods

    ablation_names = ablations_of(ablation_texts)
    method_names = values.names_of(method_texts, list(methods()), "method", groups())
    ablated = [ablation_named(name)[0] for name in ablation_names]
    optional = [name for name in values.by_group_alone(method_texts, method_names) if name not in ablated]
    return list(dict.fromkeys([*method_names, *ablated])), ablation_names, optional
