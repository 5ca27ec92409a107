"""What the trials of a study count for. Everything follows from the stored trials, so all coordinators agree.

A study's budget is a number of trials that end: complete, pruned, or failed with an error of their own. A trial whose
process was killed, or whose coordinator went away, is *superseded*: it is stored as failed without an error, and a new
trial with the same parameters takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna import Study

MAX_RETRIES = 3

# User attributes of a trial.
COORDINATOR = "coordinator"  # who runs it
RECALL = "recall"  # validation Recall@10
ERRORS = "errors"  # standard errors over users: of NDCG@10, of Recall@10
COST = "cost"  # epochs, seconds, peak_memory_mb
CACHED = "cached"  # nothing was fitted: an equal trial had been
ERROR = "error"  # one line; the trial's own failure, which counts
REASON = "reason"  # why a superseded trial did not end
WITHDRAWN = "withdrawn"  # begun by two coordinators at once where one place was left

# System attributes of a retry; the first two are Optuna's own, so that its functions read them.
FAILED_TRIAL = "failed_trial"  # number of the first of the chain
RETRY_HISTORY = "retry_history"  # numbers of the chain, in order
ATTEMPTS = "attempts"  # how many of them count as attempts: interrupts do not

KILLED = "its process was killed"
INTERRUPTED = "interrupted"
GONE = "its coordinator went away"


def attempts(trial: FrozenTrial) -> int:
    """How often the trial's parameters had been tried before it."""
    return int(trial.system_attrs.get(ATTEMPTS, 0))


def error_of(trial: FrozenTrial) -> str | None:
    """The error with which the trial counts as failed; None for any other trial."""
    if trial.state != TrialState.FAIL or trial.user_attrs.get(WITHDRAWN):
        return None
    if ERROR in trial.user_attrs:
        return str(trial.user_attrs[ERROR])
    if attempts(trial) >= MAX_RETRIES and reason_of(trial) != INTERRUPTED:
        return f"{reason_of(trial)}, {MAX_RETRIES + 1} times in a row"
    return None


def reason_of(trial: FrozenTrial) -> str:
    """Why a superseded trial did not end."""
    return str(trial.user_attrs.get(REASON, GONE))


def is_superseded(trial: FrozenTrial) -> bool:
    """Whether another trial takes its place, or has taken it."""
    return trial.state == TrialState.FAIL and error_of(trial) is None


def is_ended(trial: FrozenTrial) -> bool:
    """Whether the trial ended and counts."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or error_of(trial) is not None


def best_of(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the highest validation NDCG@10, the first of equals; None where none is complete."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def owed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Superseded trials that no trial has taken the place of yet."""
    retried = {_retried(trial) for trial in trials}
    return [
        trial
        for trial in trials
        if is_superseded(trial) and not trial.user_attrs.get(WITHDRAWN) and trial.number not in retried
    ]


def counting(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that use up the budget, by number: ended, running, waiting, or owed a retry."""
    waiting_for_retry = {trial.number for trial in owed(trials)}
    places, seen = [], set()
    for trial in sorted(trials, key=lambda trial: trial.number):
        retried = _retried(trial)
        is_second = retried is not None and retried in seen  # two coordinators retried the same trial
        seen.add(retried)
        if is_second or trial.user_attrs.get(WITHDRAWN):
            continue
        if not is_superseded(trial) or trial.number in waiting_for_retry:
            places.append(trial)
    return places


def has_place(trials: Sequence[FrozenTrial], number: int, budget: int) -> bool:
    """Whether the trial is among the first `budget` that count."""
    return number in {trial.number for trial in counting(trials)[:budget]}


def retry(study: Study, trial: FrozenTrial) -> None:
    """Queues a trial with the parameters of a superseded one."""
    history = [*trial.system_attrs.get(RETRY_HISTORY, []), trial.number]
    tried = attempts(trial) + (reason_of(trial) != INTERRUPTED)
    attributes: dict[str, Any] = {
        **trial.system_attrs,
        FAILED_TRIAL: history[0],
        RETRY_HISTORY: history,
        ATTEMPTS: tried,
    }
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs={**attributes, "fixed_params": {**attributes.get("fixed_params", {}), **trial.params}},
        )
    )


def _retried(trial: FrozenTrial) -> int | None:
    history = trial.system_attrs.get(RETRY_HISTORY)
    return history[-1] if history else None
