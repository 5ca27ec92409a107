"""Mean reciprocal rank, cut at k, with one relevant item per user (METHODS A.8)."""

import numpy as np

from results.statistics.metrics.kinds import RankMetric, hits


def mrr(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) float64: 1 / rank where the target is among the first k, else 0."""
    return np.where(hits(ranks_U, k), 1.0 / np.maximum(ranks_U, 1), 0.0)


METRIC = RankMetric("MRR", mrr, order=2)
