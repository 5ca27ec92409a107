"""What of a plan is still to be computed, and how long that may take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.dataset import Dataset
from harness.data.prepare import load_dataset
from harness.errors import StageError
from harness.experiment.counted import Card, counted_seconds
from harness.experiment.place import Place, cell_folder, is_open
from harness.experiment.plan import Plan
from harness.experiment.run import missing_stages
from harness.stages import Stage, read_json


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
    card: str | None = None  # the GPU of whose figures times come; None: of finished stages

    @property
    def wall_seconds(self) -> float:
        """If the jobs share the work evenly."""
        return self.known_seconds / self.jobs


def estimated(plan: Plan, place: Place, card: Card | None = None) -> Estimate:
    """What the plan would do now; on a card, times are those of finished stages with the same config, or counted."""
    dataset = load_dataset(place.dataset)
    open_keys, needed = open_work(plan, place, dataset.name)
    records = {kind: list(_records(place.cache / kind)) for kind in {stage.kind for stage in plan.stages}}
    cells = [
        PlannedCell(
            cell.label,
            cell.config_digest,
            str(cell_folder(cell, dataset.name, place.runs)),
            done=cell.fit.key not in open_keys,
        )
        for cell in plan.cells
    ]
    stages = []
    for stage in plan.stages:
        users = tuple(cell.label for cell in plan.cells if any(s.key == stage.key for s in cell.fit.with_ancestors()))
        seconds = 0.0 if stage.key not in needed else _seconds(stage, dataset, place, records[stage.kind], card)
        stages.append(PlannedStage(stage.kind, stage.key, stage.seed, users, _state(stage, place, needed), seconds))
    return Estimate(
        dataset=dataset.name,
        cells=tuple(cells),
        stages=tuple(stages),
        known_seconds=sum(stage.seconds or 0.0 for stage in stages),
        unknown_stages=sum(stage.seconds is None for stage in stages),
        jobs=place.jobs if card is None or place.device != "cpu" else 1,  # one card
        card=None if card is None else card.title,
    )


def open_work(plan: Plan, place: Place, dataset_name: str) -> tuple[set[str], set[str]]:
    """Keys of the fits whose run is still to be made, and of the stages that are still to be computed for them."""
    fits = [cell.fit for cell in plan.cells if is_open(cell, cell_folder(cell, dataset_name, place.runs), place.store)]
    return {fit.key for fit in fits}, {stage.key for fit in fits for stage in missing_stages(fit, place.store)}


def num_jobs(plan: Plan, place: Place) -> int:
    """How many jobs the plan still asks for: one for each stage to compute and for each run to be made."""
    return sum(map(len, open_work(plan, place, load_dataset(place.dataset).name)))


def _seconds(
    stage: Stage, dataset: Dataset, place: Place, records: list[dict[str, Any]], card: Card | None
) -> float | None:
    samples = int(dataset.train.offsets[-1])
    own = [record for record in records if record.get("device", place.device) == place.device]
    if card is None:
        return expected_seconds(stage, samples, own)
    config = without_epochs(stage.config.model_dump(mode="json"))
    alike = [record for record in own if without_epochs(record["config"]) == config]
    is_measured = alike and place.device != "cpu"
    return expected_seconds(stage, samples, alike) if is_measured else counted_seconds(stage, dataset, card)


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
