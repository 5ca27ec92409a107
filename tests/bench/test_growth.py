"""Fitted exponents. Oracles: exact power laws, and numpy's own least squares with the textbook standard error."""

import numpy as np
import pytest

from harness.bench.growth import growth

SIZES = np.array([10.0, 30.0, 100.0, 300.0, 1000.0])


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_an_exact_power_law_is_found_without_error(exponent):
    found = growth(SIZES, 3.0 * SIZES**exponent)
    assert found is not None
    assert found == pytest.approx((exponent, 0.0, exponent), abs=1e-6)


def test_the_standard_error_of_a_noisy_power_law_is_that_of_the_textbook():
    costs = SIZES**1.2 * np.exp(np.random.default_rng(0).normal(0, 0.3, len(SIZES)))
    x, y = np.log(SIZES), np.log(costs)
    slope, intercept = np.polyfit(x, y, 1)
    residuals = y - slope * x - intercept
    error = np.sqrt((residuals**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    found = growth(SIZES, costs)
    assert found is not None
    assert (found.exponent, found.error) == pytest.approx((slope, error))


def test_a_constant_part_hides_growth_that_the_last_step_shows():
    found = growth(SIZES, 10_000.0 + SIZES**2)
    assert found is not None
    assert found.exponent < 1.2
    assert found.last == pytest.approx(np.log(1_010_000 / 100_000) / np.log(1000 / 300))


def test_the_order_of_the_sizes_does_not_matter():
    assert growth(SIZES[::-1], SIZES[::-1] ** 2) == pytest.approx(growth(SIZES, SIZES**2))


def test_fewer_than_three_sizes_and_costs_of_zero_give_no_fit():
    assert growth([1, 2], [1, 2]) is None
    assert growth([5, 5, 7, 7], [1, 1, 2, 2]) is None
    assert growth([1, 2, 3], [1, 2, 0]) is None
