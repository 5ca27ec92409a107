"""Paired tests and intervals on per-user metric values.

Shape legend: S seeds, U users, D distinct columns of an (S, U) matrix, R random draws.

Two methods are compared on the same users. Where a method was run with several seeds, a user's value is first averaged
over the seeds, then paired by user: users are the unit of observation, so more seeds sharpen each value but do not
multiply the sample. A test on one seed says nothing about the randomness of training.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

MAX_CELLS = 1 << 23  # elements of a block of random draws, to bound memory


class TestResult(NamedTuple):
    """A paired, two-sided test of `first - second`."""

    difference: float  # mean over users
    statistic: float
    p_value: float


class Interval(NamedTuple):
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float


def mean_over_seeds(values_SU: np.ndarray) -> np.ndarray:
    """(U,) each user's value, averaged over the seeds."""
    return values_SU.mean(axis=0)


def paired_t_test(first_U: np.ndarray, second_U: np.ndarray) -> TestResult:
    """Student's paired t-test; p = 1 where no user differs (t is then 0/0)."""
    difference_U = _differences(first_U, second_U)
    if not difference_U.any():
        return TestResult(0.0, 0.0, 1.0)
    statistic, p_value = stats.ttest_rel(first_U, second_U)
    return TestResult(float(difference_U.mean()), float(statistic), float(p_value))


def wilcoxon_test(first_U: np.ndarray, second_U: np.ndarray) -> TestResult:
    """Wilcoxon's signed-rank test without the users that do not differ; p = 1 where none does."""
    difference_U = _differences(first_U, second_U)
    if not difference_U.any():
        return TestResult(0.0, 0.0, 1.0)
    result = stats.wilcoxon(difference_U, zero_method="wilcox")
    return TestResult(float(difference_U.mean()), float(result.statistic), float(result.pvalue))


def permutation_test(
    first_U: np.ndarray, second_U: np.ndarray, random: np.random.Generator, draws: int = 10_000
) -> TestResult:
    """Paired permutation test of the mean: each user's two values are swapped by a fair coin.

    p = (1 + draws at least as extreme) / (1 + draws). Users with equal |difference| are drawn together: the number of
    them that keep their sign is binomial, which gives the same distribution without a coin per user.
    """
    difference_U = _differences(first_U, second_U)
    # Rounded so that differences equal but for the last bits count as one size.
    sizes_D, counts_D = np.unique(np.abs(difference_U).round(12), return_counts=True)
    total = difference_U.sum()
    extreme = 0
    for block in _blocks(draws, len(sizes_D)):
        kept_RD = random.binomial(counts_D, 0.5, size=(block, len(sizes_D)))
        totals_R = (2 * kept_RD - counts_D) @ sizes_D
        extreme += int((np.abs(totals_R) >= abs(total) - 1e-9).sum())
    return TestResult(float(difference_U.mean()), float(difference_U.mean()), (1 + extreme) / (1 + draws))


def bootstrap_interval(
    values_SU: np.ndarray, random: np.random.Generator, level: float = 0.95, draws: int = 2_000
) -> Interval:
    """Percentile bootstrap of the mean: each draw resamples the users and, where there are several, the seeds.

    Give per-user differences for the interval of a difference. Users with equal values are drawn together
    (multinomial counts of the distinct columns): the same distribution, for a fraction of the work.
    """
    values_SU = np.atleast_2d(values_SU)
    num_seeds, num_users = values_SU.shape
    distinct_SD, counts_D = np.unique(values_SU, axis=1, return_counts=True)
    means = []
    for block in _blocks(draws, len(counts_D)):
        users_RD = random.multinomial(num_users, counts_D / num_users, size=block) / num_users
        seeds_RS = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=block) / num_seeds
        means.append(((seeds_RS @ distinct_SD) * users_RD).sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values_SU.mean()), float(low), float(high))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given.

    Sorted ascending, the i-th of m (from 0) becomes max over j <= i of min(1, (m - j) p_j).
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def _differences(first_U: np.ndarray, second_U: np.ndarray) -> np.ndarray:
    assert first_U.shape == second_U.shape, "paired tests need the same users on both sides"
    return np.asarray(first_U, dtype=np.float64) - np.asarray(second_U, dtype=np.float64)


def _blocks(draws: int, width: int) -> list[int]:
    """How many draws to make at a time, so that a block stays within `MAX_CELLS`."""
    size = max(1, min(draws, MAX_CELLS // max(1, width)))
    full, rest = divmod(draws, size)
    return [size] * full + [rest] * bool(rest)
