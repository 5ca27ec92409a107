"""What is heard of a trial's fit on the way: what it has cost so far, and scores by which it may be given up."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna

from harness.interfaces import Progress
from harness.stages import RESUME_FOLDER, Stage, StageStore, read_json


@dataclass
class Meter:
    """What a trial has taken so far."""

    has_fitted: bool = False  # it had to fit the method, at least in part
    peak_memory_mb: float = 0.0  # of the fit's process
    first: dict[str, int] = field(default_factory=dict)  # training → the epoch that it began with
    last: dict[str, int] = field(default_factory=dict)

    def note(self, epoch: Progress) -> None:
        """Counts an epoch of the fit."""
        self.first.setdefault(epoch.stage, epoch.epoch)
        self.last[epoch.stage] = epoch.epoch
        self.peak_memory_mb = max(self.peak_memory_mb, epoch.peak_memory_mb)

    def cost(self, seconds: float) -> dict[str, float]:
        """As it is recorded with the trial."""
        epochs = sum(self.last[stage] - self.first[stage] + 1 for stage in self.last)
        return {"epochs": epochs, "seconds": round(seconds, 3), "peak_memory_mb": round(self.peak_memory_mb, 1)}


@dataclass
class Pruning:
    """Reports a fit's validation scores to the study, and gives the trial up when the pruner says so."""

    trial: optuna.Trial
    fit: Stage
    store: StageStore
    meter: Meter
    step: int = 0  # scored evaluations so far

    def heard(self, epoch: Progress) -> None:
        """Takes a message of the fit; `TrialPruned` when the trial is to be given up."""
        if not self.meter.last:  # what an interrupted fit goes on from was scored too
            for score in scores_before(self.store, self.fit, epoch):
                self._report(score)
        self.meter.note(epoch)
        if epoch.score is not None:
            self._report(epoch.score)
            if self.trial.should_prune():
                raise optuna.TrialPruned

    def _report(self, score: float) -> None:
        self.step += 1
        self.trial.report(score, self.step)


def scores_before(store: StageStore, fit: Stage, epoch: Progress) -> list[float]:
    """The validation scores in a fit's checkpoints that lie before the epoch, in the order in which they were made."""
    folder = store.folder(fit)
    files = (folder.with_name(f"{folder.name}.partial") / RESUME_FOLDER).glob("*.json")
    rows = {
        (row["stage"], row["epoch"]): row["score"]  # a checkpoint that takes the place of another repeats its rows
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)
        for row in read_json(path)["history"]
    }
    return [
        score
        for (stage, number), score in rows.items()
        if score is not None and (stage != epoch.stage or number < epoch.epoch)
    ]
