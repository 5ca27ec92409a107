"""The blocks of a transformer as single functions with gradients by hand: norm, sublayer, dropout, residual.

At this project's sizes a training step is hundreds of operators of a few microseconds each, so that what autograd does
around an operator costs as much as the operator. A block is one node of its graph, keeps nothing twice, and applies the
scales of the norm and of dropout to weights or to sums that are computed anyway.

Shape legend: N tokens, M tokens of a memory, D width, I inner width, J width of the hidden units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.nn.kernels.attention import Attended, attend, attend_backward
from harness.nn.layers import LEVELS, dtype_of_products, keep_mask, masked, quantised, unit_rms, unit_rms_backward
from harness.nn.ragged import AttentionLayout


def attention_block(
    x_ND: Tensor,
    scale_D: Tensor,
    w_in: Tensor,
    w_out_DI: Tensor,
    layout: AttentionLayout,
    *,
    bias_HQS: Tensor | None = None,
    memory_MD: Tensor | None = None,
    w_memory: Tensor | None = None,
    rate: float = 0.0,
) -> Tensor:
    """(N, D): x + dropout(w_out attention(w_in norm(x), w_memory memory)).

    The norm is RMS norm with `scale_D`. Without a memory, `w_in` (3 * I, D) makes queries, keys and values; with one,
    `w_in` (I, D) makes queries and `w_memory` (2 * I, D) keys and values. `rate` drops probabilities and outputs.
    """
    return _AttentionBlock.apply(x_ND, scale_D, w_in, w_out_DI, bias_HQS, memory_MD, w_memory, layout, rate)


def feed_forward_block(x_ND: Tensor, scale_D: Tensor, wi_JD: Tensor, wo_DJ: Tensor, *, rate: float = 0.0) -> Tensor:
    """(N, D): x + dropout(wo dropout(relu(wi norm(x)))), the norm being RMS norm with `scale_D`."""
    return _FeedForwardBlock.apply(x_ND, scale_D, wi_JD, wo_DJ, rate)


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
        w_memory: Tensor | None,
        layout: AttentionLayout,
        rate: float,
    ) -> Tensor:
        dtype = dtype_of_products(x)
        unit, inverse = unit_rms(x)
        rows, w_scaled, w_out = unit.to(dtype), (w_in * scale).to(dtype), w_out.to(dtype)
        read = None
        if memory is not None and w_memory is not None:
            memory, w_memory = memory.to(dtype), w_memory.to(dtype)
            read = memory @ w_memory.T
        mixed, attended = attend(rows @ w_scaled.T, read, bias, layout, rate)
        y, kept = _add_dropped(x, mixed @ w_out.T, rate)
        ctx.save_for_backward(
            unit, inverse, rows, scale, w_in, w_scaled, w_out, mixed, kept, bias, memory, w_memory, *attended
        )
        ctx.layout, ctx.rate = layout, rate
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, rows, scale, w_in, w_scaled, w_out, mixed, kept, bias, memory, w_memory, *saved = (
            ctx.saved_tensors
        )
        d_out = _dropped_backward(grads[0], kept, ctx.rate).to(w_out.dtype)
        d_projected, d_read, d_bias = attend_backward(d_out @ w_out, Attended(*saved), bias, ctx.layout)
        d_w_scaled = d_projected.T @ rows
        d_x = unit_rms_backward(d_projected @ w_scaled, unit, inverse).add_(grads[0])
        d_memory = d_w_memory = None
        if d_read is not None:
            d_memory, d_w_memory = d_read @ w_memory, d_read.T @ memory
        d_scale = (d_w_scaled * w_in).sum(0)
        return d_x, d_scale, d_w_scaled * scale, d_out.T @ mixed, d_bias, d_memory, d_w_memory, None, None


class _FeedForwardBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, wi: Tensor, wo: Tensor, rate: float) -> Tensor:
        dtype = dtype_of_products(x)
        unit, inverse = unit_rms(x)
        rows, w_scaled, wo = unit.to(dtype), (wi * scale).to(dtype), wo.to(dtype)
        hidden = (rows @ w_scaled.T).relu_()
        if round(rate * LEVELS):
            hidden.mul_(keep_mask(hidden.shape, rate, x.device).to(dtype))
        y, kept = _add_dropped(x, hidden @ wo.T, rate)
        ctx.save_for_backward(unit, inverse, rows, scale, wi, w_scaled, wo, hidden, kept)
        ctx.rate = rate
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, rows, scale, wi, w_scaled, wo, hidden, kept = ctx.saved_tensors
        d_out = _dropped_backward(grads[0], kept, ctx.rate).to(wo.dtype)
        # A dropped unit and an inactive unit look alike, 0, so that ReLU's gradient is that of both.
        d_hidden = torch.ops.aten.threshold_backward(d_out @ wo, hidden, 0)
        d_w_scaled = d_hidden.T @ rows
        d_x = unit_rms_backward(d_hidden @ w_scaled, unit, inverse).add_(grads[0])
        return d_x, (d_w_scaled * wi).sum(0), d_w_scaled * scale, d_out.T @ hidden, None


def _add_dropped(x: Tensor, out: Tensor, rate: float) -> tuple[Tensor, Tensor | None]:
    """x + dropout(out), and the mask; `out` went through another dropout before, whose scale is made up for here."""
    if not round(rate * LEVELS):
        return x + out, None
    kept = keep_mask(out.shape, rate, out.device)
    return torch.addcmul(x, out.to(x.dtype), kept.to(x.dtype), value=_scale(rate)), kept


def _dropped_backward(grad: Tensor, kept: Tensor | None, rate: float) -> Tensor:
    """The gradient of `out` in `_add_dropped`."""
    return grad if kept is None else masked(grad, kept).mul_(_scale(rate))


def _scale(rate: float) -> float:
    """What two dropouts in a row scale up by."""
    return (1 - quantised(rate)) ** -2
