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
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.nn.layers import LEVELS, keep_mask, masked

LIKE = 0.6  # the shortest row of a group is at least this long against its longest


class Group(NamedTuple):
    """Rows that attend side by side."""

    rows: np.ndarray  # (G,) numbers of the rows
    width: int  # places of each row, those of the longest
    padding_bias: Tensor | None  # (G, 1, 1, S): 0 at tokens, -inf at padding; None where nothing is padded


class Ragged:
    """How B rows of `lengths` tokens lie in flat tensors, and in which groups they attend."""

    def __init__(self, lengths: np.ndarray, groups: Sequence[np.ndarray], device: torch.device):
        """`groups` hold every row number once; each row has at least one token."""
        self.lengths, self.device = lengths, device
        self.rows_of_groups = groups
        # Made once for a batch, used by every layer.
        self._heads: dict[int, Heads] = {}
        self._gathers: dict[tuple[int, int], Gather] = {}

    @classmethod
    def of(cls, lengths: np.ndarray, device: torch.device) -> Ragged:
        """In groups of like length."""
        order = np.argsort(-lengths, kind="stable")
        descending = lengths[order].tolist()
        starts = [0]
        for row, length in enumerate(descending):
            if length < LIKE * descending[starts[-1]]:
                starts.append(row)
        return cls(lengths, np.split(order, starts[1:]), device)

    @staticmethod
    @lru_cache(maxsize=64)
    def uniform(count: int, length: int, device: torch.device) -> Ragged:
        """`count` rows of the same length in one group, kept for the next batch."""
        return Ragged(np.full(count, length), [np.arange(count)], device)

    def grouped_as(self, other: Ragged) -> Ragged:
        """The same rows in the groups of another layout of as many rows, so that each may read its row there."""
        return Ragged(self.lengths, other.rows_of_groups, self.device)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    @cached_property
    def groups(self) -> list[Group]:
        """The groups in the order of their slots."""
        return [self._group(rows) for rows in self.rows_of_groups]

    def _group(self, rows: np.ndarray) -> Group:
        lengths = self.lengths[rows]
        width = int(lengths.max())
        if lengths.min() == width:
            return Group(rows, width, None)
        bias_GS = np.where(np.arange(width) < lengths[:, None], np.float32(0), np.float32(-math.inf))
        return Group(rows, width, torch.from_numpy(bias_GS).to(self.device)[:, None, None])

    def split(self, slots: Tensor, num_heads: int) -> list[Tensor]:
        """Each group's (G * H, width, E) of a tensor (P * H, E) that holds the slots of all groups."""
        parts = slots.split([len(group.rows) * group.width * num_heads for group in self.groups])
        return [part.view(-1, group.width, slots.shape[1]) for part, group in zip(parts, self.groups, strict=True)]

    def gather(self, parts: int, num_heads: int) -> Gather:
        """The way between tokens and slots of `parts` tensors with heads that lie side by side in each token."""
        key = (parts, num_heads)
        if key not in self._gathers:
            if num_heads not in self._heads:
                self._heads[num_heads] = Heads.of(Slots.of(self), num_heads)
            self._gathers[key] = Gather.of(self._heads[num_heads], parts, self.device)
        return self._gathers[key]


class Slots(NamedTuple):
    """Which token stands in each of P slots, padding included."""

    token: np.ndarray  # (P,) the token; padding repeats the last token of its row
    first: np.ndarray  # (P,) the slot of its row's first token
    width: np.ndarray  # (P,) of its row
    of_token: np.ndarray  # (T,) the slot of each token
    of_padding: np.ndarray  # (P - T,) the slots of padding

    @classmethod
    def of(cls, ragged: Ragged) -> Slots:
        """By groups, rows, places."""
        order = np.concatenate(ragged.rows_of_groups)
        width_B = np.repeat([group.width for group in ragged.groups], [len(group.rows) for group in ragged.groups])
        start_B = np.cumsum(width_B) - width_B
        lengths_B = ragged.lengths[order]
        first_token_B = (np.cumsum(ragged.lengths) - ragged.lengths)[order]
        first, width = np.repeat(start_B, width_B), np.repeat(width_B, width_B)
        place = np.arange(len(first)) - first
        last_place = np.repeat(lengths_B - 1, width_B)
        token = np.repeat(first_token_B, width_B) + np.minimum(place, last_place)
        is_token = place <= last_place
        of_token = np.empty(int(lengths_B.sum()), dtype=np.int64)
        of_token[token[is_token]] = np.flatnonzero(is_token)
        return cls(token, first, width, of_token, np.flatnonzero(~is_token))


class Heads(NamedTuple):
    """Where the heads of slots stand: a row's places of one head follow one another, then those of the next head."""

    of_slots: np.ndarray  # (P, H)
    of_tokens: np.ndarray  # (T, H)
    order: np.ndarray  # (P * H,) the inverse of `of_slots`: which head of which slot stands where
    slots: Slots

    @classmethod
    def of(cls, slots: Slots, num_heads: int) -> Heads:
        """By groups, rows, heads, places."""
        start = slots.first * (num_heads - 1) + np.arange(len(slots.first))
        of_slots = start[:, None] + slots.width[:, None] * np.arange(num_heads)
        order = np.empty(of_slots.size, dtype=np.int64)
        order[of_slots.ravel()] = np.arange(of_slots.size)
        return cls(of_slots, of_slots[slots.of_token], order, slots)


class Gather(NamedTuple):
    """Where each head of each token goes among the slots."""

    to_slots: Tensor  # (parts * P * H,) int64: rows of (T * parts * H, E); padding repeats a token of its row
    to_tokens: Tensor  # (T * parts * H,) int64: rows of (parts * P * H, E)
    padding: Tensor | None  # the slots' rows (of P * H, so for one part) that hold padding
    parts: int
    num_heads: int

    @classmethod
    def of(cls, heads: Heads, parts: int, device: torch.device) -> Gather:
        """Each slot's row among the tokens' heads, and the inverse."""
        (count, num_heads), slots = heads.of_slots.shape, heads.slots
        part = np.arange(parts)[:, None]
        own_rows = (slots.token * (parts * num_heads))[:, None] + np.arange(num_heads)
        to_slots = own_rows.ravel()[heads.order] + part * num_heads
        to_tokens = heads.of_tokens[:, None] + part * (count * num_heads)
        padding = heads.of_slots[slots.of_padding].ravel()
        return cls(
            torch.from_numpy(to_slots.ravel()).to(device),
            torch.from_numpy(to_tokens.ravel()).to(device),
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


@dataclass(frozen=True)
class Reading:
    """Which rows read which, in the same groups; in self-attention a layout reads itself."""

    queries: Ragged
    keys: Ragged
    num_heads: int

    @cached_property
    def groups(self) -> list[tuple[Group, Group]]:
        """Each group of queries with its keys."""
        return list(zip(self.queries.groups, self.keys.groups, strict=True))

    @cached_property
    def scores(self) -> list[int]:
        """How many scores each group has: G * H * Q * S."""
        return [len(own.rows) * self.num_heads * own.width * other.width for own, other in self.groups]

    def blocks(self, scores: Tensor) -> list[Tensor]:
        """Each group's (G * H, Q, S) of a flat tensor that holds the scores of all groups."""
        parts = zip(scores.split(self.scores), self.groups, strict=True)
        return [part.view(-1, own.width, other.width) for part, (own, other) in parts]


class Attended(NamedTuple):
    """What the gradient of an attention needs; flat tensors hold all groups."""

    query_parts: Tensor  # (1, P * H, E) queries, or (3, P * H, E) queries, keys and values
    memory_parts: Tensor | None  # (2, P * H, E) keys and values of the memory
    probs: Tensor  # flat
    kept: Tensor | None  # flat: the mask of the probabilities

    def queries_keys_values(self) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors (P * H, E)."""
        q = self.query_parts[0]
        k, v = self.query_parts[1:] if self.memory_parts is None else self.memory_parts
        return q, k, v

    def read(self) -> Tensor:
        """Flat: the weights of the values."""
        return self.probs if self.kept is None else masked(self.probs, self.kept)


def attend(
    projected_TI: Tensor, memory_TI: Tensor | None, bias_HQS: Tensor | None, reading: Reading, rate: float
) -> tuple[Tensor, Attended]:
    """(T, I): softmax(q kᵀ + bias) v, and what `attend_backward` needs. No graph is made.

    `projected_TI` holds the queries (T, I) and `memory_TI` the keys and values (tokens of the keys, 2 * I); without a
    memory, `projected_TI` (T, 3 * I) holds all three. The bias is cut to each group's width. Probabilities are dropped
    at `rate`, but the others are not scaled up: that the caller does, with the next linear map.
    """
    num_heads = reading.num_heads
    query_parts = reading.queries.gather(3 if memory_TI is None else 1, num_heads).slots(projected_TI)
    memory_parts = None if memory_TI is None else reading.keys.gather(2, num_heads).slots(memory_TI)
    scores = query_parts.new_empty(sum(reading.scores))
    probs = torch.empty_like(scores)
    kept = keep_mask(probs.shape, rate, probs.device) if round(rate * LEVELS) else None
    attended = Attended(query_parts, memory_parts, probs, kept)
    q, k, v = attended.queries_keys_values()
    for q_GQE, k_GSE, scores_GQS, probs_GQS, (own, other) in zip(
        reading.queries.split(q, num_heads),
        reading.keys.split(k, num_heads),
        reading.blocks(scores),
        reading.blocks(probs),
        reading.groups,
        strict=True,
    ):
        torch.bmm(q_GQE, k_GSE.transpose(1, 2), out=scores_GQS)
        scores_GHQS = scores_GQS.view(-1, num_heads, own.width, other.width)
        if bias_HQS is not None:
            scores_GHQS += bias_HQS[:, : own.width, : other.width]
        if other.padding_bias is not None:
            scores_GHQS += other.padding_bias
        torch.softmax(scores_GQS, -1, out=probs_GQS)
    mixed = torch.empty_like(q)
    for read_GQS, v_GSE, mixed_GQE in zip(
        reading.blocks(attended.read()),
        reading.keys.split(v, num_heads),
        reading.queries.split(mixed, num_heads),
        strict=True,
    ):
        torch.bmm(read_GQS, v_GSE, out=mixed_GQE)
    return reading.queries.gather(1, num_heads).tokens(mixed), attended


def attend_backward(
    grad_TI: Tensor, attended: Attended, bias_HQS: Tensor | None, reading: Reading
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients of `projected_TI`, `memory_TI` and the bias from that of what `attend` returned."""
    num_heads = reading.num_heads
    own_gather = reading.queries.gather(1, num_heads)
    d_mixed = own_gather.slots(grad_TI)[0]
    if own_gather.padding is not None:
        d_mixed.index_fill_(0, own_gather.padding, 0)
    d_queries = torch.empty_like(attended.query_parts)
    d_memory = None if attended.memory_parts is None else torch.empty_like(attended.memory_parts)
    q, k, v = attended.queries_keys_values()
    d_q, d_k, d_v = Attended(d_queries, d_memory, attended.probs, None).queries_keys_values()
    d_probs = torch.empty_like(attended.probs)
    d_out_groups = reading.queries.split(d_mixed, num_heads)
    for d_out_GQE, read_GQS, v_GSE, d_v_GSE, d_probs_GQS in zip(
        d_out_groups,
        reading.blocks(attended.read()),
        reading.keys.split(v, num_heads),
        reading.keys.split(d_v, num_heads),
        reading.blocks(d_probs),
        strict=True,
    ):
        torch.bmm(read_GQS.transpose(1, 2), d_out_GQE, out=d_v_GSE)
        torch.bmm(d_out_GQE, v_GSE.transpose(1, 2), out=d_probs_GQS)
    if attended.kept is not None:
        d_probs = masked(d_probs, attended.kept)
    d_bias = None if bias_HQS is None else torch.zeros_like(bias_HQS)
    for d_probs_GQS, probs_GQS, q_GQE, k_GSE, d_q_GQE, d_k_GSE, (own, other) in zip(
        reading.blocks(d_probs),
        reading.blocks(attended.probs),
        reading.queries.split(q, num_heads),
        reading.keys.split(k, num_heads),
        reading.queries.split(d_q, num_heads),
        reading.keys.split(d_k, num_heads),
        reading.groups,
        strict=True,
    ):
        d_scores_GQS = torch._softmax_backward_data(d_probs_GQS, probs_GQS, -1, probs_GQS.dtype)
        if d_bias is not None:
            d_scores_GHQS = d_scores_GQS.view(-1, num_heads, own.width, other.width)
            d_bias[:, : own.width, : other.width] += d_scores_GHQS.sum(0)
        torch.bmm(d_scores_GQS, k_GSE, out=d_q_GQE)
        torch.bmm(d_scores_GQS.transpose(1, 2), q_GQE, out=d_k_GSE)
    d_projected = reading.queries.gather(len(d_queries), num_heads).tokens(d_queries)
    return d_projected, None if d_memory is None else reading.keys.gather(2, num_heads).tokens(d_memory), d_bias
