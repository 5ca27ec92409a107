"""Attention of rows in flat tensors, with a gradient by hand.

Shape legend: that of `harness.nn.ragged`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.nn.layers import LEVELS, keep_mask, masked
from harness.nn.ragged import AttentionLayout


class Attended(NamedTuple):
    """What the gradient of an attention needs; flat tensors hold all bands."""

    query_parts: Tensor  # (1, P * H, E) queries, or (3, P * H, E) queries, keys and values
    memory_parts: Tensor | None  # (2, P * H, E) keys and values of the memory
    probs: Tensor  # flat
    kept: Tensor | None  # flat: the mask of the probabilities

    def queries_keys_values(self) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors (P * H, E)."""
        q = self.query_parts[0]
        k, v = self.query_parts[1:] if self.memory_parts is None else self.memory_parts
        return q, k, v

    def value_weights(self) -> Tensor:
        """Flat: what the values are mixed with, probabilities after dropout."""
        return self.probs if self.kept is None else masked(self.probs, self.kept)


def attend(
    projected_TI: Tensor, memory_TI: Tensor | None, bias_HQS: Tensor | None, layout: AttentionLayout, rate: float
) -> tuple[Tensor, Attended]:
    """(T, I): softmax(q kᵀ + bias) v, and what `attend_backward` needs. No graph is made.

    `projected_TI` holds the queries (T, I) and `memory_TI` the keys and values (tokens of the keys, 2 * I); without a
    memory, `projected_TI` (T, 3 * I) holds all three. The bias is cut to each band's width. Probabilities are dropped
    at `rate`, but the others are not scaled up: that the caller does, with the next linear map.
    """
    num_heads = layout.num_heads
    query_parts = layout.queries.gather(3 if memory_TI is None else 1, num_heads).slots(projected_TI)
    memory_parts = None if memory_TI is None else layout.keys.gather(2, num_heads).slots(memory_TI)
    scores = query_parts.new_empty(sum(layout.score_counts))
    probs = torch.empty_like(scores)
    kept = keep_mask(probs.shape, rate, probs.device) if round(rate * LEVELS) else None
    attended = Attended(query_parts, memory_parts, probs, kept)
    q, k, v = attended.queries_keys_values()
    for q_GQE, k_GSE, scores_GQS, probs_GQS, (own, other) in zip(
        layout.queries.split(q, num_heads),
        layout.keys.split(k, num_heads),
        layout.scores_by_band(scores),
        layout.scores_by_band(probs),
        layout.bands,
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
    for weights_GQS, v_GSE, mixed_GQE in zip(
        layout.scores_by_band(attended.value_weights()),
        layout.keys.split(v, num_heads),
        layout.queries.split(mixed, num_heads),
        strict=True,
    ):
        torch.bmm(weights_GQS, v_GSE, out=mixed_GQE)
    return layout.queries.gather(1, num_heads).tokens(mixed), attended


def attend_backward(
    grad_TI: Tensor, attended: Attended, bias_HQS: Tensor | None, layout: AttentionLayout
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients of `projected_TI`, `memory_TI` and the bias from that of what `attend` returned."""
    num_heads = layout.num_heads
    own_gather = layout.queries.gather(1, num_heads)
    d_mixed = own_gather.slots(grad_TI)[0]
    if own_gather.padding is not None:
        d_mixed.index_fill_(0, own_gather.padding, 0)
    d_queries = torch.empty_like(attended.query_parts)
    d_memory = None if attended.memory_parts is None else torch.empty_like(attended.memory_parts)
    q, k, v = attended.queries_keys_values()
    d_q, d_k, d_v = Attended(d_queries, d_memory, attended.probs, None).queries_keys_values()
    d_probs = torch.empty_like(attended.probs)
    d_out_bands = layout.queries.split(d_mixed, num_heads)
    for d_out_GQE, weights_GQS, v_GSE, d_v_GSE, d_probs_GQS in zip(
        d_out_bands,
        layout.scores_by_band(attended.value_weights()),
        layout.keys.split(v, num_heads),
        layout.keys.split(d_v, num_heads),
        layout.scores_by_band(d_probs),
        strict=True,
    ):
        torch.bmm(weights_GQS.transpose(1, 2), d_out_GQE, out=d_v_GSE)
        torch.bmm(d_out_GQE, v_GSE.transpose(1, 2), out=d_probs_GQS)
    if attended.kept is not None:
        d_probs = masked(d_probs, attended.kept)
    d_bias = None if bias_HQS is None else torch.zeros_like(bias_HQS)
    for d_probs_GQS, probs_GQS, q_GQE, k_GSE, d_q_GQE, d_k_GSE, (own, other) in zip(
        layout.scores_by_band(d_probs),
        layout.scores_by_band(attended.probs),
        layout.queries.split(q, num_heads),
        layout.keys.split(k, num_heads),
        layout.queries.split(d_q, num_heads),
        layout.keys.split(d_k, num_heads),
        layout.bands,
        strict=True,
    ):
        d_scores_GQS = torch._softmax_backward_data(d_probs_GQS, probs_GQS, -1, probs_GQS.dtype)
        if d_bias is not None:
            d_scores_GHQS = d_scores_GQS.view(-1, num_heads, own.width, other.width)
            d_bias[:, : own.width, : other.width] += d_scores_GHQS.sum(0)
        torch.bmm(d_scores_GQS, k_GSE, out=d_q_GQE)
        torch.bmm(d_scores_GQS.transpose(1, 2), q_GQE, out=d_k_GSE)
    d_projected = layout.queries.gather(len(d_queries), num_heads).tokens(d_queries)
    return d_projected, None if d_memory is None else layout.keys.gather(2, num_heads).tokens(d_memory), d_bias
