"""Which tokens attend to which in T5, for rows that lie ragged or in padded buckets.

Shape legend: B rows, H heads, Q query positions, T key positions.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.nn.buckets import Buckets
from harness.nn.kernels.padded_attention import PaddedLayout, PaddedRows
from harness.nn.ragged import AttentionLayout, Ragged

# Rows of the decoder that attend side by side, each to itself: thousands of products of 4 by 4 are slower than fewer of
# 32 by 32, most of whose scores are masked.
ROWS_TOGETHER = 8


class Attention(NamedTuple):
    """How the rows of a stack attend, the same in all its layers."""

    layout: AttentionLayout | PaddedLayout
    bias_HQT: Tensor | None = None  # of a ragged layout; a padded one has its biases


def to_all(rows: Ragged | Buckets, bias_HTT: Tensor, dtype: torch.dtype) -> Attention:
    """Every token attends to all tokens of its row; biases of buckets are made in `dtype`, once for all layers."""
    num_heads = len(bias_HTT)
    if isinstance(rows, Ragged):
        return Attention(AttentionLayout(rows, rows, num_heads), bias_HTT)
    parts = [
        PaddedRows(count, width, width, bias_HTT[:, :width, :width].to(dtype) + padding)
        for (count, width), padding in zip(rows.buckets, rows.padding_biases(dtype), strict=True)
    ]
    return Attention(PaddedLayout(parts, num_heads))


def to_earlier(
    count: int, length: int, state_rows: Ragged | Buckets, bias_HQQ: Tensor, dtype: torch.dtype
) -> Attention:
    """Each position of `count` rows of `length` attends to itself and those before it.

    The rows lie as those of the encoder do, of which each has one.
    """
    num_heads, device = len(bias_HQQ), bias_HQQ.device
    if isinstance(state_rows, Buckets):
        bias_1HQQ = (bias_HQQ + past_of_own_row(length, 1, device)).to(dtype)[None]
        return Attention(PaddedLayout([PaddedRows(count, length, length, bias_1HQQ)], num_heads))
    own_rows = rows_together(count, length, device)
    together = own_rows.longest // length
    bias_HQT = bias_HQQ.repeat(1, together, together) + past_of_own_row(length, together, device)
    return Attention(AttentionLayout(own_rows, own_rows, num_heads), bias_HQT)


def to_states(length: int, state_rows: Ragged | Buckets, num_heads: int, dtype: torch.dtype) -> Attention:
    """Each position of rows of `length` attends to all states of its row of the encoder."""
    if isinstance(state_rows, Ragged):
        rows = Ragged.uniform(len(state_rows.lengths), length, state_rows.device)
        return Attention(AttentionLayout(rows.banded_as(state_rows), state_rows, num_heads))
    parts = [
        PaddedRows(count, length, width, padding)
        for (count, width), padding in zip(state_rows.buckets, state_rows.padding_biases(dtype), strict=True)
    ]
    return Attention(PaddedLayout(parts, num_heads))


@lru_cache(maxsize=64)
def rows_together(count: int, length: int, device: torch.device) -> Ragged:
    """`count` rows of one length, `ROWS_TOGETHER` of them as one, the last ones as one more in a band of its own.

    Beside longer ones it would be padded, and a place of padding may look at nothing.
    """
    whole, rest = divmod(count, ROWS_TOGETHER)
    lengths = np.array([ROWS_TOGETHER * length] * whole + [rest * length] * (rest > 0))
    bands = [rows for rows in np.split(np.arange(len(lengths)), [whole]) if len(rows)]
    return Ragged(lengths, bands, device)


@lru_cache(maxsize=64)
def past_of_own_row(length: int, together: int, device: torch.device) -> Tensor:
    """(R * Q, R * T): 0 where a position of one of R rows side by side may look, -inf elsewhere."""
    with torch.inference_mode(False):
        past_QT = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        allowed = torch.block_diag(*[past_QT] * together).bool()
        return torch.zeros(allowed.shape, device=device).masked_fill_(~allowed, -math.inf)
