"""Coverage of the catalog by the lists of all users."""

import numpy as np

from results.statistics.metrics.kinds import ListMetric


def coverage(items_UK: np.ndarray, k: int, num_items: int) -> float | None:
    """The share of the catalog's items that are among the first k of any user's list, in [0, 1]."""
    return len(np.setdiff1d(items_UK[:, :k], [0])) / num_items if num_items else None


METRIC = ListMetric("Coverage", coverage)
