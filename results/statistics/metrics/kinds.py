"""What a metric is. A module of this folder, or an entry point of the group `harness.metrics`, offers METRIC.

Shape legend: U users, K length of the stored lists, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankMetric:
    """A metric of the target's rank in each user's list: one relevant item per user."""

    name: str  # NDCG
    values: Callable[[np.ndarray, int], np.ndarray]  # (U,) ranks, 1-based, 0: not in the list; k → (U,) float64
    order: int = 100  # of metrics where all are shown
    aliases: tuple[str, ...] = ()  # other names under which it is known


@dataclass(frozen=True)
class ListMetric:
    """A metric of all users' lists together, whatever their targets: one number per run, so no paired test."""

    name: str  # Coverage
    # (U, K) items, best first, 0: no item; k; number of items of the catalog, 0: not known → None: not known
    value: Callable[[np.ndarray, int, int], float | None]
    order: int = 200


@dataclass(frozen=True)
class PopularityMetric:
    """A metric of all users' lists and of how often training has each item: one number per run, stored with it."""

    name: str  # Novelty
    # (U, K) items, best first, 0: no item; k; (N,) training interactions of items 1..N → None: not known
    value: Callable[[np.ndarray, int, np.ndarray], float | None]
    order: int = 300


Metric = RankMetric | ListMetric | PopularityMetric


def hits(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) bool: whether the target is among the first k."""
    return (ranks_U > 0) & (ranks_U <= k)
