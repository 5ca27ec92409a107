"""T5's relative position bias (METHODS B.0): a learned score per head and bucket of distances.

Shape legend: H heads, Q query positions, T key positions.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def relative_buckets(delta: Tensor, *, bidirectional: bool, num_buckets: int, max_distance: int) -> Tensor:
    """The bucket of each distance `delta` = key position - query position, int64 of the same shape.

    Near distances have a bucket each, farther ones share buckets of logarithmic width, all from `max_distance` on
    share the last. Bidirectional stacks use half of the buckets for each sign; causal ones see only the past.
    """
    if bidirectional:
        num_buckets //= 2
        first, distance = (delta > 0) * num_buckets, delta.abs()
    else:
        first, distance = torch.zeros_like(delta), (-delta).clamp(min=0)
    exact = num_buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (growth * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return first + torch.where(distance < exact, distance, far)


@lru_cache(maxsize=256)
def buckets_between(
    first_query: int, num_keys: int, bidirectional: bool, num_buckets: int, max_distance: int, device: torch.device
) -> Tensor:
    """(Q, T): the buckets of queries at positions first_query..T-1 to keys at 0..T-1, kept for the next batch."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
        positions = torch.arange(num_keys, device=device)
        return relative_buckets(
            positions[None, :] - positions[first_query:, None],
            bidirectional=bidirectional,
            num_buckets=num_buckets,
            max_distance=max_distance,
        )


class RelativeBias(nn.Module):
    """A learned score per head and distance bucket, one table for all layers of a stack."""

    def __init__(self, num_heads: int, num_buckets: int, max_distance: int, *, bidirectional: bool):
        super().__init__()
        self.bidirectional = bidirectional
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.weight = nn.Parameter(torch.empty(num_buckets, num_heads))

    def forward(self, first_query: int, num_keys: int) -> Tensor:
        """(1, H, Q, T): the bias of queries at positions first_query..T-1 to keys at positions 0..T-1."""
        buckets_QT = buckets_between(
            first_query, num_keys, self.bidirectional, self.num_buckets, self.max_distance, self.weight.device
        )
        return F.embedding(buckets_QT, self.weight).permute(2, 0, 1)[None].contiguous()
