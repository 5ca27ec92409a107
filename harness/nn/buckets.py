"""Rows of different lengths side by side in a few buckets, each padded to one width: what a GPU likes.

The places of all buckets, padding included, lie one after another in flat tensors. So norms, linear maps and dropout
are launched once for all of them, and attention once a bucket, on views (`harness.nn.kernels.padded_attention`). On a
CPU, padding costs more than launches (`harness.nn.ragged`).

Shape legend: B rows, G rows of a bucket, S places of its rows, P places of all buckets, T items of all rows, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.dataset import PADDING

MOST_BUCKETS = 4  # of a batch of histories: a fifth one saves less than its launches cost
ALIGNED = 8  # tokens: the memory-efficient attention wants widths of a bias in whole eights


class Bucket(NamedTuple):
    """Rows that are padded to one width."""

    rows: int  # G
    width: int  # S


def bucketed(lengths_B: np.ndarray, most_buckets: int, step: int = 1) -> list[Bucket]:
    """The buckets of rows by falling length that have the fewest places, all widths multiples of `step`."""
    assert (np.diff(lengths_B) <= 0).all(), "rows must come by falling length"
    widths_B = -(-lengths_B // step) * step
    widths, rows = np.unique(widths_B, return_counts=True)
    widths, end = widths[::-1], np.cumsum(rows[::-1])  # `end`: how many rows are at least so wide
    start = np.concatenate([[0], end[:-1]])
    # places[b][i]: the fewest of all rows from the i-th width on, in b + 1 buckets; cuts: where the second begins
    places = [np.append((end[-1] - start) * widths, 0)]
    cuts: list[np.ndarray] = [np.full(len(widths), len(widths))]
    for _ in range(most_buckets - 1):
        # [i, j]: those of a bucket of the widths i to j, and the fewest of the rows behind it
        all_ij = (end[None, :] - start[:, None]) * widths[:, None] + places[-1][None, 1:]
        all_ij[np.tril_indices(len(widths), -1)] = np.iinfo(np.int64).max
        cuts.append(all_ij.argmin(axis=1) + 1)
        places.append(np.append(all_ij.min(axis=1), 0))
    found, first = [], 0
    for cut in reversed(cuts):
        if first < len(widths):
            found.append(Bucket(int(end[cut[first] - 1] - start[first]), int(widths[first])))
            first = int(cut[first])
    return found


class Buckets:
    """How B rows of tokens lie in flat tensors, bucket after bucket."""

    def __init__(self, lengths: np.ndarray, buckets: list[Bucket], is_token_P: Tensor):
        """`lengths` (B,) in tokens, by falling length."""
        self.lengths, self.buckets, self.is_token_P = lengths, buckets, is_token_P
        self.device = is_token_P.device
        self._biases: dict[torch.dtype, list[Tensor]] = {}  # made once for a batch

    @property
    def longest(self) -> int:
        """Places of the widest bucket."""
        return self.buckets[0].width

    def split(self, x_PD: Tensor) -> list[Tensor]:
        """Each bucket's (G, S, D)."""
        parts = x_PD.split([bucket.rows * bucket.width for bucket in self.buckets])
        return [part.view(*bucket, *x_PD.shape[1:]) for part, bucket in zip(parts, self.buckets, strict=True)]

    def padding_biases(self, dtype: torch.dtype) -> list[Tensor]:
        """Each bucket's (G, 1, 1, S) to add to attention scores: 0 at tokens, -inf at padding."""
        if dtype not in self._biases:
            bias_P = torch.zeros(self.is_token_P.shape, dtype=dtype, device=self.device)
            parts = self.split(bias_P.masked_fill_(~self.is_token_P, -torch.inf))
            self._biases[dtype] = [part_GS[:, None, None] for part_GS in parts]
        return self._biases[dtype]

    def pooled(self, x_PD: Tensor) -> Tensor:
        """(B, D) the mean of each row's tokens."""
        sums = [part.sum(1) for part in self.split(x_PD * self.is_token_P[:, None])]
        counts = [part.sum(1) for part in self.split(self.is_token_P)]
        return torch.cat(sums) / torch.cat(counts)[:, None]

    def padded(self, x_PD: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D) of the widest bucket's width, and a mask (B, S), True at tokens."""
        x_BSD = torch.cat([F.pad(x, (0, 0, 0, self.longest - x.shape[1])) for x in self.split(x_PD)])
        return x_BSD, torch.cat([F.pad(x, (0, self.longest - x.shape[1])) for x in self.split(self.is_token_P)])


def placed(items_T: np.ndarray, lengths_B: np.ndarray, buckets: list[Bucket]) -> np.ndarray:
    """(P,) int64 the items of rows by falling length in their places, `PADDING` elsewhere."""
    widths_B = np.repeat([bucket.width for bucket in buckets], [bucket.rows for bucket in buckets])
    first_place_B, first_item_B = np.cumsum(widths_B) - widths_B, np.cumsum(lengths_B) - lengths_B
    items_P = np.full(int(widths_B.sum()), PADDING, dtype=np.int64)
    items_P[np.arange(len(items_T)) + np.repeat(first_place_B - first_item_B, lengths_B)] = items_T
    return items_P
