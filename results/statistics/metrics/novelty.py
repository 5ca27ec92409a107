"""Novelty of the lists: how little known their items are.

Source: mean self-information; Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems",
PNAS 107 (2010).
"""

import numpy as np

from results.statistics.metrics.kinds import PopularityMetric


def novelty(items_UK: np.ndarray, k: int, counts_N: np.ndarray) -> float | None:
    """Mean of -log2((c + 1) / (C + N)) over the listed items, in bits.

    c is how often training has the item and C the sum of all c; the ones keep an item that training lacks finite.
    """
    bits_N = -np.log2((counts_N + 1.0) / (counts_N.sum() + len(counts_N)))
    listed = items_UK[:, :k]
    listed = listed[listed > 0]
    return float(bits_N[listed - 1].mean()) if len(listed) else None


METRIC = PopularityMetric("Novelty", novelty)
