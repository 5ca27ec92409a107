"""Recall at k with one relevant item per user, which is also the hit rate (METHODS A.8)."""

import numpy as np

from results.statistics.metrics.kinds import RankMetric, hits


def recall(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) float64: 1 where the target is among the first k, else 0."""
    return hits(ranks_U, k).astype(np.float64)


METRIC = RankMetric("Recall", recall, order=0, aliases=("HR",))
