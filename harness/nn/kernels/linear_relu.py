"""Linear layers with ReLU between them.

In the backward pass ReLU's gradient is written over what came in, which autograd would not dare: at the RQ-VAE's sizes
the fresh memory costs more than the arithmetic.

Shape legend: B rows, I inputs and O outputs of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.nn.kernels.precision import dtype_of_products
from harness.nn.kernels.switch import runs_fast


def linear_relu(x_BI: Tensor, *weights_and_biases: Tensor) -> Tensor:
    """(B, O) after all layers, from (O, I) weights and (O,) biases in turns."""
    form = _LinearRelu.apply if runs_fast(x_BI.device) else plain_linear_relu
    return form(x_BI, *weights_and_biases)


def plain_linear_relu(x_BI: Tensor, *weights_and_biases: Tensor) -> Tensor:
    """What `linear_relu` computes, under autograd."""
    first, *others = zip(weights_and_biases[::2], weights_and_biases[1::2], strict=True)
    out = F.linear(x_BI, *first)
    for weight_OI, bias_O in others:
        out = F.linear(out.relu(), weight_OI, bias_O)
    return out


class _LinearRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights_and_biases: Tensor) -> Tensor:
        dtype = dtype_of_products(x)
        rows = [x.to(dtype)]
        weights = [weight_OI.to(dtype) for weight_OI in weights_and_biases[::2]]
        biases = [bias_O.to(dtype) for bias_O in weights_and_biases[1::2]]
        for weight_OI, bias_O in zip(weights, biases, strict=True):
            if len(rows) > 1:
                rows[-1].relu_()
            rows.append(torch.addmm(bias_O, rows[-1], weight_OI.T))
        ctx.save_for_backward(*rows[:-1], *weights)
        return rows[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        rows, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        needed = ctx.needs_input_grad
        grad = grads[0].to(weights[-1].dtype)
        found: list[Tensor | None] = []
        for place in reversed(range(len(weights))):
            found = [grad.T @ rows[place] if needed[1 + 2 * place] else None, grad.sum(0), *found]
            if not any(needed[: 1 + 2 * place]):
                return (None, *[None] * (2 * place), *found)
            grad = grad @ weights[place]
            if place:
                torch.ops.aten.threshold_backward.grad_input(grad, rows[place], 0, grad_input=grad)
        return (grad, *found)
