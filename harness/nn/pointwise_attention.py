"""Causal attention without a softmax: SiLU of each score, and biases of positions and times (METHODS B.7).

Shape legend: T items of all rows, H heads, A width of a head's queries and keys, C that of its values, I = H * C or
2 * H * A, G rows of a band, X = G * H, S places of a row of the band, L places of the longest row that may come.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.nn.encoder import PackedRows
from harness.nn.kernels.sdpa import end_to_end, side_by_side
from harness.nn.kernels.switch import runs_native
from harness.nn.ragged import Ragged

BUCKETS = 128  # of times, from 0; the last one takes all that is longer
BUCKET_WIDTH = 0.301  # of the natural logarithm of a time


class Biases(NamedTuple):
    """What is added to scores, alike for all heads."""

    position_weights: Tensor  # (2 L - 1,), for a key j and a query i the one at j - i + L - 1
    time_weights: Tensor | None  # (BUCKETS + 1,); None: times are not looked at
    buckets: list[Tensor] | None  # what `time_buckets` gives


@lru_cache(maxsize=64)
def _places(length: int, longest: int, device: torch.device) -> Tensor:
    """(S, S) int64: which position weight a query (row) and a key (column) take."""
    places_S = torch.arange(length, device=device)
    return places_S - places_S[:, None] + longest - 1


def time_buckets(rows: PackedRows) -> list[Tensor] | None:
    """Each band's (G, S, S) int64: bucket of the time from key j to the item after query i; None without times.

    The last item has none after it, so that its own time stands in.
    """
    if rows.times_T is None:
        return None
    (bands,) = _bands(rows.times_T[:, None], rows.layout, 1, 1)
    buckets = []
    for times_GSX in bands:
        times_GS = times_GSX[:, :, 0]
        after_GS = torch.cat([times_GS[:, 1:], times_GS[:, -1:]], dim=1)
        seconds_GSS = (after_GS[:, :, None] - times_GS[:, None]).abs().clamp(min=1)
        buckets.append((seconds_GSS.double().log() / BUCKET_WIDTH).long().clamp(max=BUCKETS))
    return buckets


def pointwise_attention(pairs_TI: Tensor, values_TI: Tensor, biases: Biases, layout: Ragged, num_heads: int) -> Tensor:
    """(T, H * C): what each place takes from the values of its row up to itself.

    `pairs_TI` holds the queries (T, H * A), then the keys. A value weighs SiLU(score + bias) / L.
    """
    longest = (len(biases.position_weights) + 1) // 2
    queries, keys = _bands(pairs_TI, layout, 2, num_heads)
    (values,) = _bands(values_TI, layout, 1, num_heads)
    mixed = []
    for band, (q_XSA, k_XSA, v_XSC) in enumerate(zip(queries, keys, values, strict=True)):
        bias = biases.position_weights[_places(q_XSA.shape[1], longest, q_XSA.device)]
        if biases.time_weights is not None and biases.buckets is not None:
            bias = (bias + biases.time_weights[biases.buckets[band]]).repeat_interleave(num_heads, dim=0)
        weights_XSS = F.silu(q_XSA @ k_XSA.transpose(1, 2) + bias).tril() / longest
        mixed.append(weights_XSS @ v_XSC)
    if runs_native(values_TI.device):
        return end_to_end(mixed[0].unflatten(0, (-1, num_heads)), layout)
    return layout.gather(1, num_heads).tokens(torch.cat([band.flatten(0, 1) for band in mixed]))


def _bands(x_TI: Tensor, layout: Ragged, parts: int, num_heads: int) -> list[list[Tensor]]:
    """Of each part, each band's (X, S, width of a head)."""
    if runs_native(x_TI.device):
        return [[heads_BHSE.flatten(0, 1)] for heads_BHSE in side_by_side(x_TI, layout, parts, num_heads)]
    return [layout.split(part, num_heads) for part in layout.gather(parts, num_heads).slots(x_TI)]
