"""The search itself: one coordinator, whose threads take trials from the study and run them as jobs in processes.

A trial is the method's config with some fields changed. Its missing stages are computed and its fitted recommender is
scored on the validation targets; the test split is never read. The coordinator alone talks to the study.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.config import merged
from harness.errors import HarnessError
from harness.experiment.place import Place
from harness.experiment.plan import Cell
from harness.experiment.run import stage_jobs
from harness.interfaces import Need, Progress
from harness.jobs.graph import Interrupted, Job, Observer, Outcome
from harness.jobs.local import run_jobs
from harness.methods import stage_of
from harness.stages import IN_USE, alive, is_held
from sweeps.pruning import Meter, Pruning
from sweeps.samplers import PRUNING_STARTUP_TRIALS, pruner_named, sampler_named
from sweeps.spaces import nested
from sweeps.storage import StudyStorage
from sweeps.study import TRIALS, Sweep, join
from sweeps.trials import (
    CACHED,
    COORDINATOR,
    COST,
    ERROR,
    ERRORS,
    INTERRUPTED,
    KILLED,
    REASON,
    RECALL,
    WITHDRAWN,
    best_of,
    counting,
    has_place,
    is_ended,
    owed,
    retry,
)
from sweeps.validation import score

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 1.0  # between looks at the study while all places are taken
SCORE, SECOND_SCORE = "NDCG@10", "Recall@10"
ERROR_OF_SCORE, ERROR_OF_SECOND = f"{SCORE} error", f"{SECOND_SCORE} error"


class Watch(NamedTuple):
    """What is told to whoever watches a search."""

    observer_of: Callable[[int, Cell], Observer]  # trial's number and cell → who hears of its jobs
    ended: Callable[[FrozenTrial, FrozenTrial | None], None]  # a trial that ended, and the best so far


class _NotCounted(Exception):
    """The trial ends without a result and without using up the budget."""


class _Failed(Exception):
    """The trial ends with an error of its own."""


def search(
    sweep: Sweep,
    cell: Cell,
    name: str,
    trials: int,
    place: Place,
    storage: StudyStorage,
    watch: Watch,
    startup_trials: int = PRUNING_STARTUP_TRIALS,
) -> None:
    """Runs the study until `trials` trials have ended, together with whoever else runs it.

    `cell` holds the config before a trial changes it; `startup_trials` are complete before the first is pruned. Raises
    `KeyboardInterrupt` when interrupted: its running trials are then queued again. `UsageError` and `StudyError` as in
    `sweeps.study.join`.
    """
    with storage.reached():
        study = join(sweep, name, trials, storage)
        study.sampler = sampler_named(sweep.sampler, sweep.seed)
        study.pruner = pruner_named(sweep.pruner, startup_trials)
        with alive(place.cache / IN_USE), presence(storage, name) as me:
            Coordinator(study, sweep, cell, place, storage, watch, me).run()


@contextmanager
def presence(storage: StudyStorage, study_name: str) -> Iterator[str]:
    """This coordinator's id. Beside a journal a lock is held while the block lasts, which tells that it is alive."""
    if storage.url:
        yield uuid.uuid4().hex[:12]
        return
    with alive(lock_path(storage, study_name, "").parent) as me:
        yield me


def lock_path(storage: StudyStorage, study_name: str, coordinator: str) -> Path:
    """The lock that a coordinator holds while it is alive."""
    return storage.folder / f"{study_name}.coordinators" / f"{coordinator}.lock"


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock; a free lock's file is removed."""
    if is_held(path):
        return False
    path.unlink(missing_ok=True)
    return True


@dataclass
class Coordinator:
    """Takes trials from the study, one per thread, and runs each one's jobs in processes."""

    study: optuna.Study
    sweep: Sweep
    cell: Cell
    place: Place
    storage: StudyStorage
    watch: Watch
    me: str
    claims: threading.Lock = field(default_factory=threading.Lock)  # one thread at a time looks and takes
    unclaimed_since: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        """Works until the study is complete."""
        reader, writer = Pipe(duplex=False)
        with reader, writer, ThreadPoolExecutor(self.place.jobs) as pool:
            futures = [pool.submit(self._work, reader) for _ in range(self.place.jobs)]
            try:
                # With a timeout, since a signal that another thread gets does not wake this one.
                while not any(future.done() and future.exception() for future in futures):
                    if not wait(futures, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION).not_done:
                        break
            finally:  # also where a thread failed: the others stop as if interrupted
                if not all(future.done() and future.exception() is None for future in futures):
                    writer.send(None)
                    wait(futures)
            for future in futures:
                future.result()

    def _work(self, interrupt: Connection) -> None:
        """One thread: trial after trial, waiting where others have taken all places."""
        while not interrupt.poll():
            with ExitStack() as claim:
                claim.enter_context(self.claims)
                trials = self._revived()
                budget = self._budget()
                if sum(map(is_ended, trials)) >= budget:
                    return
                if any(trial.state == TrialState.WAITING for trial in trials) or len(counting(trials)) < budget:
                    self._take(claim, interrupt)
                    continue
            interrupt.poll(POLL_SECONDS)

    def _take(self, claim: ExitStack, interrupt: Connection) -> None:
        """One trial, from the asking to the telling; the claim ends as soon as the trial is this coordinator's."""
        taken: list[int] = []

        def objective(trial: optuna.Trial) -> float:
            taken.append(trial.number)
            budget = self._budget()
            if not has_place(self.study.get_trials(deepcopy=False), trial.number, budget):
                trial.set_user_attr(WITHDRAWN, True)
                raise _NotCounted
            trial.set_user_attr(COORDINATOR, self.me)
            claim.close()
            return self._score(trial, interrupt)

        try:
            self.study.optimize(objective, n_trials=1, catch=(_NotCounted, _Failed))
        except (UpdateFinishedTrialError, ValueError):
            # Another coordinator took this one for dead, so the trial is in other hands.
            if not taken or not self.study.trials[taken[0]].state.is_finished():
                raise
            return
        ended = self.study.trials[taken[0]]
        if not ended.user_attrs.get(WITHDRAWN):
            self.watch.ended(ended, best_of(self.study.trials))

    def _budget(self) -> int:
        """The trials that the study is to have; another command may have raised the number."""
        return int(self.study.user_attrs[TRIALS])

    def _score(self, trial: optuna.Trial, interrupt: Connection) -> float:
        """Validation NDCG@10 of the trial's config; `TrialPruned`, `_NotCounted` or `_Failed` where none is had."""
        started = time.monotonic()
        meter = Meter()
        try:
            params = self.sweep.space.suggest(trial)
            known = self._known(params)
            scores = known or self._computed(trial, params, meter, interrupt)
            if known or not meter.has_fitted:
                trial.set_user_attr(CACHED, True)
        except Interrupted:
            trial.set_user_attr(REASON, INTERRUPTED)
            raise _NotCounted from None
        except HarnessError as error:
            trial.set_user_attr(ERROR, str(error))
            raise _Failed from None
        finally:
            trial.set_user_attr(COST, meter.cost(time.monotonic() - started))
        trial.set_user_attr(RECALL, scores[SECOND_SCORE])
        if ERROR_OF_SCORE in scores:
            trial.set_user_attr(ERRORS, [scores[ERROR_OF_SCORE], scores[ERROR_OF_SECOND]])
        return scores[SCORE]

    def _known(self, params: Mapping[str, Any]) -> dict[str, float] | None:
        """The scores of a complete trial with the same values."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if trial.params == params and trial.value is not None:
                errors = dict(zip((ERROR_OF_SCORE, ERROR_OF_SECOND), trial.user_attrs.get(ERRORS, ()), strict=False))
                return {SCORE: trial.value, SECOND_SCORE: trial.user_attrs[RECALL], **errors}
        return None

    def _computed(
        self, trial: optuna.Trial, params: Mapping[str, Any], meter: Meter, interrupt: Connection
    ) -> dict[str, float]:
        """The scores of the fitted config; the stages that it lacks are computed first, each in its own process."""
        cell = changed(self.cell, params)
        jobs = stage_jobs(cell.fit, self.place)
        key = cell.fit.key
        meter.has_fitted = key in jobs
        needs = jobs[key].needs if meter.has_fitted else ()
        jobs[key] = Job(key, partial(score, cell, self.place), needs)
        shown = self.watch.observer_of(trial.number, cell)
        pruning = Pruning(trial, cell.fit, self.place.store, meter)

        def message(key: str, epoch: Progress) -> None:
            shown.message(key, epoch)
            if key == cell.fit.key:
                pruning.heard(epoch)

        try:
            outcomes = run_jobs(
                jobs,
                processes=1,
                threads=self.place.threads,
                logs=self.place.cache / "logs",
                observer=shown._replace(message=message),
                interrupt=interrupt,
            )
        except (optuna.TrialPruned, Interrupted):
            shown.ended(key, Outcome("failed"))
            raise
        outcome = outcomes[key]
        if outcome.killed:
            trial.set_user_attr(REASON, KILLED)
            raise _NotCounted
        if outcome.status != "done":
            trial.set_user_attr(ERROR, outcome.error)
            raise _Failed
        if meter.has_fitted:
            meter.peak_memory_mb = max(meter.peak_memory_mb, self.place.store.record(cell.fit)["peak_memory_mb"])
        return dict(outcome.value)

    def _revived(self) -> list[FrozenTrial]:
        """All trials, after those of dead coordinators were failed and queued again."""
        if self.storage.url:
            optuna.storages.fail_stale_trials(self.study)
        trials = self.study.get_trials(deepcopy=False)
        stale = [trial for trial in trials if trial.state == TrialState.RUNNING and self._is_abandoned(trial)]
        for trial in stale:
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        if stale:
            trials = self.study.get_trials(deepcopy=False)
        unpaid = owed(trials)
        for trial in unpaid:
            retry(self.study, trial)
        return self.study.get_trials(deepcopy=False) if unpaid else trials

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether a running trial's coordinator is gone. A database's heartbeats tell of all but the unclaimed."""
        owner = trial.user_attrs.get(COORDINATOR)
        if owner is None:  # died between asking and claiming, unless it is about to claim it
            since = self.unclaimed_since.setdefault(trial.number, time.monotonic())
            return time.monotonic() - since > self.storage.grace_seconds
        return self.storage.url is None and is_free(lock_path(self.storage, self.study.study_name, owner))


def changed(cell: Cell, params: Mapping[str, Any]) -> Cell:
    """The cell with some fields of its config set; `UsageError` where they break a rule together."""
    config = merged(cell.config, nested(params), prefix=f"{cell.method}.")
    need = Need(cell.method, config)
    fit = stage_of(need, dataset=cell.fit.dataset, seed=cell.seed, conditions=cell.fit.conditions)
    return replace(cell, config=config, fit=fit)
