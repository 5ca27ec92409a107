"""Runs as a list; made without NumPy, whose import takes as long as the rest of `harness ls`."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from results.store.find import UnfinishedRun
from results.store.runs import Run
from results.tables.content import DECIMALS
from results.tables.marks import UNKNOWN
from results.terminal.grids import headed_grid
from results.terminal.quantities import duration, size


def runs_table(runs: Sequence[Run], unfinished: Sequence[UnfinishedRun] = ()) -> RenderableType:
    """A list per data set with one line per run, unfinished runs last: what was run, its scores, and its time."""
    synthetic = {_folder(run) for run in runs if run.record.synthetic}
    names = {_folder(run) for run in runs} | {run.dataset for run in unfinished}
    lists: list[RenderableType] = []
    for dataset in sorted(names):
        grid = _runs_grid(
            [run for run in runs if _folder(run) == dataset],
            [run for run in unfinished if run.dataset == dataset],
        )
        heading = Text(dataset + " (synthetic)" * (dataset in synthetic), "bold")
        lists.extend([heading, grid, Text()])
    return Group(*lists[:-1])


def _folder(run: Run) -> str:
    """The data set's folder, which is also what --dataset takes."""
    return run.folder.parts[-5]


def _runs_grid(runs: Sequence[Run], unfinished: Sequence[UnfinishedRun]) -> Grid:
    numbers = ("Seed", "Recall@10", "NDCG@10", "Time", "Size")
    grid = headed_grid("Method", "Variant", "Config", *numbers, numbers=numbers, no_wrap=True)
    for run in runs:
        record = run.record
        found = [run.stored(metric, 10) for metric in ("Recall", "NDCG")]
        scores = [UNKNOWN if value is None else f"{value:.{DECIMALS}f}" for value in found]
        place = [record.method, record.variant, record.config_digest[:8], str(record.seed)]
        grid.add_row(*map(Text, [*place, *scores, duration(sum(record.seconds.values())), size(run.num_bytes)]))
    for open_run in unfinished:
        place = [open_run.method, open_run.variant, open_run.config_digest[:8], str(open_run.seed)]
        grid.add_row(*[Text(text, "dim") for text in [*place, UNKNOWN, UNKNOWN, "unfinished", UNKNOWN]])
    return grid
