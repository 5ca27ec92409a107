"""K-means whose clusters have a least and a largest size (METHODS B.4).

Shape legend: N points, K clusters, D width, M some of the points, V nodes of a graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.errors import StageError

EXACT_LIMIT = 500_000  # points times places up to which an assignment is solved exactly; the heuristic is faster above
REPRICINGS = 10  # single discounts that are set before shortest paths do the rest; more no longer paid


@dataclass(frozen=True)
class Clusters:
    """A clustering: `centers_KD` float64, `labels_N` int64, and the sum of squared distances to own centres."""

    centers_KD: np.ndarray
    labels_N: np.ndarray
    inertia: float


def constrained_kmeans(
    points_ND: np.ndarray,
    num_clusters: int,
    *,
    min_size: int,
    max_size: int,
    stream: np.random.Generator,
    iterations: int = 10,
    restarts: int = 10,
) -> Clusters:
    """The best of `restarts` clusterings, each cluster holding `min_size` to `max_size` points.

    Every restart begins at k-means++ centres and alternates constrained assignment and means until the labels
    stay or `iterations` are done. The assignment is exact up to `EXACT_LIMIT`, else a heuristic
    (`assign_by_regret`); the size bounds hold in both.
    Raises `StageError` where no clustering can satisfy the bounds.
    """
    if not 0 <= num_clusters * min_size <= len(points_ND) <= num_clusters * max_size:
        raise StageError(
            f"num_clusters * min_size <= points <= num_clusters * max_size must hold, but got {num_clusters} "
            f"clusters of {min_size} to {max_size} for {len(points_ND)} points; change the sizes or the clusters"
        )
    points_ND = np.asarray(points_ND, dtype=np.float64)
    starts = [int(stream.integers(2**32)) for _ in range(restarts)]
    runs = [_one_run(points_ND, num_clusters, min_size, max_size, start, iterations) for start in starts]
    return min(runs, key=lambda run: run.inertia)


def _one_run(
    points_ND: np.ndarray, num_clusters: int, min_size: int, max_size: int, start: int, iterations: int
) -> Clusters:
    """One restart of `constrained_kmeans`."""
    from sklearn.cluster import kmeans_plusplus  # over a second, which commands that fit nothing need not wait

    centers_KD, _ = kmeans_plusplus(points_ND, num_clusters, random_state=start)
    labels_N = np.full(len(points_ND), -1)
    for _ in range(iterations):
        previous_N = labels_N
        labels_N = constrained_assignment(_squared_distances(points_ND, centers_KD), min_size, max_size)
        centers_KD = _means(points_ND, labels_N, centers_KD)
        if np.array_equal(labels_N, previous_N):
            break
    inertia = float(np.square(points_ND - centers_KD[labels_N]).sum())
    return Clusters(centers_KD, labels_N, inertia)


def constrained_assignment(costs_NK: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """(N,) int64 cluster of each point at (nearly) the least total cost, with cluster sizes within the bounds."""
    num_points, num_clusters = costs_NK.shape
    assert num_clusters * min_size <= num_points <= num_clusters * max_size, "the bounds are feasible"
    labels_N = costs_NK.argmin(1)
    sizes_K = np.bincount(labels_N, minlength=num_clusters)
    if min_size <= sizes_K.min() and sizes_K.max() <= max_size:
        return labels_N  # the free optimum is the constrained one
    slots = min(max_size, num_points)
    if num_points * num_clusters * slots <= EXACT_LIMIT:
        return assign_exactly(costs_NK, min_size, slots)
    return assign_by_regret(costs_NK, min_size, max_size)


def assign_exactly(costs_NK: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """(N,) int64 labels of the least total cost under the bounds; of several, always the same one.

    The problem is a minimum-cost flow. Its dual variables are a discount per cluster (negative: a surcharge): labels
    are optimal where every point has its cheapest cluster after discounts, discounted clusters have `min_size`
    points, surcharged ones `max_size`, and the others a size within the bounds. A few discounts, set one at a time,
    come near that; the points that are still too many or too few then move along shortest paths from cluster to
    cluster (Ahuja, Magnanti and Orlin, Network Flows, 1993, section 9.7).
    """
    assert np.isfinite(costs_NK).all(), "costs are finite"
    labels_N, discounts_K = _discounted(costs_NK, min_size, max_size)
    return _rerouted(costs_NK, labels_N, discounts_K, min_size, max_size)


def _discounted(costs_NK: np.ndarray, min_size: int, max_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) each point's cheapest cluster after discounts, and (K,) discounts near those of the optimum.

    In each of at most `REPRICINGS` rounds, the cluster whose size is furthest from its due gets the discount nearest
    to 0 that brings its size within the bounds, the other discounts staying.
    """
    num_points, num_clusters = costs_NK.shape
    points_N = np.arange(num_points)
    labels_N, discounts_K = costs_NK.argmin(1), np.zeros(num_clusters)
    for _ in range(REPRICINGS):
        sizes_K = np.bincount(labels_N, minlength=num_clusters)
        excess_K = sizes_K - _due_sizes(sizes_K, discounts_K, min_size, max_size)
        if not excess_K.any():
            break
        cluster = int(np.abs(excess_K).argmax())
        elsewhere_NK = costs_NK - discounts_K
        elsewhere_NK[:, cluster] = np.inf
        others_N = elsewhere_NK.argmin(1)
        thresholds_N = costs_NK[:, cluster] - elsewhere_NK[points_N, others_N]  # a higher discount wins the point
        discounts_K[cluster] = _discount_within(np.sort(thresholds_N), min_size, max_size)
        labels_N = np.where(thresholds_N < discounts_K[cluster], cluster, others_N)
    return labels_N, discounts_K


def _discount_within(thresholds_N: np.ndarray, min_size: int, max_size: int) -> float:
    """The discount nearest to 0 that wins `min_size` to `max_size` of the ascending thresholds.

    It lies midway between two of them, so that the cluster ties with no point.
    """
    least = thresholds_N[min_size - 1 : min_size + 1].mean() if min_size > 0 else -np.inf
    most = thresholds_N[max_size - 1 : max_size + 1].mean() if max_size < len(thresholds_N) else np.inf
    return float(min(max(0.0, least), most))


def _due_sizes(sizes_K: np.ndarray, discounts_K: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """(K,) the size that optimal labels with these discounts would have, or nearest to it (complementary slackness)."""
    least_K = np.where(discounts_K < 0, max_size, min_size)
    most_K = np.where(discounts_K > 0, min_size, max_size)
    return np.minimum(np.maximum(sizes_K, least_K), most_K)


def _rerouted(
    costs_NK: np.ndarray, labels_N: np.ndarray, discounts_K: np.ndarray, min_size: int, max_size: int
) -> np.ndarray:
    """(N,) optimal labels, from labels that give every point its cheapest cluster after discounts.

    Nodes are the clusters and, last, a hub by which a cluster below `max_size` takes a point in while another gives
    one up. One shortest path after the other takes a point from a node with too many to one with too few.
    """
    num_points, num_clusters = costs_NK.shape
    hub = num_clusters
    sizes_K = np.bincount(labels_N, minlength=num_clusters)
    dues_K = _due_sizes(sizes_K, discounts_K, min_size, max_size)
    excess_V = np.append(sizes_K - dues_K, dues_K.sum() - num_points)
    if not excess_V.any():
        return labels_N
    labels_N, discounts_V = labels_N.copy(), np.append(discounts_K, 0.0)
    rises_VV = np.full((hub + 1, hub + 1), np.inf)
    movers_KK = np.empty((hub, hub), dtype=np.int64)
    stale = set(range(num_clusters))
    while excess_V.any():
        for cluster in stale:
            rises_VV[cluster, :hub], movers_KK[cluster] = _cheapest_moves(costs_NK, labels_N, cluster)
        rises_VV[:hub, hub] = np.where(dues_K < max_size, 0.0, np.inf)
        rises_VV[hub, :hub] = np.where(dues_K > min_size, 0.0, np.inf)
        lengths_VV = np.maximum(rises_VV + (discounts_V[:, None] - discounts_V), 0)  # below 0 by rounding only
        distances_V, previous_V = _shortest_paths(lengths_VV, excess_V > 0)
        end = int(np.where(excess_V < 0, distances_V, np.inf).argmin())
        discounts_V += np.minimum(distances_V, distances_V[end])
        discounts_V -= discounts_V[hub]
        path = _path_to(end, previous_V)
        for source, target in pairwise(path):
            if target == hub:
                dues_K[source] += 1
            elif source == hub:
                dues_K[target] -= 1
            else:
                labels_N[movers_KK[source, target]] = target
        excess_V[path[0]] -= 1
        excess_V[end] += 1
        stale = set(path) - {hub}
    return labels_N


def _cheapest_moves(costs_NK: np.ndarray, labels_N: np.ndarray, cluster: int) -> tuple[np.ndarray, np.ndarray]:
    """(K,) the least rise of the total by which a point of `cluster` enters each other one, and (K,) that point."""
    members_M = np.flatnonzero(labels_N == cluster)
    num_clusters = costs_NK.shape[1]
    if not len(members_M):
        return np.full(num_clusters, np.inf), np.zeros(num_clusters, dtype=np.int64)
    costs_MK = costs_NK[members_M]
    rises_MK = costs_MK - costs_MK[:, cluster, None]
    cheapest_K = rises_MK.argmin(0)
    return rises_MK[cheapest_K, np.arange(num_clusters)], members_M[cheapest_K]


def _shortest_paths(lengths_VV: np.ndarray, is_start_V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V,) distances from the nearest start and (V,) the nodes before, -1 at a start (Bellman and Ford).

    Lengths must not be negative; the nodes before then make no cycle, whatever the rounding.
    """
    nodes_V = np.arange(len(lengths_VV))
    distances_V, previous_V = np.where(is_start_V, 0.0, np.inf), np.full(len(lengths_VV), -1)
    while True:
        through_VV = distances_V[:, None] + lengths_VV
        nearest_V = through_VV.argmin(0)
        found_V = through_VV[nearest_V, nodes_V]
        is_nearer_V = found_V < distances_V
        if not is_nearer_V.any():
            return distances_V, previous_V
        distances_V = np.where(is_nearer_V, found_V, distances_V)
        previous_V = np.where(is_nearer_V, nearest_V, previous_V)


def _path_to(end: int, previous_V: np.ndarray) -> list[int]:
    """The nodes from a start to `end`."""
    path = [end]
    while previous_V[path[-1]] >= 0:
        path.append(int(previous_V[path[-1]]))
    return path[::-1]


def assign_by_regret(costs_NK: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """(N,) int64 labels within the bounds at a low, not always the least, total cost.

    Every point starts in its cheapest cluster. Then points leave overfull clusters for clusters with room, and
    points of clusters that can spare them enter those that lack some, cheapest moves first. A move's cost is
    the rise of the total. With sizes free between 0.4 and 1.6 times the average, the total has been within 5 % of the
    optimum on clustered points; with less freedom it can be a fifth above it.
    """
    labels_N = costs_NK.argmin(1)
    labels_N = _empty_overfull(costs_NK, labels_N, max_size)
    return _fill_underfull(costs_NK, labels_N, min_size)


def _empty_overfull(costs_NK: np.ndarray, labels_N: np.ndarray, max_size: int) -> np.ndarray:
    """(N,) labels with no cluster above `max_size`: in each round, the excess of every overfull cluster moves."""
    labels_N = labels_N.copy()
    num_clusters = costs_NK.shape[1]
    while True:
        sizes_K = np.bincount(labels_N, minlength=num_clusters)
        excess_K = np.maximum(sizes_K - max_size, 0)
        if not excess_K.any():
            return labels_N
        room_K = np.maximum(max_size - sizes_K, 0)
        movers_M = np.flatnonzero(excess_K[labels_N])
        open_costs_MK = np.where(room_K > 0, costs_NK[movers_M], np.inf)
        targets_M = open_costs_MK.argmin(1)
        regrets_M = open_costs_MK.min(1) - costs_NK[movers_M, labels_N[movers_M]]
        order_M = np.argsort(regrets_M, kind="stable")
        leaving_M = order_M[_within_quota(labels_N[movers_M][order_M], excess_K)]
        entering_M = leaving_M[_within_quota(targets_M[leaving_M], room_K)]
        labels_N[movers_M[entering_M]] = targets_M[entering_M]


def _fill_underfull(costs_NK: np.ndarray, labels_N: np.ndarray, min_size: int) -> np.ndarray:
    """(N,) labels with no cluster below `min_size`: in each round, each point that can be spared asks for the one
    that lacks points and costs it least."""
    labels_N = labels_N.copy()
    num_clusters = costs_NK.shape[1]
    while True:
        sizes_K = np.bincount(labels_N, minlength=num_clusters)
        lack_K = np.maximum(min_size - sizes_K, 0)
        if not lack_K.any():
            return labels_N
        spare_K = np.maximum(sizes_K - min_size, 0)
        movers_M = np.flatnonzero(spare_K[labels_N])
        lacking = np.flatnonzero(lack_K)
        lacking_costs_MJ = costs_NK[np.ix_(movers_M, lacking)]
        targets_M = lacking[lacking_costs_MJ.argmin(1)]
        regrets_M = lacking_costs_MJ.min(1) - costs_NK[movers_M, labels_N[movers_M]]
        order_M = np.argsort(regrets_M, kind="stable")
        leaving_M = order_M[_within_quota(labels_N[movers_M][order_M], spare_K)]
        entering_M = leaving_M[_within_quota(targets_M[leaving_M], lack_K)]
        labels_N[movers_M[entering_M]] = targets_M[entering_M]


def _within_quota(groups_M: np.ndarray, quotas_K: np.ndarray) -> np.ndarray:
    """(M,) bool: whether an entry is among the first `quotas_K[g]` entries of its group g."""
    order_M = np.argsort(groups_M, kind="stable")
    sorted_M = groups_M[order_M]
    ranks_M = np.empty(len(groups_M), dtype=np.int64)
    ranks_M[order_M] = np.arange(len(groups_M)) - np.searchsorted(sorted_M, sorted_M)
    return ranks_M < quotas_K[groups_M]


def _squared_distances(points_ND: np.ndarray, centers_KD: np.ndarray) -> np.ndarray:
    """(N, K) squared Euclidean distances."""
    norms_NK = np.square(points_ND).sum(1)[:, None] + np.square(centers_KD).sum(1)
    return np.maximum(norms_NK - 2 * points_ND @ centers_KD.T, 0)


def _means(points_ND: np.ndarray, labels_N: np.ndarray, centers_KD: np.ndarray) -> np.ndarray:
    """(K, D) each cluster's mean; an empty cluster keeps its centre."""
    sizes_K = np.bincount(labels_N, minlength=len(centers_KD))
    order_N = np.argsort(labels_N, kind="stable")
    filled = np.flatnonzero(sizes_K)
    starts = (np.cumsum(sizes_K) - sizes_K)[filled]
    means_KD = centers_KD.copy()
    means_KD[filled] = np.add.reduceat(points_ND[order_N], starts) / sizes_K[filled, None]
    return means_KD
