"""Balanced assignment of rows to codes by Sinkhorn's iteration (METHODS B.4).

Shape legend: B rows, K codes per level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.generative.tokenizer.quantize import Assign, nearest


def scaled_distances(distances_BK: Tensor) -> Tensor:
    """(B, K) float64 distances, centred and scaled to [-1, 1] by their range over the whole batch."""
    distances_BK = distances_BK.double()
    low, high = distances_BK.min(), distances_BK.max()
    return (distances_BK - (high + low) / 2) / ((high - low) / 2 + 1e-5)


def sinkhorn_plan(distances_BK: Tensor, *, epsilon: float = 0.003, iterations: int = 50) -> Tensor:
    """(B, K) float64 transport plan: after the last step its columns sum to 1/K, its rows nearly to 1/B.

    `distances_BK` are scaled already. The iteration normalises rows, then columns, of exp(-d / epsilon); it is
    done on the two scaling vectors, so that a step is two matrix-vector products. Each row is shifted by its
    minimum first, which the row normalisation cancels and which keeps exp in range.
    """
    num_rows, num_codes = distances_BK.shape
    kernel_BK = torch.exp((distances_BK.amin(-1, keepdim=True) - distances_BK) / epsilon)
    columns_K = torch.ones(num_codes, dtype=kernel_BK.dtype, device=kernel_BK.device)
    for _ in range(iterations):
        rows_B = 1 / (num_rows * (kernel_BK @ columns_K))
        columns_K = 1 / (num_codes * (rows_B @ kernel_BK))
    return rows_B[:, None] * kernel_BK * columns_K


def sinkhorn_codes(distances_BK: Tensor, *, epsilon: float = 0.003, iterations: int = 50) -> Tensor:
    """(B,) int64 the code with the largest share of each row in the transport plan."""
    plan_BK = sinkhorn_plan(scaled_distances(distances_BK), epsilon=epsilon, iterations=iterations)
    return plan_BK.argmax(-1)


def sinkhorn_at_level(sinkhorn_level: int, *, epsilon: float = 0.003, iterations: int = 50) -> Assign:
    """An `Assign` that balances the codes of one level (counted from 0) and takes the nearest in the others."""

    def assign(level: int, distances_BK: Tensor) -> Tensor:
        if level != sinkhorn_level:
            return nearest(level, distances_BK)
        return sinkhorn_codes(distances_BK, epsilon=epsilon, iterations=iterations)

    return assign
