"""Studies made up for the tests of figures: trials whose scores are given, kept in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from sweeps.spaces import Choices, Space
from sweeps.storage import quiet
from sweeps.study import Sweep
from sweeps.summaries import StudySummary
from sweeps.trials import COST, ERROR, RECALL

Trial = tuple[dict[str, Any], str, float | None]  # parameters; complete, pruned or failed; the score that it reached


def made_up_study(
    trials: Sequence[Trial],
    fields: Mapping[str, Sequence[Any]],
    *,
    config: Mapping[str, Any] | None = None,
    curve: str | None = None,
    seed: int = 0,
    ended: datetime = datetime(2025, 1, 1),
    cost: Mapping[str, float] | None = None,
) -> StudySummary:
    """A study of ETEGRec on `demo`; Recall@10 of a complete trial is twice its NDCG@10."""
    with quiet():
        study = optuna.create_study(direction="maximize")
        for params, state, value in trials:
            attributes: dict[str, Any] = {COST: cost or {"epochs": 4, "seconds": 1.0, "peak_memory_mb": 100.0}}
            attributes |= {RECALL: 2 * value} if state == "complete" and value is not None else {}
            attributes |= {ERROR: "it broke"} if state == "failed" else {}
            trial = optuna.create_trial(
                state={"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[state],
                value=value,
                params=params,
                distributions={name: CategoricalDistribution(list(fields[name])) for name in params},
                user_attrs=attributes,
                intermediate_values={} if value is None else {1: value},
            )
            trial.datetime_complete = ended
            study.add_trial(trial)
    sweep = Sweep(
        method="etegrec",
        version=1,
        dataset="demo",
        fingerprint="f00d",
        source={},
        preset="lite",
        recipe="default",
        tables={},
        text=None,
        config=dict(config or {}),
        contract={},
        precision="fp32",
        seed=seed,
        space=Space(method="etegrec", fields={name: Choices(values=tuple(values)) for name, values in fields.items()}),
        sampler="grid" if curve else "tpe",
        pruner="none",
        curve=curve,
    )
    return StudySummary(sweep.name, sweep, len(trials), tuple(study.get_trials()), study)
