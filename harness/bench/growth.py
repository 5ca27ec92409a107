"""How fast a cost grows: the exponent of a power law, fitted to the logarithms of sizes and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEAST_POINTS = 3  # with two, every power law fits, and nothing says how well


class Growth(NamedTuple):
    """cost ∝ size ** exponent."""

    exponent: float
    error: float  # standard error of the exponent
    last: float  # the exponent between the two largest sizes, where constant parts of a cost matter least


def growth(sizes: Sequence[float], costs: Sequence[float]) -> Growth | None:
    """The least-squares line through (log size, log cost); None for fewer than three sizes with a positive cost."""
    from scipy.stats import linregress

    logs = sorted((np.log(size), np.log(cost)) for size, cost in zip(sizes, costs, strict=True) if cost > 0)
    if len({size for size, _ in logs}) < LEAST_POINTS:
        return None
    log_sizes, log_costs = np.array(logs).T
    line = linregress(log_sizes, log_costs)
    last = (log_costs[-1] - log_costs[-2]) / (log_sizes[-1] - log_sizes[-2])
    error = float(np.nan_to_num(line.stderr))  # scipy takes it from the correlation, which equal costs do not have
    return Growth(float(line.slope), error, float(last))
