"""`harness run --dry-run`: the plan, what of it is cached, and how long the rest may take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.cli.options import print_json
from harness.data.prepare import load_dataset
from harness.errors import StageError
from harness.experiment.place import Place, cell_folder, is_open
from harness.experiment.plan import Cell, Plan
from harness.experiment.run import missing_stages
from harness.stages import Stage, read_json
from results.terminal.panels import duration


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the plan and what is known of it."""

    kind: str
    key: str
    seed: int
    used_by: tuple[str, ...]  # labels of cells
    state: str  # cached, started, to compute, or not needed (all that build on it is there)
    seconds: float | None  # estimate of what is left; None: nothing known


@dataclass(frozen=True)
class PlannedCell:
    """A cell of the plan."""

    label: str
    config: str  # its digest
    folder: str
    done: bool


@dataclass(frozen=True)
class Estimate:
    """The plan with its states, and the time that the rest may take, tests apart."""

    dataset: str
    cells: tuple[PlannedCell, ...]
    stages: tuple[PlannedStage, ...]
    known_seconds: float  # of all stages to compute whose time is known
    unknown_stages: int
    jobs: int

    @property
    def wall_seconds(self) -> float:
        """If the jobs share the work evenly."""
        return self.known_seconds / self.jobs


def estimated(plan: Plan, place: Place, dataset_name: str) -> Estimate:
    """What the plan would do now."""
    samples = int(load_dataset(place.dataset).train.offsets[-1])
    cells = [(cell, cell_folder(cell, dataset_name, place.runs)) for cell in plan.cells]
    planned_cells = tuple(
        PlannedCell(cell.label, cell.config_digest, str(path), not is_open(cell, path, place.store))
        for cell, path in cells
    )
    needed = stages_to_compute(plan, place, dataset_name)
    records = {kind: list(_records(place.cache / kind)) for kind in {stage.kind for stage in plan.stages}}
    stages = []
    for stage in plan.stages:
        users = tuple(cell.label for cell, _ in cells if any(s.key == stage.key for s in cell.fit.with_ancestors()))
        seconds = expected_seconds(stage, samples, records[stage.kind]) if stage.key in needed else 0.0
        stages.append(PlannedStage(stage.kind, stage.key, stage.seed, users, _state(stage, place, needed), seconds))
    return Estimate(
        dataset=dataset_name,
        cells=planned_cells,
        stages=tuple(stages),
        known_seconds=sum(stage.seconds or 0.0 for stage in stages),
        unknown_stages=sum(stage.seconds is None for stage in stages),
        jobs=place.jobs,
    )


def open_cells(plan: Plan, place: Place, dataset_name: str) -> list[Cell]:
    """The cells whose run is still to be made."""
    return [cell for cell in plan.cells if is_open(cell, cell_folder(cell, dataset_name, place.runs), place.store)]


def stages_to_compute(plan: Plan, place: Place, dataset_name: str) -> set[str]:
    """Keys of the stages that open cells still lack."""
    cells = open_cells(plan, place, dataset_name)
    return {stage.key for cell in cells for stage in missing_stages(cell.fit, place.store)}


def expected_seconds(stage: Stage, samples: int, records: list[dict[str, Any]]) -> float | None:
    """Seconds that finished stages of the kind took, scaled to its samples and effort; None where there are none.

    Stages with the same config (epochs apart) are better witnesses than others, so where there are some, only they
    speak. Early stopping makes this more an upper bound than a mean.
    """
    config = without_epochs(stage.config.model_dump(mode="json"))
    alike = [record for record in records if without_epochs(record["config"]) == config]
    paces = [
        record["seconds"] / (max(1, record["samples"]) * (record["effort"] or 1.0))
        for record in alike or records
        if "effort" in record
    ]
    own_effort = stage.effort if 0 < stage.effort < math.inf else 1.0
    return statistics.median(paces) * samples * own_effort if paces else None


def without_epochs(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without any number of epochs."""
    return {
        name: without_epochs(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name != "epochs"
    }


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of finished stages; what is damaged says nothing."""
    for path in sorted(folder.glob("*/stage.json")):
        try:
            yield read_json(path)
        except StageError:
            continue


def _state(stage: Stage, place: Place, needed: set[str]) -> str:
    if place.store.is_done(stage):
        return "cached"
    if stage.key not in needed:
        return "not needed"
    folder = place.store.folder(stage)
    return "started" if folder.with_name(f"{stage.key}.partial").exists() else "to compute"


def show(estimate: Estimate, *, as_json: bool) -> None:
    """Prints the estimate."""
    if as_json:
        print_json(asdict(estimate) | {"wall_seconds": estimate.wall_seconds})
        return
    console = Console(highlight=False)
    console.print(Text(f"Stages on {estimate.dataset}", "bold"))
    console.print(_stage_grid(estimate))
    console.print(Text("\nCells", "bold"))
    console.print(_cell_grid(estimate))
    console.print()
    console.print(_summary(estimate))


def _stage_grid(estimate: Estimate) -> Grid:
    grid = _grid("Stage", "Key", "Seed", "Used by", "State", "Time")
    for stage in estimate.stages:
        by = stage.used_by[0] if len(stage.used_by) == 1 else f"{len(stage.used_by)} cells"
        style = "" if stage.state in ("to compute", "started") else "dim"
        cells = [stage.kind, stage.key[:8], str(stage.seed), by, stage.state, _time(stage)]
        grid.add_row(*[Text(text, style) for text in cells])
    return grid


def _cell_grid(estimate: Estimate) -> Grid:
    grid = _grid("Cell", "Config", "State")
    for cell in estimate.cells:
        style = "dim" if cell.done else ""
        grid.add_row(*[Text(text, style) for text in (cell.label, cell.config, "done" if cell.done else "to run")])
    return grid


def _grid(*headings: str) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in headings:
        grid.add_column(heading)
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
        told += f" By finished stages of the same kind: {total} of work, about {wall} of waiting, tests apart."
    if estimate.unknown_stages:
        told += f" Nothing is known yet of {estimate.unknown_stages} stages (?)."
    return told
