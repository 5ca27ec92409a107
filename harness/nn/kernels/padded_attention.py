"""Attention of rows in padded buckets by torch's scaled_dot_product_attention: on a GPU one launch a bucket.

Shape legend: that of `harness.nn.buckets`; Q query places and S key places of a row, H heads, E head width, I = H * E.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class PaddedRows(NamedTuple):
    """Rows of a bucket that attend at once."""

    rows: int  # G
    queries: int  # Q
    keys: int  # S
    bias: Tensor  # added to the scores: broadcasts to (G, H, Q, S)


class PaddedLayout(NamedTuple):
    """Which rows attend to which: bucket by bucket, in the order of the flat tensors."""

    parts: list[PaddedRows]
    num_heads: int


def padded_attention(projected_PI: Tensor, memory_PI: Tensor | None, layout: PaddedLayout, rate: float) -> Tensor:
    """(P, I): dropout(softmax(q kᵀ + bias)) v.

    `projected_PI` holds the queries (P, I) and `memory_PI` the keys and values (places of the keys, 2 * I); without a
    memory, `projected_PI` (P, 3 * I) holds all three.
    """
    projected = projected_PI.split([part.rows * part.queries for part in layout.parts])
    memory = None if memory_PI is None else memory_PI.split([part.rows * part.keys for part in layout.parts])
    mixed = []
    for place, part in enumerate(layout.parts):
        if memory is None:
            q, k, v = _heads(projected[place], part.rows, 3, layout.num_heads)
        else:
            (q,) = _heads(projected[place], part.rows, 1, layout.num_heads)
            k, v = _heads(memory[place], part.rows, 2, layout.num_heads)
        mixed_GHQE = F.scaled_dot_product_attention(q, k, v, attn_mask=part.bias.to(q.dtype), dropout_p=rate, scale=1.0)
        mixed.append(mixed_GHQE.transpose(1, 2).reshape(part.rows * part.queries, -1))
    return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def _heads(x_PX: Tensor, rows: int, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """Each part's (G, H, S, E)."""
    return x_PX.view(rows, -1, parts, num_heads, x_PX.shape[1] // (parts * num_heads)).permute(2, 0, 3, 1, 4).unbind()
