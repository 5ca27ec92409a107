"""Learning-rate schedules: the steps taken so far to a multiple of the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_then_cosine(warmup_steps: float, total_steps: float) -> Callable[[int], float]:
    """A schedule that rises linearly to 1 over `warmup_steps`, then falls on a half cosine to 0 at `total_steps`."""

    def multiple(step: int) -> float:
        if step < warmup_steps:
            return step / max(1.0, warmup_steps)
        progress = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return multiple


def warmup_then_linear(warmup_steps: float, total_steps: float | None) -> Callable[[int], float]:
    """A schedule that rises linearly to 1 over `warmup_steps`, then falls linearly to 0 at `total_steps`, or stays."""

    def multiple(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        if total_steps is None:
            return 1.0
        return (total_steps - step) / max(1.0, total_steps - warmup_steps)

    return multiple
