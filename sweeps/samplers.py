"""Which values a trial tries, and when it is given up: Optuna's samplers and pruners, seeded by the trial's number.

A trial's draws depend on the seed, its number and the trials before it, not on which coordinator makes it or on what
that one did before. So a sweep that was interrupted goes on as if it had not been, and two machines that begin with the
same seed do not draw the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from harness.seeding import derive_seed
from sweeps.study import Pruner, Sampler

PRUNING_STARTUP_TRIALS = 5  # complete trials before the first is pruned
FIRST_PRUNABLE_STEP = 2  # after a warm-up of one evaluation


class SeededByTrial(BaseSampler):
    """A sampler that is made anew for each draw, with a seed of its own."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int):
        self.make = make
        self.seed = seed

    def _sampler(self, trial: FrozenTrial, name: str) -> BaseSampler:
        return self.make(derive_seed(self.seed, "sweep", trial.number, name) % 2**32)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The fields that are drawn together."""
        return self._sampler(trial, "together").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the fields that are drawn together."""
        sampler = self._sampler(trial, "together")
        sampler.infer_relative_search_space(study, trial)  # TPE's later draw relies on what it finds here
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a field that is drawn alone."""
        return self._sampler(trial, param_name).sample_independent(study, trial, param_name, param_distribution)


def sampler_named(name: Sampler, seed: int) -> BaseSampler:
    """The study's sampler. A grid's points are queued when the study is made, so nothing is left to draw."""
    if name == "tpe":
        # A constant liar takes running trials for bad ones, so that parallel trials do not try the same.
        return SeededByTrial(lambda seed: TPESampler(seed=seed, constant_liar=True), seed)
    return SeededByTrial(lambda seed: RandomSampler(seed=seed), seed)


def pruner_named(name: Pruner, startup_trials: int = PRUNING_STARTUP_TRIALS) -> BasePruner:
    """The study's pruner; a trial's steps are its scored evaluations, counted from 1."""
    if name == "median":
        return MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=FIRST_PRUNABLE_STEP)
    return HyperbandPruner() if name == "hyperband" else NopPruner()
