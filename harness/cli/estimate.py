"""What `harness run --dry-run` prints: the plan, what of it is cached, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.cli.options import print_json
from harness.errors import UsageError
from harness.experiment.counted import Card, card_named, card_of
from harness.experiment.estimate import Estimate, PlannedStage, estimated
from harness.experiment.place import Place
from harness.experiment.plan import Plan
from harness.provenance import gpu
from results.terminal.grids import headed_grid
from results.terminal.quantities import duration


def card_for(name: str, *, dry_run: bool) -> Card:
    """The card that `--card` names; `UsageError` for an unknown one, and where nothing is estimated."""
    if not dry_run:
        raise UsageError(f"--card {name} is for an estimate of the time; add --dry-run, or leave it out")
    return card_named(name)


def show(planned: Sequence[tuple[Plan, Place]], *, card: Card | None = None, as_json: bool) -> None:
    """Prints what the plans, one a data set, would do; with times on a card, the machine's own GPU if none is named."""
    card = card or card_of(gpu(planned[0][1].device).get("gpu", ""))
    estimates = [estimated(plan, place, card) for plan, place in planned]
    if as_json:
        content = [
            asdict(estimate)
            | {"wall_seconds": estimate.wall_seconds}
            | {"left_out": [{"methods": names, "cause": cause} for cause, names in plan.left_out.items()]}
            for estimate, (plan, _) in zip(estimates, planned, strict=True)
        ]
        print_json(content if len(content) > 1 else content[0])
        return
    console = Console(highlight=False)
    for place, estimate in enumerate(estimates):
        if place:
            console.print()
        console.print(Text(f"Stages on {estimate.dataset}", "bold"))
        console.print(_stage_grid(estimate))
        console.print(Text("\nCells", "bold"))
        console.print(_cell_grid(estimate))
        console.print()
        console.print(_summary(estimate))


def _stage_grid(estimate: Estimate) -> Grid:
    grid = headed_grid("Stage", "Key", "Seed", "Used by", "State", "Time")
    for stage in estimate.stages:
        by = stage.used_by[0] if len(stage.used_by) == 1 else f"{len(stage.used_by)} cells"
        style = "" if stage.state in ("to compute", "started") else "dim"
        cells = [stage.kind, stage.key[:8], str(stage.seed), by, stage.state, _time(stage)]
        grid.add_row(*[Text(text, style) for text in cells])
    return grid


def _cell_grid(estimate: Estimate) -> Grid:
    grid = headed_grid("Cell", "Config", "State")
    for cell in estimate.cells:
        style = "dim" if cell.done else ""
        grid.add_row(*[Text(text, style) for text in (cell.label, cell.config, "done" if cell.done else "to run")])
    return grid


def _time(stage: PlannedStage) -> str:
    if stage.seconds is None:
        return "?"
    return duration(stage.seconds) if stage.seconds else ""


def _summary(estimate: Estimate) -> str:
    left = sum(stage.state in ("to compute", "started") for stage in estimate.stages)
    cells = sum(not cell.done for cell in estimate.cells)
    jobs = f"{estimate.jobs} job{'s' * (estimate.jobs != 1)} side by side"
    told = f"{left} stages to compute for {cells} cells, {jobs}."
    if estimate.known_seconds:
        total, wall = duration(estimate.known_seconds), duration(estimate.wall_seconds)
        basis = "By finished stages of the same kind"
        if estimate.card:
            basis = f"By counts of operations and kernels on one {estimate.card}, give or take a factor of three"
        told += f" {basis}: {total} of work, about {wall} of waiting, scoring apart."
    if estimate.unknown_stages:
        told += f" Nothing is known yet of {estimate.unknown_stages} stages (?)."
    return told
