"""Attention of rows in flat tensors.

Shape legend: that of `harness.nn.ragged`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.nn.kernels.dropout import mask_if_any, masked, quantised
from harness.nn.kernels.switch import runs_fast
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


def attention(
    projected_TI: Tensor, memory_TI: Tensor | None, bias_HQS: Tensor | None, layout: AttentionLayout, rate: float
) -> Tensor:
    """(T, I): dropout(softmax(q kᵀ + bias)) v; the inputs are those of `attend`."""
    kept = probs_mask(layout, rate)
    scale = 1 / (1 - quantised(rate))
    if runs_fast(projected_TI.device):
        return _Attention.apply(projected_TI, memory_TI, bias_HQS, layout, kept, scale)
    return plain_attend(projected_TI, memory_TI, bias_HQS, layout, kept) * scale


def probs_mask(layout: AttentionLayout, rate: float) -> Tensor | None:
    """Which probabilities of an attention dropout keeps, flat; None where it drops none."""
    return mask_if_any(torch.Size([sum(layout.score_counts)]), rate, layout.queries.device)


def plain_attend(
    projected_TI: Tensor,
    memory_TI: Tensor | None,
    bias_HQS: Tensor | None,
    layout: AttentionLayout,
    kept: Tensor | None,
) -> Tensor:
    """What `attend` computes, under autograd."""
    num_heads = layout.num_heads
    parts = layout.queries.gather(3 if memory_TI is None else 1, num_heads).slots(projected_TI)
    q, (k, v) = parts[0], parts[1:] if memory_TI is None else layout.keys.gather(2, num_heads).slots(memory_TI)
    q_bands, k_bands, v_bands = layout.queries.split(q, num_heads), *(layout.keys.split(x, num_heads) for x in (k, v))
    kept_bands = None if kept is None else layout.scores_by_band(kept)
    mixed = []
    for band, (own, other) in enumerate(layout.bands):
        scores = (q_bands[band] @ k_bands[band].transpose(1, 2)).unflatten(0, (-1, num_heads))
        if bias_HQS is not None:
            scores = scores + bias_HQS[:, : own.width, : other.width]
        if other.padding_bias is not None:
            scores = scores + other.padding_bias
        probs = scores.softmax(-1).flatten(0, 1)
        mixed.append((probs if kept_bands is None else probs * kept_bands[band]) @ v_bands[band])
    return layout.queries.gather(1, num_heads).tokens(torch.cat([out.flatten(0, 1) for out in mixed]))


def attend(
    projected_TI: Tensor,
    memory_TI: Tensor | None,
    bias_HQS: Tensor | None,
    layout: AttentionLayout,
    kept: Tensor | None,
) -> tuple[Tensor, Attended]:
    """(T, I): softmax(q kᵀ + bias) v, and what `attend_backward` needs. No graph is made.

    `projected_TI` holds the queries (T, I) and `memory_TI` the keys and values (tokens of the keys, 2 * I); without a
    memory, `projected_TI` (T, 3 * I) holds all three. The bias is cut to each band's width. `kept` is the mask of the
    probabilities (`probs_mask`); what it keeps is not scaled up: that the caller does, with the next linear map.
    """
    num_heads = layout.num_heads
    query_parts = layout.queries.gather(3 if memory_TI is None else 1, num_heads).slots(projected_TI)
    memory_parts = None if memory_TI is None else layout.keys.gather(2, num_heads).slots(memory_TI)
    scores = query_parts.new_empty(sum(layout.score_counts))
    probs = torch.empty_like(scores)
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


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        memory: Tensor | None,
        bias: Tensor | None,
        layout: AttentionLayout,
        kept: Tensor | None,
        scale: float,
    ) -> Tensor:
        mixed, attended = attend(projected, memory, bias, layout, kept)
        ctx.save_for_backward(bias, *attended)
        ctx.layout, ctx.scale = layout, scale
        return mixed.mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bias, *saved = ctx.saved_tensors
        learned_bias = bias if ctx.needs_input_grad[2] else None
        return *attend_backward(grad * ctx.scale, Attended(*saved), learned_bias, ctx.layout), None, None, None
