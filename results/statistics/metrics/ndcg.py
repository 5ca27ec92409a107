"""Normalised discounted cumulative gain at k with one relevant item per user (METHODS A.8).

Source: Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20 (2002).
"""

import numpy as np

from results.statistics.metrics.kinds import RankMetric, hits


def ndcg(ranks_U: np.ndarray, k: int) -> np.ndarray:
    """(U,) float64: 1 / log2(rank + 1) where the target is among the first k, else 0 (the ideal DCG is 1)."""
    return np.where(hits(ranks_U, k), 1.0 / np.log2(np.maximum(ranks_U, 1) + 1.0), 0.0)


METRIC = RankMetric("NDCG", ndcg, order=1)
