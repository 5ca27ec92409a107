"""Linear layers with ReLU between them, as one function with a gradient by hand.

In the backward pass ReLU's gradient is written over what came in, which autograd would not dare: at the RQ-VAE's sizes
the fresh memory costs more than the arithmetic.

Shape legend: B rows, I inputs and O outputs of a layer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harness.nn.layers import dtype_of_products


class MLP(nn.Sequential):
    """Linear layers with biases, and a ReLU between each two."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, O) of (B, I)."""
        return _MLP.apply(input, *self.parameters())


def mlp(sizes: tuple[int, ...], generator: torch.Generator | None = None) -> MLP:
    """Layers of the given sizes; Xavier-normal weights drawn from `generator`, zero biases."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # no draw from the global generator
        nn.init.xavier_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return MLP(*layers[:-1])


class _MLP(torch.autograd.Function):
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
