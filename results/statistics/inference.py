"""Paired tests, effect sizes, intervals and sample sizes on per-user metric values.

Shape legend: S seeds, U users, C cases, D distinct columns of an (S, U) matrix, R random draws.

Two methods are compared on the same users. Where a method was run with several seeds, a user's value is first averaged
over the seeds, then paired by user: users are the unit of observation, so more seeds sharpen each value but do not
multiply the sample. A test on one seed says nothing about the randomness of training.

Where a user has several cases (`owners`), these are no independent sample: they are summed by user before a test
(`by_user`), and a bootstrap draws users with all their cases.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# SciPy is imported where it is used: its statistics alone take longer to import than a table takes to print.

ALPHA = 0.01  # a two-sided p below it is called significant, as in the paper's tables
POWER = 0.8  # the usual chance of a significant test that a sample size is planned for
POWER_NODES = 200  # at which a power is computed
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


class Effect(NamedTuple):
    """How large a paired difference is, beside how sure."""

    d_z: float | None  # mean / standard deviation (ddof = 1) of the differences; None where they do not vary
    better: float  # share of users whose value is higher on the first side
    worse: float
    equal: float
    gain: float | None  # relative: (first - second) / second; None where the second mean is 0


def fixed_random() -> np.random.Generator:
    """The stream of what is reported, so that the same data always give the same interval."""
    return np.random.default_rng(0)


def mean_over_seeds(values_SU: np.ndarray) -> np.ndarray:
    """(U,) each user's value, averaged over the seeds."""
    return values_SU.mean(axis=0)


def by_user(values_C: np.ndarray, owners_C: np.ndarray | None) -> np.ndarray:
    """(U,) the sum of each user's cases, so scaled that the mean over users is the mean over cases.

    `owners_C` tells the user of each case; None: each case is of another user, and the values are returned as they are.
    """
    if owners_C is None:
        return values_C
    users_C = np.unique(owners_C, return_inverse=True)[1]
    totals_U = np.bincount(users_C, weights=values_C)
    return totals_U * (len(totals_U) / len(values_C))


def paired_t_test(first_U: np.ndarray, second_U: np.ndarray) -> TestResult:
    """Student's paired t-test; p = 1 where no user differs (t is then 0/0) and where there is only one."""
    difference_U = _differences(first_U, second_U)
    if not difference_U.any() or len(difference_U) == 1:
        return TestResult(float(difference_U.mean()), 0.0, 1.0)
    from scipy.special import stdtr

    freedom = len(difference_U) - 1
    error = math.sqrt(difference_U.var(ddof=1) / len(difference_U))
    statistic = float(difference_U.mean()) / error if error else math.copysign(math.inf, difference_U.mean())
    return TestResult(float(difference_U.mean()), statistic, 2 * float(stdtr(freedom, -abs(statistic))))


def wilcoxon_test(first_U: np.ndarray, second_U: np.ndarray) -> TestResult:
    """Wilcoxon's signed-rank test without the users that do not differ; p = 1 where none does."""
    difference_U = _differences(first_U, second_U)
    if not difference_U.any():
        return TestResult(0.0, 0.0, 1.0)
    from scipy.stats import wilcoxon

    result = wilcoxon(difference_U, zero_method="wilcox")
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
    values_SC: np.ndarray,
    random: np.random.Generator,
    owners_C: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 2_000,
) -> Interval:
    """Percentile bootstrap of the mean: each draw resamples the users and, where there are several, the seeds.

    The mean is over cases; a user is drawn with all their cases (`owners_C`, as for `by_user`).

    Where all users have one value (no hit among them, say) the interval has no width: resampling cannot see what no
    user shows. What one seed leaves out, the randomness of training, is not in it.

    Few seeds put too little of it there:
    no draw of seeds lies beyond their least and greatest, so where training varies much more than users do, S seeds
    give a coverage of at most 1 - 2^(1 - S), whatever the level: 50 % for two, 75 % for three. Simulated 95 % intervals
    of normal seeds cover 83 % with five and 90 % with ten.
    """
    return _bootstrap([np.atleast_2d(values_SC)], [1.0], random, owners_C, level, draws)


def bootstrap_difference(
    first_SC: np.ndarray,
    second_SC: np.ndarray,
    random: np.random.Generator,
    owners_C: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 2_000,
) -> Interval:
    """Percentile bootstrap of mean(first) - mean(second): users are drawn in pairs, each side's seeds on their own.

    The sides may have different numbers of seeds. On few seeds and on `owners_C` see `bootstrap_interval`.
    """
    sides = [np.atleast_2d(first_SC), np.atleast_2d(second_SC)]
    return _bootstrap(sides, [1.0, -1.0], random, owners_C, level, draws)


def bootstrap_means(
    values_MSC: Sequence[np.ndarray],
    random: np.random.Generator,
    owners_C: np.ndarray | None = None,
    draws: int = 1_000,
) -> np.ndarray:
    """(R, M) means of M methods, each of (S, C) values with an S of its own, in bootstrap draws.

    A draw's users are the same for all methods, each with all their cases; each method's seeds are drawn on their own.
    """
    sizes_U = by_user(np.ones(values_MSC[0].shape[1]), owners_C)
    totals = [np.stack([by_user(values_C, owners_C) for values_C in values_SC]) for values_SC in values_MSC]
    share_U = np.full(len(sizes_U), 1 / len(sizes_U))
    blocks = []
    for block in _blocks(draws, len(sizes_U)):
        users_RU = random.multinomial(len(sizes_U), share_U, size=block)
        seeds = [random.multinomial(len(one), np.full(len(one), 1 / len(one)), size=block) / len(one) for one in totals]
        drawn = [((users_RU @ one.T) * seeds_RS).sum(axis=1) for one, seeds_RS in zip(totals, seeds, strict=True)]
        blocks.append(np.column_stack(drawn) / (users_RU @ sizes_U)[:, None])
    return np.concatenate(blocks)


def effect(first_U: np.ndarray, second_U: np.ndarray) -> Effect:
    """The size of the difference of the two sides."""
    difference_U = _differences(first_U, second_U)
    base = float(second_U.mean())
    std = float(difference_U.std(ddof=1)) if len(difference_U) > 1 else 0.0
    return Effect(
        d_z=float(difference_U.mean()) / std if std > 0 else None,
        better=float((difference_U > 0).mean()),
        worse=float((difference_U < 0).mean()),
        equal=float((difference_U == 0).mean()),
        gain=float(difference_U.mean()) / base if base else None,
    )


def paired_power(gap: float, std: float, num_users: int, alpha: float = ALPHA) -> float:
    """The chance that a paired two-sided t-test over so many users is significant if the true mean is `gap`.

    `std` is the standard deviation of the paired differences. Noncentral t, as for normal differences; with the many
    users of an evaluation, the central limit theorem makes it good for others.
    """
    return _power(gap * math.sqrt(num_users) / std, num_users - 1, alpha)


def users_needed(gap: float, std: float) -> int | None:
    """The least number of users for which `paired_power` reaches `POWER`; None for no gap, which none can resolve."""
    if gap == 0:
        return None
    return 2 if std == 0 else _least(lambda count: paired_power(gap, std, count) >= POWER)


def seeds_power(gap: float, stds: tuple[float, float], num_seeds: int, alpha: float = ALPHA) -> float:
    """The chance that a two-sample two-sided t-test over so many seeds on either side is significant.

    `stds` are the standard deviations of a seed's mean on either side. The seeds of two methods are not pairs: equal
    numbers make other draws in other models.
    """
    return _power(gap / math.sqrt((stds[0] ** 2 + stds[1] ** 2) / num_seeds), 2 * (num_seeds - 1), alpha)


def seeds_needed(gap: float, stds: tuple[float | None, float | None]) -> int | None:
    """The least number of seeds on either side for which `seeds_power` reaches `POWER`.

    None for no gap, and where a side's standard deviation is not known (None: it has one seed).
    """
    first, second = stds
    if gap == 0 or first is None or second is None:
        return None
    return 2 if first == second == 0 else _least(lambda count: seeds_power(gap, (first, second), count) >= POWER)


def error_over_users(values_C: np.ndarray, owners_C: np.ndarray | None = None) -> float:
    """The standard error of the mean over cases, for users drawn with all their cases; 0 for one user."""
    values_U = values_C if owners_C is None else by_user(values_C - values_C.mean(), owners_C)
    return float(values_U.std(ddof=1) / len(values_U) ** 0.5) if len(values_U) > 1 else 0.0


def std_over_seeds(values_SU: np.ndarray) -> float | None:
    """The standard deviation (ddof = 1) of the seeds' means; None for a single seed, which leaves it unknown."""
    return float(values_SU.mean(axis=1).std(ddof=1)) if len(values_SU) > 1 else None


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


def _bootstrap(
    sides: list[np.ndarray],
    signs: list[float],
    random: np.random.Generator,
    owners_C: np.ndarray | None,
    level: float,
    draws: int,
) -> Interval:
    """The signed sum of the sides' means, (S, C) each with an S of its own, and its percentile interval.

    Users with equal values on all sides are drawn together (multinomial counts of the distinct columns): the same
    distribution as user by user, for a fraction of the work. Where users have several cases, a draw's mean is over the
    cases of the users that it drew.
    """
    rows = [values_C for side in sides for values_C in side]
    rows += [] if owners_C is None else [np.ones(len(owners_C))]  # how many cases a user has
    table = np.stack([by_user(values_C, owners_C) for values_C in rows])
    num_users = table.shape[1]
    distinct_SD, counts_D = np.unique(table, axis=1, return_counts=True)
    sizes_D = None if owners_C is None else distinct_SD[-1]
    distinct_SD = distinct_SD if owners_C is None else distinct_SD[:-1]
    means = []
    for block in _blocks(draws, len(counts_D)):
        users_RD = random.multinomial(num_users, counts_D / num_users, size=block) / num_users
        weights = [
            sign * random.multinomial(len(side), np.full(len(side), 1 / len(side)), size=block) / len(side)
            for side, sign in zip(sides, signs, strict=True)
        ]
        means_R = ((np.concatenate(weights, axis=1) @ distinct_SD) * users_RD).sum(axis=1)
        means.append(means_R if sizes_D is None else means_R / (users_RD @ sizes_D))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    mean = sum(sign * float(side.mean()) for side, sign in zip(sides, signs, strict=True))
    return Interval(mean, float(low), float(high))


def _power(shift: float, freedom: int, alpha: float) -> float:
    """The chance that |t| exceeds its two-sided critical value, t being noncentral by `shift`.

    The mean over the standard deviation that the test estimates, by Gauss and Legendre at `POWER_NODES` quantiles of
    it: within 1e-8 of SciPy's noncentral F, whose module takes longer to import than all that a report computes.
    """
    if shift == 0:
        return alpha
    from scipy.special import chdtri, ndtr, stdtrit

    nodes, weights = _legendre(POWER_NODES)  # over -1 to 1
    x = (nodes + 1) / 2
    quantiles, density = x**2 * (3 - 2 * x), 6 * x * (1 - x)  # closer together at the ends, where deviations run away
    reach = -stdtrit(freedom, alpha / 2) * np.sqrt(chdtri(freedom, quantiles) / freedom)
    return float((weights * density / 2) @ (ndtr(shift - reach) + ndtr(-shift - reach)))


@functools.cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre over -1 to 1, kept: a sample size is found by some 30 powers."""
    return np.polynomial.legendre.leggauss(count)


def _least(suffices: Callable[[int], bool]) -> int:
    """The least count from 2 on that suffices, where every larger one does too."""
    high = 2
    while not suffices(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _differences(first_U: np.ndarray, second_U: np.ndarray) -> np.ndarray:
    assert first_U.shape == second_U.shape, "paired tests need the same users on both sides"
    return np.asarray(first_U, dtype=np.float64) - np.asarray(second_U, dtype=np.float64)


def _blocks(draws: int, width: int) -> list[int]:
    """How many draws to make at a time, so that a block stays within `MAX_CELLS`."""
    size = max(1, min(draws, MAX_CELLS // max(1, width)))
    full, rest = divmod(draws, size)
    return [size] * full + [rest] * bool(rest)
