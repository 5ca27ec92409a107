"""Attention over rows of different lengths without padding anything but the attention itself.

Rows lie one after another in flat tensors, so that norms, linear maps and dropout see real tokens only. Attention alone
needs rows side by side: rows of like length form a group, padded to its longest row. The padded places of all groups
are slots; what moves between tokens and slots is a gather of whole heads, and its gradient is a gather too.

Shape legend: B rows, T tokens, G rows of a group, Q query places and S key places of a group, H heads, E head width,
I = H * E, P slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.nn.layers import LEVELS, keep_mask, masked, quantised

LIKE = 0.6  # the shortest row of a group is at least this long against its longest


class Group(NamedTuple):
    """Rows that attend side by side."""

    rows: np.ndarray  # (G,) numbers of the rows
    width: int  # places of each row, those of the longest
    first_slot: int
    padding_bias: Tensor | None  # (G, 1, 1, S): 0 at tokens, -inf at padding; None where nothing is padded

    def of(self, slots: Tensor, num_heads: int) -> Tensor:
        """(G * H, S, E): this group's part of a tensor (P * H, E) that holds the slots of all groups."""
        start, count = self.first_slot * num_heads, len(self.rows) * self.width * num_heads
        return slots[start : start + count].view(len(self.rows) * num_heads, self.width, -1)


class Ragged:
    """How B rows of `lengths` tokens lie in flat tensors, and in which groups they attend."""

    def __init__(self, lengths: np.ndarray, groups: Sequence[np.ndarray], device: torch.device):
        """`groups` hold every row number once; each row has at least one token."""
        self.lengths, self.device = lengths, device
        self.rows_of_groups = groups
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        # Made once for a batch, used by every layer.
        self._slots_of_heads: dict[int, Slots] = {}
        self._gathers: dict[tuple[int, int], Gather] = {}

    @classmethod
    def of(cls, lengths: np.ndarray, device: torch.device) -> Ragged:
        """In groups of like length."""
        order = np.argsort(-lengths, kind="stable")
        ascending = lengths[order][::-1]
        groups, start = [], 0
        while start < len(order):
            shortest = LIKE * lengths[order[start]]
            end = len(order) - int(np.searchsorted(ascending, shortest, side="left"))
            groups.append(order[start:end])
            start = end
        return cls(lengths, groups, device)

    def grouped_as(self, other: Ragged) -> Ragged:
        """The same rows in the groups of another layout of as many rows, so that each may read its row there."""
        return Ragged(self.lengths, other.rows_of_groups, self.device)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    @cached_property
    def groups(self) -> list[Group]:
        """The groups with their slots."""
        groups, first_slot = [], 0
        for rows in self.rows_of_groups:
            width = int(self.lengths[rows].max())
            bias = None
            if self.lengths[rows].min() < width:
                is_token_GS = np.arange(width) < self.lengths[rows][:, None]
                bias_GS = np.where(is_token_GS, np.float32(0), np.float32(-math.inf))
                bias = torch.from_numpy(bias_GS).to(self.device)[:, None, None]
            groups.append(Group(rows, width, first_slot, bias))
            first_slot += len(rows) * width
        return groups

    def gather(self, parts: int, num_heads: int) -> Gather:
        """The way between tokens and slots of `parts` tensors with heads that lie side by side in each token."""
        key = (parts, num_heads)
        if key not in self._gathers:
            self._gathers[key] = Gather.of(self._slots(num_heads), parts, num_heads, self.device)
        return self._gathers[key]

    def _slots(self, num_heads: int) -> Slots:
        if num_heads not in self._slots_of_heads:
            self._slots_of_heads[num_heads] = Slots.of(self, num_heads)
        return self._slots_of_heads[num_heads]


class Slots(NamedTuple):
    """What stands in each of the P * H slots: which token, which head, and whether it is one or padding."""

    token: np.ndarray
    head: np.ndarray
    is_token: np.ndarray

    @classmethod
    def of(cls, ragged: Ragged, num_heads: int) -> Slots:
        """By groups, rows, heads, places; padding repeats the last token of its row."""
        order = np.concatenate(ragged.rows_of_groups)
        sizes = [len(rows) for rows in ragged.rows_of_groups]
        widths = np.repeat([group.width for group in ragged.groups], sizes)
        counts = widths * num_heads
        row = np.repeat(np.arange(len(order)), counts)
        head, place = np.divmod(np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts), widths[row])
        lengths = ragged.lengths[order][row]
        return cls(ragged.offsets[order][row] + np.minimum(place, lengths - 1), head, place < lengths)


class Gather(NamedTuple):
    """Where each head of each token goes among the slots."""

    to_slots: Tensor  # (parts * P * H,) int64: rows of (T * parts * H, E); padding repeats a token of its row
    to_tokens: Tensor  # (T * parts * H,) int64: rows of (parts * P * H, E)
    padding: Tensor | None  # the slots' rows (of P * H, so for one part) that hold padding
    parts: int
    num_heads: int

    @classmethod
    def of(cls, slots: Slots, parts: int, num_heads: int, device: torch.device) -> Gather:
        """Each slot's row among the tokens' heads, and the inverse."""
        part_P1 = np.arange(parts)[:, None]
        to_slots = slots.token * (parts * num_heads) + slots.head + part_P1 * num_heads
        places = np.flatnonzero(slots.is_token)
        to_tokens = np.empty(len(places) * parts, dtype=np.int64)
        to_tokens[to_slots[:, places]] = places + part_P1 * len(slots.token)
        padding = np.flatnonzero(~slots.is_token)
        return cls(
            torch.from_numpy(to_slots.ravel()).to(device),
            torch.from_numpy(to_tokens).to(device),
            torch.from_numpy(padding).to(device) if len(padding) else None,
            parts,
            num_heads,
        )

    def slots(self, x_TI: Tensor) -> Tensor:
        """(parts, P * H, E) from (T, parts * I)."""
        heads = x_TI.reshape(len(x_TI) * self.parts * self.num_heads, -1)
        return heads.index_select(0, self.to_slots).view(self.parts, -1, heads.shape[1])

    def tokens(self, slots: Tensor) -> Tensor:
        """(T, parts * I) from (parts, P * H, E); what stands in padding is left out."""
        heads = slots.reshape(-1, slots.shape[-1]).index_select(0, self.to_tokens)
        return heads.view(-1, self.parts * self.num_heads * slots.shape[-1])


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected_TI: Tensor,
        memory_TI: Tensor | None,
        bias_HQS: Tensor | None,
        queries: Ragged,
        keys: Ragged,
        num_heads: int,
        rate: float,
    ) -> Tensor:
        from_queries = queries.gather(3 if memory_TI is None else 1, num_heads)
        from_keys = keys.gather(2, num_heads)
        query_parts = from_queries.slots(projected_TI)
        memory_parts = None if memory_TI is None else from_keys.slots(memory_TI)
        q, (k, v) = query_parts[0], query_parts[1:] if memory_parts is None else memory_parts
        mixed = torch.empty_like(q)
        scale = 1 / (1 - quantised(rate))
        saved = []
        for group, key_group in zip(queries.groups, keys.groups, strict=True):
            scores = torch.bmm(group.of(q, num_heads), key_group.of(k, num_heads).transpose(1, 2))
            scores_GHQS = scores.view(len(group.rows), num_heads, group.width, key_group.width)
            if bias_HQS is not None:
                scores_GHQS += bias_HQS[:, : group.width, : key_group.width]
            if key_group.padding_bias is not None:
                scores_GHQS += key_group.padding_bias
            probs = scores.softmax(-1).to(v.dtype)
            kept = keep_mask(probs.shape, rate, probs.device) if round(rate * LEVELS) else None
            read = probs if kept is None else masked(probs, kept)
            torch.bmm(read, key_group.of(v, num_heads), out=group.of(mixed, num_heads))
            saved += [probs, kept]
        if scale != 1:
            mixed *= scale
        ctx.save_for_backward(query_parts, memory_parts, bias_HQS, *saved)
        ctx.layouts = queries, keys, from_queries, from_keys, num_heads, scale
        return queries.gather(1, num_heads).tokens(mixed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_parts, memory_parts, bias_HQS, *saved = ctx.saved_tensors
        queries, keys, from_queries, from_keys, num_heads, scale = ctx.layouts
        is_self = memory_parts is None
        q, (k, v) = query_parts[0], query_parts[1:] if is_self else memory_parts
        own = queries.gather(1, num_heads)
        d_mixed = own.slots(grads[0])[0]
        if own.padding is not None:
            d_mixed.index_fill_(0, own.padding, 0)
        if scale != 1:
            d_mixed *= scale
        d_query_parts = torch.empty_like(query_parts)
        d_memory_parts = d_query_parts[1:] if is_self else torch.empty_like(memory_parts)
        d_bias = None if bias_HQS is None else torch.zeros_like(bias_HQS)
        for place, (group, key_group) in enumerate(zip(queries.groups, keys.groups, strict=True)):
            probs, kept = saved[2 * place : 2 * place + 2]
            d_out = group.of(d_mixed, num_heads)
            read = probs if kept is None else masked(probs, kept)
            torch.bmm(read.transpose(1, 2), d_out, out=key_group.of(d_memory_parts[1], num_heads))
            d_probs = torch.bmm(d_out, key_group.of(v, num_heads).transpose(1, 2))
            if kept is not None:
                d_probs = masked(d_probs, kept)
            d_scores = torch._softmax_backward_data(d_probs, probs, -1, probs.dtype)
            if d_bias is not None:
                shape = (len(group.rows), num_heads, group.width, key_group.width)
                d_bias[:, : group.width, : key_group.width] += d_scores.view(shape).sum(0)
            torch.bmm(d_scores, key_group.of(k, num_heads), out=group.of(d_query_parts[0], num_heads))
            torch.bmm(d_scores.transpose(1, 2), group.of(q, num_heads), out=key_group.of(d_memory_parts[0], num_heads))
        d_projected = from_queries.tokens(d_query_parts)
        d_memory = None if is_self else from_keys.tokens(d_memory_parts)
        return d_projected, d_memory, d_bias, None, None, None, None


def attention(
    projected_TI: Tensor,
    memory_TI: Tensor | None,
    bias_HQS: Tensor | None,
    *,
    queries: Ragged,
    keys: Ragged,
    num_heads: int,
    rate: float,
) -> Tensor:
    """(T, I): softmax(q kᵀ + bias) v, unscaled, with dropout at `rate` on the probabilities.

    `projected_TI` holds the queries (T, I) and `memory_TI` the keys and values (tokens of `keys`, 2 * I); without a
    memory, `projected_TI` (T, 3 * I) holds all three. The bias is cut to each group's width.
    """
    return _Attention.apply(projected_TI, memory_TI, bias_HQS, queries, keys, num_heads, rate)
