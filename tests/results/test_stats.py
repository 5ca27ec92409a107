"""Oracles: scipy, exact enumeration, a slow loop, arithmetic by hand, coverage in simulation."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from results.stats import (
    bootstrap_interval,
    holm,
    mean_over_seeds,
    paired_t_test,
    permutation_test,
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
    monkeypatch.setattr("results.stats.MAX_CELLS", 1_000)
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
