"""The blocks of a transformer as single functions: norm, sublayer, dropout, residual.

At this project's sizes a training step is hundreds of operators of a few microseconds each, so that what autograd does
around an operator costs as much as the operator. A block is one node of its graph, keeps nothing twice, and applies the
scales of the norm and of dropout to weights or to sums that are computed anyway.

Shape legend: N tokens, M tokens of a memory, D width, I inner width, J width of the hidden units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.nn.kernels.attention import Attended, attend, attend_backward, plain_attend, probs_mask
from harness.nn.kernels.dropout import dropout, mask_if_any, masked, quantised
from harness.nn.kernels.padded_attention import PaddedLayout, padded_attention
from harness.nn.kernels.precision import dtype_of_products
from harness.nn.kernels.rms import RMS_EPS, unit_rms_backward, unit_rms_forward
from harness.nn.kernels.switch import runs_fast, runs_native
from harness.nn.ragged import AttentionLayout


class Masks(NamedTuple):
    """What dropout keeps in a block; None where it drops nothing."""

    inner: Tensor | None  # of probabilities (flat) or of hidden units (N, J)
    out: Tensor | None  # (N, D)
    scale: float  # what the two dropouts in a row scale up by


def attention_block(
    x_ND: Tensor,
    scale_D: Tensor,
    w_in: Tensor,
    w_out_DI: Tensor,
    layout: AttentionLayout | PaddedLayout,
    *,
    bias_HQS: Tensor | None = None,
    memory_MI: Tensor | None = None,
    rate: float = 0.0,
) -> Tensor:
    """(N, D): x + dropout(w_out attention(w_in norm(x), memory)).

    The norm is RMS norm with `scale_D`. Without a memory, `w_in` (3 * I, D) makes queries, keys and values; with one,
    `w_in` (I, D) makes queries, and `memory_MI` (M, 2 * I) holds keys and values. `rate` drops probabilities and
    outputs. A padded layout has its biases, and torch's own kernels run over it.
    """
    if isinstance(layout, PaddedLayout):
        projected = F.linear(F.rms_norm(x_ND, scale_D.shape, scale_D, RMS_EPS), w_in)
        mixed = padded_attention(projected, memory_MI, layout, rate)
        return x_ND + dropout(F.linear(mixed, w_out_DI), rate, training=True)
    kept = Masks(probs_mask(layout, rate), mask_if_any(x_ND.shape, rate, x_ND.device), _scale(rate))
    form = _AttentionBlock.apply if runs_fast(x_ND.device) else plain_attention_block
    return form(x_ND, scale_D, w_in, w_out_DI, bias_HQS, memory_MI, (layout, kept))


def plain_attention_block(
    x_ND: Tensor,
    scale_D: Tensor,
    w_in: Tensor,
    w_out_DI: Tensor,
    bias_HQS: Tensor | None,
    memory_MI: Tensor | None,
    layout_and_masks: tuple[AttentionLayout, Masks],
) -> Tensor:
    """What `attention_block` computes, under autograd."""
    layout, kept = layout_and_masks
    projected = F.linear(F.rms_norm(x_ND, scale_D.shape, scale_D, RMS_EPS), w_in)
    mixed = plain_attend(projected, memory_MI, bias_HQS, layout, kept.inner)
    return _plain_add_dropped(x_ND, F.linear(mixed, w_out_DI), kept)


class _AttentionBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        w_in: Tensor,
        w_out: Tensor,
        bias: Tensor | None,
        memory: Tensor | None,
        layout_and_masks: tuple[AttentionLayout, Masks],
    ) -> Tensor:
        layout, kept = layout_and_masks
        dtype = dtype_of_products(x)
        unit, inverse = unit_rms_forward(x)
        rows, w_scaled, w_out = unit.to(dtype), (w_in * scale).to(dtype), w_out.to(dtype)
        mixed, attended = attend(rows @ w_scaled.T, memory, bias, layout, kept.inner)
        ctx.save_for_backward(unit, inverse, rows, scale, w_in, w_scaled, w_out, mixed, kept.out, bias, *attended)
        ctx.layout, ctx.scale = layout, kept.scale
        return _add_dropped(x, mixed @ w_out.T, kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, rows, scale, w_in, w_scaled, w_out, mixed, kept, bias, *saved = ctx.saved_tensors
        d_out = _dropped_backward(grads[0], kept, ctx.scale).to(w_out.dtype)
        d_projected, d_memory, d_bias = attend_backward(d_out @ w_out, Attended(*saved), bias, ctx.layout)
        d_w_scaled = d_projected.T @ rows
        d_x = unit_rms_backward(d_projected @ w_scaled, unit, inverse).add_(grads[0])
        d_scale = (d_w_scaled * w_in).sum(0)
        return d_x, d_scale, d_w_scaled * scale, d_out.T @ mixed, d_bias, d_memory, None


def feed_forward_block(x_ND: Tensor, scale_D: Tensor, wi_JD: Tensor, wo_DJ: Tensor, *, rate: float = 0.0) -> Tensor:
    """(N, D): x + dropout(wo dropout(relu(wi norm(x)))), the norm being RMS norm with `scale_D`."""
    if runs_native(x_ND.device):
        hidden = F.linear(F.rms_norm(x_ND, scale_D.shape, scale_D, RMS_EPS), wi_JD).relu()
        return x_ND + dropout(F.linear(dropout(hidden, rate, training=True), wo_DJ), rate, training=True)
    inner, out = (mask_if_any(torch.Size([len(x_ND), width]), rate, x_ND.device) for width in wi_JD.shape)
    kept = Masks(inner, out, _scale(rate))
    form = _FeedForwardBlock.apply if runs_fast(x_ND.device) else plain_feed_forward_block
    return form(x_ND, scale_D, wi_JD, wo_DJ, kept)


def plain_feed_forward_block(x_ND: Tensor, scale_D: Tensor, wi_JD: Tensor, wo_DJ: Tensor, kept: Masks) -> Tensor:
    """What `feed_forward_block` computes, under autograd."""
    hidden = F.linear(F.rms_norm(x_ND, scale_D.shape, scale_D, RMS_EPS), wi_JD).relu()
    return _plain_add_dropped(x_ND, F.linear(hidden if kept.inner is None else hidden * kept.inner, wo_DJ), kept)


class _FeedForwardBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, wi: Tensor, wo: Tensor, kept: Masks) -> Tensor:
        dtype = dtype_of_products(x)
        unit, inverse = unit_rms_forward(x)
        rows, w_scaled, wo = unit.to(dtype), (wi * scale).to(dtype), wo.to(dtype)
        hidden = (rows @ w_scaled.T).relu_()
        if kept.inner is not None:
            hidden.mul_(kept.inner.to(dtype))
        ctx.save_for_backward(unit, inverse, rows, scale, wi, w_scaled, wo, hidden, kept.out)
        ctx.scale = kept.scale
        return _add_dropped(x, hidden @ wo.T, kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, rows, scale, wi, w_scaled, wo, hidden, kept = ctx.saved_tensors
        d_out = _dropped_backward(grads[0], kept, ctx.scale).to(wo.dtype)
        # A dropped unit and an inactive unit look alike, 0, so that ReLU's gradient is that of both.
        d_hidden = torch.ops.aten.threshold_backward(d_out @ wo, hidden, 0)
        d_w_scaled = d_hidden.T @ rows
        d_x = unit_rms_backward(d_hidden @ w_scaled, unit, inverse).add_(grads[0])
        return d_x, (d_w_scaled * wi).sum(0), d_w_scaled * scale, d_out.T @ hidden, None


def _plain_add_dropped(x: Tensor, out: Tensor, kept: Masks) -> Tensor:
    """What `_add_dropped` computes, under autograd."""
    return x + out if kept.out is None else x + out * kept.out * kept.scale


def _add_dropped(x: Tensor, out: Tensor, kept: Masks) -> Tensor:
    """x + dropout(out); `out` went through another dropout before, whose scale is made up for here."""
    return x + out if kept.out is None else torch.addcmul(x, out.to(x.dtype), kept.out.to(x.dtype), value=kept.scale)


def _dropped_backward(grad: Tensor, kept: Tensor | None, scale: float) -> Tensor:
    """The gradient of `out` in `_add_dropped`."""
    return grad if kept is None else masked(grad, kept).mul_(scale)


def _scale(rate: float) -> float:
    return (1 - quantised(rate)) ** -2
