"""Oracles: brute force over all labelings, scipy's matching of points to places, a linear program (HiGHS), and the
size bounds themselves."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog

from harness.errors import StageError
from harness.generative.tokenizer.constrained_kmeans import (
    assign_by_regret,
    assign_exactly,
    constrained_assignment,
    constrained_kmeans,
)


def sizes_of(labels: np.ndarray, num_clusters: int) -> np.ndarray:
    return np.bincount(labels, minlength=num_clusters)


def total(costs: np.ndarray, labels: np.ndarray) -> float:
    return float(costs[np.arange(len(costs)), labels].sum())


def lp_optimum(costs: np.ndarray, min_size: int, max_size: int) -> float:
    num_points, num_clusters = costs.shape
    each_point = sp.kron(sp.eye(num_points), np.ones((1, num_clusters)))
    each_cluster = sp.kron(np.ones((1, num_points)), sp.eye(num_clusters))
    bounds = np.concatenate([np.full(num_clusters, max_size), np.full(num_clusters, -min_size)])
    result = linprog(
        costs.ravel(), A_eq=each_point, b_eq=np.ones(num_points), A_ub=sp.vstack([each_cluster, -each_cluster]),
        b_ub=bounds, bounds=(0, 1), method="highs",
    )  # fmt: skip
    return float(result.fun)


def matched(costs: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """Labels of least total cost by matching points to `max_size` places per cluster.

    The first `min_size` places are cheaper by more than the range of costs, so that none of them stays empty.
    """
    bonus = 2 * np.ptp(costs) + 1
    discounts = np.where(np.arange(max_size) < min_size, bonus, 0.0)
    places = np.repeat(costs, max_size, axis=1) - np.tile(discounts, costs.shape[1])
    return np.asarray(linear_sum_assignment(places)[1] // max_size)


@pytest.mark.parametrize(("min_size", "max_size"), [(0, 7), (2, 3), (1, 4), (2, 5), (0, 3)])
def test_exact_assignment_equals_brute_force(min_size: int, max_size: int) -> None:
    costs = np.random.default_rng(min_size * 10 + max_size).random((7, 3))
    best = min(
        total(costs, np.array(labels))
        for labels in itertools.product(range(3), repeat=7)
        if min_size <= sizes_of(np.array(labels), 3).min() and sizes_of(np.array(labels), 3).max() <= max_size
    )
    labels = assign_exactly(costs, min_size, max_size)
    assert total(costs, labels) == pytest.approx(best)
    assert min_size <= sizes_of(labels, 3).min() <= sizes_of(labels, 3).max() <= max_size


def test_exact_assignment_of_256_codes_to_10_groups_equals_the_linear_program() -> None:
    costs = np.random.default_rng(0).random((256, 10)) + np.linspace(0, 1, 10)
    labels = constrained_assignment(costs, 10, 60)
    assert total(costs, labels) == pytest.approx(lp_optimum(costs, 10, 60))


@given(
    seed=st.integers(0, 2**32 - 1),
    clusters=st.integers(1, 9),
    min_size=st.integers(0, 6),
    width=st.integers(0, 8),
    fill=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    skew=st.sampled_from([0.0, 0.2, 1.0, 5.0]),
    is_tied=st.booleans(),
)
def test_exact_assignment_equals_a_matching_of_points_to_places(
    seed: int, clusters: int, min_size: int, width: int, fill: float, skew: float, is_tied: bool
) -> None:
    """`fill` 0 and 1 leave no freedom at all: every cluster has its least, or its largest, size."""
    max_size = max(min_size + width, 1)
    points = max(round(clusters * (min_size + fill * (max_size - min_size))), 1)
    stream = np.random.default_rng(seed)
    costs = stream.random((points, clusters)) + skew * stream.random(clusters)
    costs = np.floor(4 * costs) if is_tied else costs
    labels, oracle = assign_exactly(costs, min_size, max_size), matched(costs, min_size, max_size)
    assert min_size <= sizes_of(labels, clusters).min() <= sizes_of(labels, clusters).max() <= max_size
    assert total(costs, labels) == pytest.approx(total(costs, oracle), rel=1e-9)
    assert is_tied or np.array_equal(labels, oracle)


@pytest.mark.parametrize(("min_size", "max_size"), [(10, 60), (25, 26), (20, 60), (1, 27)])
def test_256_clustered_codes_get_the_labels_of_a_matching(min_size: int, max_size: int) -> None:
    stream = np.random.default_rng(max_size)
    blobs = stream.standard_normal((6, 32))
    points = blobs[stream.choice(6, 256, p=stream.dirichlet(np.ones(6)))] + 0.3 * stream.standard_normal((256, 32))
    costs = np.square(points[:, None] - points[:10]).sum(-1)
    sizes = sizes_of(costs.argmin(1), 10)
    assert sizes.min() < min_size or sizes.max() > max_size
    np.testing.assert_array_equal(assign_exactly(costs, min_size, max_size), matched(costs, min_size, max_size))


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 4), st.integers(0, 6), st.booleans())
def test_both_assignments_keep_the_bounds(seed: int, clusters: int, min_size: int, width: int, skewed: bool) -> None:
    stream = np.random.default_rng(seed)
    max_size = max(min_size + width, 1)
    points = int(stream.integers(clusters * min_size, clusters * max_size + 1))
    if points == 0:
        return
    costs = stream.random((points, clusters)) + (np.arange(clusters) * 3 if skewed else 0)
    for labels in (assign_exactly(costs, min_size, max_size), assign_by_regret(costs, min_size, max_size)):
        sizes = sizes_of(labels, clusters)
        assert min_size <= sizes.min() <= sizes.max() <= max_size


@pytest.mark.parametrize("seed", range(4))
def test_the_heuristic_is_within_5_percent_of_the_optimum_on_clustered_points(seed: int) -> None:
    stream = np.random.default_rng(seed)
    centers = stream.standard_normal((12, 8))
    points = centers[stream.choice(12, 600, p=stream.dirichlet(np.ones(12)))] + 0.5 * stream.standard_normal((600, 8))
    costs = np.square(points[:, None] - centers).sum(-1)
    heuristic, optimum = total(costs, assign_by_regret(costs, 20, 80)), lp_optimum(costs, 20, 80)
    assert costs.min(1).sum() < optimum <= heuristic + 1e-9
    assert heuristic <= 1.05 * optimum


def test_planted_clusters_within_the_bounds_are_found() -> None:
    stream = np.random.default_rng(2)
    truth = np.repeat(np.arange(5), 30)
    points = 20 * np.eye(5)[truth] + stream.standard_normal((150, 5))
    found = constrained_kmeans(points, 5, min_size=20, max_size=40, stream=stream)
    assert len(set(zip(truth, found.labels_N, strict=True))) == 5
    np.testing.assert_allclose(found.centers_KD[found.labels_N[::30]], points.reshape(5, 30, 5).mean(1))


def test_inertia_is_that_of_the_labels_and_more_restarts_never_raise_it() -> None:
    points = np.random.default_rng(3).standard_normal((80, 4))
    few, many = (
        constrained_kmeans(points, 6, min_size=8, max_size=20, stream=np.random.default_rng(0), restarts=restarts)
        for restarts in (1, 8)
    )
    assert many.inertia <= few.inertia
    by_hand = sum(float(((points[i] - many.centers_KD[k]) ** 2).sum()) for i, k in enumerate(many.labels_N))
    assert many.inertia == pytest.approx(by_hand)


def test_the_same_stream_gives_the_same_clusters() -> None:
    points = np.random.default_rng(4).standard_normal((120, 6))
    first, second = (
        constrained_kmeans(points, 7, min_size=10, max_size=30, stream=np.random.default_rng(9)) for _ in range(2)
    )
    assert np.array_equal(first.labels_N, second.labels_N)
    assert np.array_equal(first.centers_KD, second.centers_KD)


@pytest.mark.parametrize(("min_size", "max_size"), [(3, 9), (0, 1)])
def test_impossible_bounds_are_refused_in_one_line(min_size: int, max_size: int) -> None:
    with pytest.raises(StageError, match=r"must hold, but got 5 clusters") as error:
        constrained_kmeans(np.zeros((10, 2)), 5, min_size=min_size, max_size=max_size, stream=np.random.default_rng(0))
    assert "\n" not in str(error.value)
