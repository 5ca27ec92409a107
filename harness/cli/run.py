"""`harness run`: prepare a data set, compute what is missing, print the tables."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import options, values
from harness.cli.data import source_of
from harness.cli.options import (
    CacheDir,
    Core,
    Format,
    ItemColumn,
    Json,
    Metadata,
    Protocol,
    Repeats,
    RunsDir,
    ShortUsers,
    TimeColumn,
    UserColumn,
)
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.planning import Plan, Settings

EXAMPLES = (
    "Examples: [bold]harness run --ablation all[/] · [bold]harness run --dataset data/ratings.csv.gz --core 5 "
    "--methods markov,sasrec,etegrec --seeds 3 --jobs 2[/] · [bold]harness run --set etegrec.mu=1e-3 --dry-run[/]"
)

CONTRACT = "How all methods are judged"


def run(
    dataset: Annotated[
        str, typer.Option(help="A named data set (see harness data list), a file, or a folder.", metavar="NAME|PATH")
    ] = "demo",
    protocol: Protocol = "leave-one-out",
    methods: Annotated[str, typer.Option(help="Names with commas between, or all.", metavar="LIST")] = "all",
    ablation: Annotated[
        str, typer.Option(help="none, all, or of sia, psa, sia+psa, at, ete.", metavar="LIST")
    ] = "none",
    seeds: Annotated[
        str, typer.Option(help="3 means 0,1,2; with commas the seeds themselves (7, is seed 7 alone).", metavar="LIST")
    ] = "0",
    preset: Annotated[
        str | None,
        typer.Option(help="Sizes and schedules: lite or paper (default: paper for the paper's data sets, else lite)."),
    ] = None,
    recipe: Annotated[
        Literal["default", "paper", "official"],
        typer.Option(help="Where the paper and the released code differ: our choice, the paper's, the code's."),
    ] = "default",
    text: Annotated[
        str | None,
        typer.Option(
            help="Text encoder of all methods that read text: tfidf-svd, minilm, a model, file:PATH.npy.",
            metavar="ENCODER",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field: etegrec.mu=3e-4, contract.num_beams=50. Repeatable.", metavar="M.F=V"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file: a table per method, and one for the contract.", metavar="FILE")
    ] = None,
    decoding: Annotated[
        str | None,
        typer.Option(
            help="trie: beams over existing items (default); free: over all codes; released: as each authors' code.",
            metavar="HOW",
            rich_help_panel=CONTRACT,
        ),
    ] = None,
    beams: Annotated[int | None, typer.Option(help="Beam width (default 20).", rich_help_panel=CONTRACT)] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Length of the ranked lists (default 10).", rich_help_panel=CONTRACT)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes side by side (default: cores / threads); changes no number.",
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.", rich_help_panel=options.MACHINE)] = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.", rich_help_panel=options.MACHINE)
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="Of the forward passes.", rich_help_panel=options.MACHINE)
    ] = "fp32",
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
    from harness.cli import estimate, progress, summary
    from harness.data.open import open_dataset
    from harness.data.prepare import load_dataset
    from harness.distributed import World, end_when_others_end
    from harness.experiment import Place, run_plan

    world = World.of_environment()
    if world.size > 1:
        end_when_others_end()
        if jobs not in (None, 1):
            raise UsageError(
                f"processes that torchrun started work on one job at a time, but got --jobs {jobs}; leave it out"
            )
    source = source_of(
        dataset,
        format=format,
        metadata=metadata,
        columns=(user_col, item_col, time_col),
        core=core,
        repeats=repeats,
        short_users=short_users,
        protocol=protocol,
    )
    tables = values.overlaid(
        values.config_file(config) if config else {},
        {"contract": _given(decoding=decoding, num_beams=beams, top_k=top_k)},
    )
    tables = values.overlaid(tables, values.assignments_of(set_ or []))
    settings = replace(_settings(tables, preset or source.preset, recipe, precision, text), processes=world.size)
    method_names, ablation_names = _cells(methods, ablation)
    seed_numbers = values.seeds_of(seeds)
    chosen_device = _device(device)

    with world.main_first("data set"), progress.working(f"reading {dataset}"):
        folder = open_dataset(source, cache_dir)
    plan = _plan(folder, method_names, ablation_names, seed_numbers, settings)
    place = Place(
        dataset=folder,
        cache=cache_dir,
        runs=runs_dir,
        device=chosen_device,
        threads=threads,
        jobs=jobs or (max(1, cores() // threads) if chosen_device == "cpu" and world.size == 1 else 1),
        world=world,
    )
    name = load_dataset(folder).name
    if not world.is_main:
        if not dry_run:
            run_plan(plan, place, progress.SILENT)
        return 0
    if dry_run:
        estimate.show(estimate.estimated(plan, place, name), as_json=json)
        return 0
    total = len(estimate.stages_to_compute(plan, place, name)) + len(estimate.open_cells(plan, place, name))
    with progress.observed(plan, total) as observer:
        results = run_plan(plan, place, observer)
    return summary.show(name, results, place, ablation=bool(ablation_names), as_json=json)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _settings(
    tables: dict[str, values.Table],
    preset: str,
    recipe: str,
    precision: Literal["fp32", "bf16"],
    text: str | None,
) -> Settings:
    """What decides numbers; the contract's table becomes the contract, the others stay with their methods."""
    from harness.config import merged
    from harness.planning import Settings
    from harness.protocols import Contract

    # The official recipe decodes as each authors' code does, unless told otherwise (METHODS C.6).
    basis = Contract(decoding="released") if recipe == "official" else Contract()
    contract = merged(basis, tables.pop("contract"), prefix="contract.")
    assert isinstance(contract, Contract)
    return Settings(
        preset=preset, recipe=recipe, contract=contract, precision=precision, tables=tables, text_encoder=text
    )


def _cells(method_texts: str, ablation_texts: str) -> tuple[list[str], list[str]]:
    """Names of the methods and of the ablations."""
    from harness.methods import method_named, methods
    from harness.planning import ABLATED

    ablation_names = values.ablations_of(ablation_texts, list(method_named(ABLATED).ablations))
    method_names = values.names_of(method_texts, list(methods()), "method")
    return values.with_ablated(method_names, ablation_names, ABLATED), ablation_names


def _plan(
    folder: Path, method_names: list[str], ablation_names: list[str], seeds: list[int], settings: Settings
) -> Plan:
    from harness.data.prepare import load_dataset
    from harness.planning import make_plan

    return make_plan(
        load_dataset(folder),
        method_names=method_names,
        ablation_names=ablation_names,
        seeds=seeds,
        settings=settings,
    )


def _device(name: str) -> str:
    """The device to compute on; `UsageError` where the machine has none of that kind."""
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "cpu"
    if not present[name]:
        usable = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise UsageError(f"--device {name} must be present, but torch sees none; usable here: {usable}")
    return name
