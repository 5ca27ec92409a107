"""Oracles: scipy, exact enumeration, a slow loop, arithmetic by hand, coverage in simulation."""

from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import stats

from results.statistics.inference import (
    bootstrap_difference,
    bootstrap_interval,
    effect,
    holm,
    mean_over_seeds,
    paired_power,
    paired_t_test,
    permutation_test,
    seeds_needed,
    seeds_power,
    std_over_seeds,
    users_needed,
    wilcoxon_test,
)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    first = random.choice([0.0, 0.5, 0.63, 1.0], size=400, p=[0.7, 0.1, 0.1, 0.1])
    return first, np.where(random.random(400) < 0.8, first, random.choice([0.0, 0.5, 1.0], size=400))


def test_paired_t_test_equals_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ours, theirs = paired_t_test(*pair), stats.ttest_rel(*pair)
    assert (ours.statistic, ours.p_value) == (theirs.statistic, theirs.pvalue)
    assert ours.difference == pytest.approx(pair[0].mean() - pair[1].mean())


def test_paired_t_test_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 2 sqrt(3).
    result = paired_t_test(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert result.statistic == pytest.approx(2 * np.sqrt(3))


def test_wilcoxon_equals_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert wilcoxon_test(*pair).p_value == stats.wilcoxon(*pair).pvalue


@pytest.mark.parametrize("test", [paired_t_test, wilcoxon_test])
def test_equal_values_give_p_1_instead_of_nan(test: object) -> None:
    same = np.array([0.0, 1.0, 0.5])
    assert test(same, same) == (0.0, 0.0, 1.0)  # type: ignore[operator]


def test_permutation_test_agrees_with_every_sign_pattern_enumerated() -> None:
    difference = np.array([0.5, 0.5, -0.2, 0.9, 0.1, 0.5, -0.4, 0.3, 0.0])
    totals = np.array([np.dot(signs, difference) for signs in product([1, -1], repeat=len(difference))])
    exact = (np.abs(totals) >= abs(difference.sum()) - 1e-12).mean()
    result = permutation_test(difference, np.zeros(9), np.random.default_rng(0), draws=40_000)
    assert result.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_a_permutation_p_value_is_never_0_since_the_data_count_as_one_draw() -> None:
    result = permutation_test(np.ones(200), np.zeros(200), np.random.default_rng(0), draws=99)
    assert result.p_value == 1 / 100


def test_bootstrap_interval_agrees_with_a_plain_resampling_loop() -> None:
    random = np.random.default_rng(2)
    values = random.choice([0.0, 0.4, 1.0], size=(3, 300), p=[0.8, 0.1, 0.1]) + np.array([[0.0], [0.02], [0.05]])
    loop = [values[random.integers(3, size=3)][:, random.integers(300, size=300)].mean() for _ in range(8_000)]
    interval = bootstrap_interval(values, random, draws=8_000)
    assert interval.mean == pytest.approx(values.mean())
    np.testing.assert_allclose(
        [interval.low, interval.high], np.quantile(loop, [0.025, 0.975]), atol=3.6e-3
    )  # 4 standard errors of a quantile


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    truth, trials, covered = 0.3, 300, 0
    for _ in range(trials):
        interval = bootstrap_interval((random.random(250) < truth).astype(float), random, level=0.9, draws=400)
        covered += interval.low <= truth <= interval.high
    assert covered / trials == pytest.approx(0.9, abs=0.06)  # 3.5 standard errors


def test_bootstrap_in_small_blocks_draws_from_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random(200)
    whole = bootstrap_interval(values, np.random.default_rng(5))
    monkeypatch.setattr("results.statistics.inference.MAX_CELLS", 1_000)
    assert bootstrap_interval(values, np.random.default_rng(5)) == pytest.approx(whole)


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and none may be below the one before.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1.0, 1.0])
    assert holm(np.array([])).tolist() == []


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    random = np.random.default_rng(6)
    for _ in range(50):
        p_values, alpha = random.random(6) ** 3, 0.05
        rejected = np.zeros(6, dtype=bool)
        for place, index in enumerate(np.argsort(p_values)):
            if p_values[index] > alpha / (6 - place):
                break
            rejected[index] = True
        np.testing.assert_array_equal(holm(p_values) <= alpha, rejected)


def test_mean_over_seeds_keeps_users_apart() -> None:
    assert mean_over_seeds(np.array([[1.0, 0.0], [0.0, 0.0]])).tolist() == [0.5, 0.0]


def test_a_single_user_is_no_sample_to_test() -> None:
    assert paired_t_test(np.array([1.0]), np.array([0.25])) == (0.75, 0.0, 1.0)


def test_wilcoxon_by_hand() -> None:
    # Five differences of one sign: the rank sum of the other sign is 0, and 2 of the 2^5 patterns are as extreme.
    result = wilcoxon_test(np.arange(1.0, 6.0), np.zeros(5))
    assert (result.statistic, result.p_value) == (0.0, pytest.approx(2 / 32))


@pytest.mark.parametrize("num_users", [2, 5, 8, 12])
def test_the_permutation_test_agrees_with_all_sign_flips_of_any_small_sample(num_users: int) -> None:
    random = np.random.default_rng(num_users)
    signs = np.array(list(product([1, -1], repeat=num_users)))
    for _ in range(5):
        first, second = random.choice([0.0, 0.43, 0.5, 0.63, 1.0], size=(2, num_users))
        exact = (np.abs(signs @ (first - second)) >= abs((first - second).sum()) - 1e-12).mean()
        result = permutation_test(first, second, random, draws=20_000)
        assert result.p_value == pytest.approx(exact, abs=4.5 * np.sqrt(exact * (1 - exact) / 20_000) + 1 / 20_001)


def test_holm_equals_closed_testing_with_bonferroni() -> None:
    # Closed testing rejects a hypothesis if every intersection that holds it is rejected; Bonferroni's p of an
    # intersection of m is m times its least p. Holm's procedure is a shortcut for exactly this.
    random = np.random.default_rng(7)
    for size in (1, 2, 5, 7):
        p_values = random.random(size) ** 2
        subsets = [[i for i in range(size) if mask >> i & 1] for mask in range(1, 2**size)]
        intersections = {tuple(subset): min(1.0, len(subset) * p_values[subset].min()) for subset in subsets}
        expected = [max(p for subset, p in intersections.items() if i in subset) for i in range(size)]
        np.testing.assert_allclose(holm(p_values), expected)


def crossed(random: np.random.Generator, num_seeds: int, num_users: int, spread: float) -> np.ndarray:
    """(S, U) values with true mean 0: an effect per user and one per seed, whose standard deviation is `spread`."""
    users, seeds = random.normal(size=num_users), random.normal(scale=spread, size=(num_seeds, 1))
    return users + seeds + 0.5 * random.normal(size=(num_seeds, num_users))


def coverage(trials: int, num_seeds: int, num_users: int, spread: float) -> float:
    """The share of 95 % intervals that hold the true mean."""
    random = np.random.default_rng(8)
    held = 0
    for _ in range(trials):
        interval = bootstrap_interval(crossed(random, num_seeds, num_users, spread), random, draws=400)
        held += interval.low <= 0 <= interval.high
    return held / trials


def test_the_bootstrap_over_users_and_seeds_covers_as_it_says_where_users_vary_most() -> None:
    # The seeds' share of the variance of the mean is 0.01^2 / (1 / 100 + ...), about 1 %.
    assert coverage(400, num_seeds=3, num_users=100, spread=0.01) == pytest.approx(0.95, abs=0.045)


@pytest.mark.parametrize(("num_seeds", "expected"), [(2, 0.5), (3, 0.75), (5, 0.83)])
def test_where_seeds_vary_most_few_of_them_cover_much_less_than_they_say(num_seeds: int, expected: float) -> None:
    # Of 2 or 3 seeds the interval is their range, which misses the true mean when all lie on one side: 2^(1 - S).
    # Of 5, one draw in 3125 is as far as the range, so the interval lies within it and 1 - 2^-4 is only a bound; a
    # plain simulation of 6,000 normal samples without users gives 0.834.
    found = coverage(400, num_seeds, num_users=30, spread=20.0)
    assert found == pytest.approx(expected, abs=0.085)  # 3.5 standard errors
    assert found <= 1 - 2.0 ** (1 - num_seeds) + 0.085


def test_the_interval_of_a_difference_agrees_with_a_plain_resampling_loop_of_unequal_seeds() -> None:
    random = np.random.default_rng(9)
    first = random.choice([0.0, 0.4, 1.0], size=(3, 200), p=[0.8, 0.1, 0.1]) + np.array([[0.0], [0.02], [0.05]])
    second = random.choice([0.0, 0.4, 1.0], size=(2, 200), p=[0.7, 0.1, 0.2])
    loop = []
    for _ in range(6_000):
        users = random.integers(200, size=200)
        sides = [side[random.integers(len(side), size=len(side))][:, users].mean() for side in (first, second)]
        loop.append(sides[0] - sides[1])
    interval = bootstrap_difference(first, second, random, draws=6_000)
    assert interval.mean == pytest.approx(first.mean() - second.mean())
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(loop, [0.025, 0.975]), atol=6e-3)


def test_the_interval_of_a_difference_pairs_users() -> None:
    same = np.random.default_rng(10).random((1, 50))
    assert bootstrap_difference(same + 0.25, same, np.random.default_rng(0)) == pytest.approx((0.25, 0.25, 0.25))


def test_effect_by_hand() -> None:
    # Differences 1, 0, -0.5, 0.5: mean 0.25, squared deviations 1.25 in all, so a variance of 1.25 / 3.
    found = effect(np.array([1.0, 0.5, 0.0, 1.0]), np.array([0.0, 0.5, 0.5, 0.5]))
    assert found == pytest.approx((0.25 / np.sqrt(1.25 / 3), 0.5, 0.25, 0.25, 0.25 / 0.375))
    assert effect(np.array([1.0, 1.0]), np.array([0.0, 0.0])) == (None, 1.0, 0.0, 0.0, None)


def test_power_of_the_paired_test_agrees_with_simulated_samples() -> None:
    gap, std, num_users, alpha, trials = 0.4, 1.0, 40, 0.05, 20_000
    differences = np.random.default_rng(11).normal(gap, std, size=(trials, num_users))
    simulated = (stats.ttest_1samp(differences, 0.0, axis=1).pvalue < alpha).mean()
    assert paired_power(gap, std, num_users, alpha) == pytest.approx(simulated, abs=0.013)  # 4 standard errors
    assert paired_power(0.0, std, num_users, alpha) == pytest.approx(alpha)
    assert paired_power(1e-9, std, num_users, alpha) == pytest.approx(alpha)


@pytest.mark.parametrize("num_users", [2, 3, 6, 40, 1_000, 10**9])
def test_power_of_the_paired_test_is_that_of_scipys_noncentral_f(num_users: int) -> None:
    for shift in (1e-9, 0.3, 1.0, 2.5, 3.5, 8.0, 40.0):
        freedom = num_users - 1
        expected = stats.ncf.sf(stats.t.isf(0.005, freedom) ** 2, 1, freedom, shift**2)
        assert paired_power(shift / np.sqrt(num_users), 1.0, num_users, 0.01) == pytest.approx(expected, abs=1e-8)


def test_power_over_seeds_agrees_with_simulated_samples() -> None:
    gap, num_seeds, alpha, trials = 2.0, 5, 0.05, 20_000
    random = np.random.default_rng(12)
    first, second = random.normal(gap, 1.0, (trials, num_seeds)), random.normal(0.0, 1.0, (trials, num_seeds))
    simulated = (stats.ttest_ind(first, second, axis=1).pvalue < alpha).mean()
    assert seeds_power(gap, (1.0, 1.0), num_seeds, alpha) == pytest.approx(simulated, abs=0.013)


@pytest.mark.parametrize(("gap", "std"), [(0.0083, 0.2), (-0.3, 1.0), (5.0, 1.0)])
def test_the_users_needed_are_the_fewest_that_reach_the_power(gap: float, std: float) -> None:
    count = users_needed(gap, std)
    assert count is not None
    assert paired_power(gap, std, count) >= 0.8 > paired_power(gap, std, count - 1)
    normal = ((stats.norm.isf(0.005) + stats.norm.isf(0.2)) * std / gap) ** 2
    assert normal < count < normal + 6  # the normal approximation, a little too hopeful for few users


def test_one_sample_size_computes_the_nodes_of_its_powers_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Mock(wraps=np.polynomial.legendre.leggauss)
    monkeypatch.setattr(np.polynomial.legendre, "leggauss", nodes)
    assert users_needed(0.0083, 0.2) is not None
    assert nodes.call_count <= 1


def test_the_seeds_needed_are_the_fewest_that_reach_the_power_and_unknown_from_one_seed() -> None:
    count = seeds_needed(0.01, (0.005, 0.008))
    assert count is not None
    assert seeds_power(0.01, (0.005, 0.008), count) >= 0.8 > seeds_power(0.01, (0.005, 0.008), count - 1)
    assert seeds_needed(0.01, (None, 0.008)) is None
    assert seeds_needed(0.0, (0.005, 0.008)) is None
    assert users_needed(0.0, 1.0) is None


def test_the_standard_deviation_over_seeds_is_of_their_means_and_unknown_from_one() -> None:
    assert std_over_seeds(np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])) == pytest.approx(0.5)
    assert std_over_seeds(np.array([[1.0, 0.0]])) is None
