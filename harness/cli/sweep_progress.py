"""How a search is watched: one line per ended trial, and on a terminal a bar per running job; always on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.cli.progress import Bars, Jobs, bars_on, print_line
from harness.experiment.plan import Cell
from harness.jobs.graph import Observer
from harness.methods import method_named
from results.terminal.quantities import duration
from sweeps.search import Watch
from sweeps.summaries import cost_of, note_of, state_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@contextmanager
def watched() -> Iterator[Watch]:
    """What hears of a search and shows it while the block lasts."""
    console = Console(stderr=True, highlight=False)
    jobs = Jobs({}, 0, frozenset())
    live = bars_on(console) if console.is_terminal else None
    watcher = Bars(jobs, live) if live else None

    def observer_of(trial: int, cell: Cell) -> Observer:
        """Jobs of two trials may bear the same key, so the trial's number is part of it."""
        for key, label in labels_of(trial, cell).items():
            jobs.labels[key] = label
        jobs.recommenders |= {f"{trial}/{cell.fit.key}"}
        if watcher is None:
            return Observer()
        return Observer(
            lambda key: watcher.started(f"{trial}/{key}"),
            lambda key, epoch: watcher.message(f"{trial}/{key}", epoch),
            lambda key, outcome: watcher.removed(f"{trial}/{key}"),
        )

    def ended(trial: FrozenTrial, best: FrozenTrial | None) -> None:
        print_line(live.console if live else console, told(trial, best))

    with live or nullcontext():
        yield Watch(observer_of, ended)


def labels_of(trial: int, cell: Cell) -> dict[str, str]:
    """What each job of a trial does, by its key."""
    named = {stage.key: stage.kind for stage in cell.fit.with_ancestors()}
    named |= {cell.fit.key: method_named(cell.method).title}
    return {f"{trial}/{key}": f"trial {trial}: {name}" for key, name in named.items()}


def told(trial: FrozenTrial, best: FrozenTrial | None) -> str:
    """The line that tells how a trial ended."""
    score = f" NDCG@10 {trial.value:.4f}" if trial.value is not None else ""
    note = f" ({note_of(trial)})" if note_of(trial) else ""
    leader = f", best {best.value:.4f} of trial {best.number}" if best is not None and best.value is not None else ""
    took = duration(cost_of(trial)["seconds"])
    return f"trial {trial.number}: {state_of(trial)}{score}{note} in {took}{leader}; {told_params(trial)}"


def told_params(trial: FrozenTrial) -> str:
    """The trial's values, with commas between."""
    return ", ".join(f"{name}={shown(value)}" for name, value in trial.params.items())


def shown(value: Any) -> str:
    """A searched value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if value is None else str(value)
