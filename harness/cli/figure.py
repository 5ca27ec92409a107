"""`harness figure`: the figures of the paper and some more, from stored runs and studies."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options, values
from harness.cli.drawing import uncollected
from harness.cli.options import METHOD, CacheDir, Json, RunsDir, Studies, print_json, takes_groups
from harness.cli.tables import Choice, DatasetFilter
from harness.errors import HarnessError, UsageError
from results.errors import ResultsError

if TYPE_CHECKING:
    from results.figures.registry import FigureMaker
    from results.figures.rendering import Figure
    from results.store.selection import Filters
    from sweeps.summaries import StudySummary

OF_STUDIES = ("hyperparameters", "sweep")

EXAMPLES = (
    "Examples: [bold]harness figure all[/] · [bold]harness figure ablation --dataset scientific --format pdf[/] · "
    "[bold]harness figure curves --method tiger[/]"
)


@dataclass(frozen=True)
class Sources:
    """What figures are made from, and of what."""

    runs: Path
    cache: Path
    dataset: str
    method: str
    filters: Filters
    studies: tuple[StudySummary, ...]


@takes_groups
def figure(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="unseen, alignment, hyperparameters, curves, tokenizer, ablation, cost, audit, splits, sweep, a "
            "plug-in's, or all that can be made.",
        ),
    ],
    dataset: DatasetFilter = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: figures/DATASET).", metavar="DIR")
    ] = None,
    format: Annotated[str, typer.Option(help="Formats, with commas between; the data's csv always.", metavar="F,F")] = (
        "png,svg,pdf"
    ),
    method: Annotated[str, typer.Option(help="Of curves, tokenizer, ablation, sweeps.")] = METHOD,
    choice: Choice,
    study: Annotated[
        str | None, typer.Option(help="Beginning of a study's name, of sweep and hyperparameters.", metavar="STUDY")
    ] = None,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
    where: Studies,
) -> None:
    """Draw a figure from stored runs and studies, as PNG, SVG and PDF beside the csv of its data."""
    from results.figures.registry import figure_makers
    from results.figures.rendering import style

    formats = values.formats_of(format)
    style(name)  # says at once where matplotlib is missing
    known = {**{each: _from_runs(maker) for each, maker in figure_makers().items()}, **MAKERS}
    if name not in (*known, "all"):
        needs = "; ".join(f"{each} needs {maker.needs}" for each, maker in figure_makers().items())
        raise UsageError(f"unknown figure '{name}'; known: all, {', '.join(known)} ({needs})")
    names = list(known) if name == "all" else [name]
    studies = _studies(where.opened(), study) if set(names) & set(OF_STUDIES) else ()
    dataset = dataset or _only_dataset(runs_dir, studies)
    sources = Sources(runs_dir, cache_dir, dataset, method, choice.filters(), studies)
    folder = out or Path("figures") / dataset
    made: list[tuple[Figure, list[Path]]] = []
    refused: dict[str, str] = {}
    for each in names:
        try:
            with uncollected():
                made += [(figure, figure.save(folder, formats)) for figure in known[each](sources)]
        except (HarnessError, ResultsError) as error:
            told = _pasteable(" ".join(str(error).split()), sources)
            if name != "all":
                raise UsageError(told) from error
            refused[each] = told
    _tell(made, refused, json)
    if not made:
        raise UsageError(f"no figure of '{dataset}' can be made; the lines above say what each one lacks")


def _pasteable(told: str, sources: Sources) -> str:
    """The message, whose commands name the data as this machine has them: a made-up name is no path."""
    from harness.experiment.stored import dataset_here
    from results.store.find import RunFilter, find_runs

    runs = find_runs(sources.runs, RunFilter(dataset=sources.dataset))
    if not runs:
        return told
    record = runs[0].record
    here = shlex.quote(dataset_here(record.dataset, record.dataset_fingerprint, sources.cache))
    return told.replace(f"--dataset {sources.dataset} ", f"--dataset {here} ")


def _tell(made: list[tuple[Figure, list[Path]]], refused: dict[str, str], json: bool) -> None:
    """Each figure's files and caption, and in one line each why others were not made."""
    if json:
        print_json(
            {
                "figures": [
                    {"name": one.name, "caption": one.caption, "notes": one.notes, "files": list(map(str, files))}
                    for one, files in made
                ],
                "not_made": refused,
            }
        )
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for one, files in made:
        suffixes = ",".join(path.suffix[1:] for path in files)
        console.print(Text(one.name, "bold"), Text(f"{files[0].with_suffix('')}.{{{suffixes}}}"), soft_wrap=True)
        console.print(Padding(Text(one.caption), (0, 0, 0, 2)))
        for note in one.notes:
            console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))
    for name, reason in refused.items():
        console.print(Text(name, "bold"), Text(f"not made: {reason}"), soft_wrap=True)


def _studies(place: Any, prefix: str | None) -> tuple[StudySummary, ...]:
    """All studies, or the one whose name begins so; `UsageError` as in `sweeps.summaries.load_named`."""
    from sweeps.summaries import load_named, load_studies

    return tuple(load_studies(place)) if prefix is None else (load_named(prefix, place),)


def _only_dataset(runs_dir: Path, studies: tuple[StudySummary, ...]) -> str:
    """The data set that all runs and studies are of; `UsageError` when there are several, or none."""
    from results.figures.unseen import SPLIT
    from results.store.find import find_runs, without_split

    named = {study.sweep.dataset: study.sweep.dataset.removesuffix(f"-{SPLIT}") for study in studies}
    named |= {run.record.dataset: without_split(run.record)[0] for run in find_runs(runs_dir)}
    names = sorted(set(named.values()))
    if len(named) == 1 or (len(names) == 1 and names[0] not in named):  # none has the name without a split
        names = sorted(named)
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"a figure needs finished runs, but {runs_dir} has none; make some with: harness run")
    raise UsageError(f"one data set must be named, but there are {', '.join(names)}; add --dataset NAME")


# One maker per name: from the sources to figures, mostly one.


def _from_runs(maker: FigureMaker) -> Callable[[Sources], Sequence[Figure]]:
    """A maker of the registry, asked with what the command was given."""
    from harness.experiment.stored import prepared_of, pretraining_of
    from results.figures.registry import FigureRequest

    def make(given: Sources) -> Sequence[Figure]:
        pretraining, prepared = partial(pretraining_of, cache=given.cache), partial(prepared_of, cache=given.cache)
        return maker.make(FigureRequest(given.runs, given.dataset, given.method, given.filters, pretraining, prepared))

    return make


def _hyperparameters(sources: Sources) -> list[Figure]:
    from sweeps.figures import hyperparameters_figure

    return [hyperparameters_figure(sources.studies, sources.dataset, sources.method)]


def _sweep(sources: Sources) -> list[Figure]:
    from sweeps.figures import sweep_figure

    wanted = (sources.dataset, sources.method)
    found = [one for one in sources.studies if (one.sweep.dataset, one.sweep.method) == wanted and not one.sweep.curve]
    if not found:
        raise UsageError(
            f"no study of {sources.method} on '{sources.dataset}'; make one with: harness sweep --dataset "
            f"{sources.dataset} --method {sources.method}"
        )
    return [sweep_figure(study) for study in found]


# What needs more than runs.
MAKERS: dict[str, Callable[[Sources], Sequence[Figure]]] = {
    "hyperparameters": _hyperparameters,
    "sweep": _sweep,
}
