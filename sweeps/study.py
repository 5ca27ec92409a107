"""Studies: what makes one, and how it is made or joined.

A study is named by what decides its numbers, so the same command on any machine means the same study.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import optuna
from optuna.exceptions import DuplicatedStudyError

from harness.config import Config, digest
from harness.data.dataset import Dataset
from harness.data.formats.format import Columns
from harness.data.open import Source
from harness.errors import UsageError
from harness.experiment.plan import Cell
from harness.methods import method_named
from harness.seeding import numpy_stream
from sweeps.spaces import Space, nested
from sweeps.storage import StudyError, StudyStorage

SWEEP = "sweep"  # the study attribute that holds its `Sweep`
TRIALS = "trials"  # the study attribute that holds its budget
MAKING_SECONDS = 10.0

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]


class Sweep(Config):
    """Everything that decides a study's numbers, and everything needed to rebuild and check them."""

    method: str
    version: int  # of the method's code
    dataset: str  # its name
    fingerprint: str
    source: dict[str, Any]  # how the data set was named on the command line
    preset: str
    recipe: str
    tables: dict[str, Any]  # the user's changes, a table per method
    text: str | None
    config: dict[str, Any]  # the method's config, before a trial changes it
    contract: dict[str, Any]
    precision: Literal["fp32", "bf16"]
    seed: int
    space: Space
    sampler: Sampler
    pruner: Pruner
    curve: str | None = None  # the one field of a `--grid` study
    device: str = "cpu"  # the kind

    added_later: ClassVar[frozenset[str]] = frozenset({"device"})

    @classmethod
    def of(
        cls,
        cell: Cell,
        space: Space,
        data: Dataset,
        source: Source,
        *,
        sampler: Sampler,
        pruner: Pruner,
        curve: str | None = None,
    ) -> Sweep:
        """The search of a space around a cell's config."""
        settings = cell.settings
        return cls(
            method=cell.method,
            version=method_named(cell.method).version,
            dataset=data.name,
            fingerprint=data.fingerprint,
            source={**asdict(source), "metadata": source.metadata and str(source.metadata)},
            preset=settings.preset,
            recipe=settings.recipe,
            tables={cell.method: nested(cell.changes)},
            text=settings.text_encoder,
            config=cell.config.model_dump(mode="json"),
            contract=settings.contract.model_dump(mode="json"),
            precision=settings.precision,
            seed=cell.seed,
            space=space,
            sampler=sampler,
            pruner=pruner,
            curve=curve,
            device=settings.device,
        )

    def data_source(self) -> Source:
        """The data set as the study's command named it."""
        source = {"split" if name == "protocol" else name: value for name, value in self.source.items()}  # its old name
        metadata, columns = source["metadata"], Columns(**source["columns"])
        return Source(**{**source, "metadata": metadata and Path(metadata), "columns": columns})

    @property
    def deciding(self) -> dict[str, Any]:
        """The part that decides numbers, as plain JSON; paths and the way to say things are left out."""
        content = self.model_dump(mode="json")
        return {name: content[name] for name in DECIDING if name in content}

    @property
    def name(self) -> str:
        """The study's name where the user gives none."""
        curve = f"-grid-{self.curve.rstrip('_')}" if self.curve else ""
        return f"{self.method}-{self.dataset}{curve}-{digest(self.deciding)[:8]}"

    def disagreement(self, other: Sweep) -> str | None:
        """The first thing that decides numbers and that another sweep has otherwise, told in a few words."""
        ours, theirs = (dict(_flat(sweep.deciding)) for sweep in (self, other))
        for name in {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                return f"{name}={ours.get(name)!r}, not {theirs.get(name)!r}"
        return None


DECIDING = (
    "method",
    "version",
    "dataset",
    "fingerprint",
    "config",
    "contract",
    "precision",
    "device",
    "seed",
    "space",
    "sampler",
    "pruner",
)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def join(
    sweep: Sweep, name: str, trials: int, storage: StudyStorage, *, making_seconds: float = MAKING_SECONDS
) -> optuna.Study:
    """The study of this sweep, made now or joined; its budget is raised to `trials`.

    `making_seconds` is how long another process may take to make it. `UsageError` if a study of this name holds another
    sweep, or has a larger budget already.
    """
    with storage.reached():
        opened = storage.open(name)
        try:
            study = optuna.create_study(storage=opened, study_name=name, direction="maximize")
            make(study, sweep, trials)
        except DuplicatedStudyError:
            study = optuna.load_study(study_name=name, storage=opened)
            _wait_until_made(study, sweep, trials, making_seconds)
        recorded = sweep_of(study)
        difference = recorded.disagreement(sweep)
        if difference:
            raise UsageError(
                f"study '{name}' was made with {difference}; give the command that made it, or another --study"
            )
        budget = int(study.user_attrs[TRIALS])
        if trials < budget:
            raise UsageError(f"study '{name}' has --trials {budget}, but got {trials}; give {budget} or more")
        if trials > budget:
            queue_grid(study, sweep, trials)
            study.set_user_attr(TRIALS, trials)
    return study


def make(study: optuna.Study, sweep: Sweep, trials: int) -> None:
    """Queues a grid's points and records the sweep; the record comes last, so a study that has it is whole."""
    queue_grid(study, sweep, trials)
    study.set_user_attr(TRIALS, trials)
    study.set_user_attr(SWEEP, sweep.model_dump(mode="json"))


def queue_grid(study: optuna.Study, sweep: Sweep, trials: int) -> None:
    """Queues the first `trials` points of a grid that are not queued yet: a curve's in order, others shuffled."""
    if sweep.sampler != "grid":
        return
    points = list(sweep.space.points())
    if sweep.curve is None:
        points = [points[index] for index in numpy_stream(sweep.seed, "sweep", "grid").permutation(len(points))]
    present = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(deepcopy=False)]
    for point in points[:trials]:
        if point not in present:
            study.enqueue_trial(point)


def _wait_until_made(study: optuna.Study, sweep: Sweep, trials: int, seconds: float) -> None:
    """Lets another process finish making the study, and makes it if that process seems to have died over it."""
    deadline = time.monotonic() + seconds
    while SWEEP not in study.user_attrs:
        if time.monotonic() > deadline:
            make(study, sweep, trials)
            return
        time.sleep(0.2)


def sweep_of(study: optuna.Study) -> Sweep:
    """What the study searches; `StudyError` for a study of another program."""
    content = study.user_attrs.get(SWEEP)
    if content is None:
        raise StudyError(f"study '{study.study_name}' was not made by harness sweep; choose another --study")
    return Sweep.model_validate(content)
