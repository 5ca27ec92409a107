"""Recall, NDCG and MRR from the target's rank: one relevant item per user (METHODS A.8).

Shape legend: U users. A rank is 1-based; 0 says that the target is not in the list.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from results.errors import ResultsError

Metric = Callable[[np.ndarray, int], np.ndarray]


def recall(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) float64: 1 where the target is among the first k, else 0."""
    return _hits(ranks_U, k).astype(np.float64)


def ndcg(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) float64: 1 / log2(rank + 1) where the target is among the first k, else 0 (the ideal DCG is 1)."""
    return np.where(_hits(ranks_U, k), 1.0 / np.log2(np.maximum(ranks_U, 1) + 1.0), 0.0)


def mrr(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) float64: 1 / rank where the target is among the first k, else 0."""
    return np.where(_hits(ranks_U, k), 1.0 / np.maximum(ranks_U, 1), 0.0)


METRICS: dict[str, Metric] = {"Recall": recall, "NDCG": ndcg, "MRR": mrr}


class MetricValue(NamedTuple):
    """A metric's mean over all users."""

    metric: str
    k: int
    value: float


def user_values(ranks_U: np.ndarray, metric: str, k: int, list_length: int) -> np.ndarray:
    """(U,) float64 values of one metric at k.

    Raises `ResultsError` for an unknown metric, and for k greater than the length of the stored lists: a target
    beyond their end has no known rank.
    """
    if metric not in METRICS:
        raise ResultsError(f"unknown metric '{metric}'; known: {', '.join(METRICS)}")
    if not 1 <= k <= list_length:
        raise ResultsError(
            f"1 <= k <= list length must hold, but got {metric}@{k} and stored lists of {list_length} items; "
            "lower k, or run again with a larger top_k"
        )
    return METRICS[metric](ranks_U, k)


def metrics_from_ranks(ranks_U: np.ndarray, ks: Iterable[int] = (1, 5, 10), *, list_length: int) -> list[MetricValue]:
    """Every metric at every k, averaged over users; errors as in `user_values`, and for no users at all."""
    if len(ranks_U) == 0:
        raise ResultsError("an evaluation must hold at least one user, but the ranks are empty")
    return [
        MetricValue(metric, k, float(user_values(ranks_U, metric, k, list_length).mean()))
        for metric in METRICS
        for k in ks
    ]


def _hits(ranks_U: np.ndarray, k: int) -> np.ndarray:
    return (ranks_U > 0) & (ranks_U <= k)
