"""Stored studies, read back: their trials, what these cost, the best of them, and which fields decide."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import polars as pl
from optuna.trial import FrozenTrial, TrialState

from harness.errors import UsageError, nearest
from sweeps.spaces import Range
from sweeps.storage import StudyError, StudyStorage, quiet
from sweeps.study import SWEEP, TRIALS, Sweep, sweep_of
from sweeps.trials import CACHED, COST, RECALL, best_of, error_of, is_ended, is_superseded, reason_of

STATES = ("complete", "pruned", "failed", "superseded", "running", "waiting")
MIN_FOR_IMPORTANCE = 4  # complete trials
FRAME_HEAD = {"number": pl.Int64, "state": pl.String, "value": pl.Float64, "recall": pl.Float64}
FRAME_TAIL = {"epochs": pl.Int64, "seconds": pl.Float64, "peak_memory_mb": pl.Float64, "note": pl.String}


@dataclass(frozen=True)
class StudySummary:
    """A stored study, read once; what is asked of it afterwards is of that moment."""

    name: str
    sweep: Sweep
    budget: int
    trials: tuple[FrozenTrial, ...]
    study: optuna.Study

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are complete, pruned, failed (with an error of their own), superseded, running, waiting."""
        found = Counter(state_of(trial) for trial in self.trials)
        return {state: found[state] for state in STATES}

    @property
    def ended(self) -> int:
        """Trials that ended and count."""
        return sum(map(is_ended, self.trials))

    @cached_property
    def best(self) -> FrozenTrial | None:
        """As `trials.best_of`."""
        return best_of(self.trials)

    @property
    def epochs(self) -> int:
        """Epochs that all trials trained, the superseded ones too."""
        return sum(int(cost_of(trial)["epochs"]) for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all trials' processes, waits for shared stages included."""
        return sum(cost_of(trial)["seconds"] for trial in self.trials)

    @property
    def peak_memory_mb(self) -> float:
        """The most that a process of any trial held, in MiB."""
        return max((cost_of(trial)["peak_memory_mb"] for trial in self.trials), default=0.0)


def state_of(trial: FrozenTrial) -> str:
    """The trial's state, one of `STATES`."""
    if trial.state == TrialState.FAIL:
        return "superseded" if is_superseded(trial) else "failed"
    return trial.state.name.lower()


def note_of(trial: FrozenTrial) -> str:
    """What else is to be said of the trial: its error, why it was superseded, or that nothing had to be fitted."""
    if trial.state == TrialState.FAIL:
        return error_of(trial) or reason_of(trial)
    return "cached" if trial.user_attrs.get(CACHED) else ""


def cost_of(trial: FrozenTrial) -> dict[str, float]:
    """Epochs, seconds and peak memory that the trial took."""
    return {"epochs": 0, "seconds": 0.0, "peak_memory_mb": 0.0, **trial.user_attrs.get(COST, {})}


def load_studies(where: str | Path | StudyStorage) -> list[StudySummary]:
    """All studies of a folder of journals, or of a database URL, by name; those of other programs are left out."""
    storage = where if isinstance(where, StudyStorage) else StudyStorage.at(where)
    return [summary for name in storage.names() if (summary := _summary(name, storage)) is not None]


def load_named(prefix: str, storage: StudyStorage) -> StudySummary:
    """The one study whose name begins so; `UsageError` if there is none, or more than one."""
    names = storage.names()
    found = [name for name in names if name == prefix] or [name for name in names if name.startswith(prefix)]
    if len(found) != 1:
        if not names:
            raise UsageError(f"a study must be named, but {storage.shown} holds none; make one with harness sweep")
        means = f"matches {len(found)}: {', '.join(found)}" if found else nearest(prefix, names)
        raise UsageError(f"'{prefix}' must mean one study in {storage.shown}, but {means}")
    summary = _summary(found[0], storage)
    if summary is None:
        raise StudyError(f"study '{found[0]}' was not made by harness sweep; name another")
    return summary


def _summary(name: str, storage: StudyStorage) -> StudySummary | None:
    with storage.reached():
        try:
            study = optuna.load_study(study_name=name, storage=storage.open(name))
        except KeyError:  # a journal that was begun, but holds no study yet
            return None
        if SWEEP not in study.user_attrs:
            return None
        trials = tuple(study.get_trials())
    return StudySummary(name, sweep_of(study), int(study.user_attrs[TRIALS]), trials, study)


def trials_frame(study: StudySummary) -> pl.DataFrame:
    """One row per trial: number, state, value (validation NDCG@10), recall, the searched fields, cost, note.

    The value is null unless the trial is complete; a searched field has the type of its values, null where the trial
    ended before it was picked.
    """
    fields = {name: _column_type(field) for name, field in study.sweep.space.fields.items()}
    rows = [
        (
            trial.number,
            state_of(trial),
            trial.value if trial.state == TrialState.COMPLETE else None,
            trial.user_attrs.get(RECALL),
            *(trial.params.get(name) for name in fields),
            *cost_of(trial).values(),
            note_of(trial),
        )
        for trial in study.trials
    ]
    return pl.DataFrame(rows, schema={**FRAME_HEAD, **fields, **FRAME_TAIL}, orient="row", strict=False)


def _column_type(field: Any) -> type[pl.DataType]:
    kinds = {type(field.low)} if isinstance(field, Range) else {type(value) for value in field.values} - {type(None)}
    if kinds <= {bool}:
        return pl.Boolean
    if kinds <= {int}:
        return pl.Int64
    return pl.Float64 if kinds <= {int, float} else pl.String


def importances(study: StudySummary) -> dict[str, float]:
    """Each searched field's share of what decides the score, greatest first; empty where that cannot be told.

    By PED-ANOVA, which works from few trials; at least `MIN_FOR_IMPORTANCE` complete ones that differ are needed.
    """
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(complete) < MIN_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                study.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError):  # all trials share the values of every field
            return {}
    return dict(found)
