"""Division by the root mean square, which is RMS norm without its scale (METHODS B.0)."""

from typing import Any

import torch
from torch import Tensor

from harness.nn.kernels.switch import runs_fast

RMS_EPS = 1e-6


def unit_rms(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + RMS_EPS) along the last dimension."""
    return _UnitRms.apply(x) if runs_fast(x.device) else plain_unit_rms(x)


def plain_unit_rms(x: Tensor) -> Tensor:
    """What `unit_rms` computes, under autograd."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + RMS_EPS)


def unit_rms_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` with root mean square 1 along the last dimension, and what it was multiplied by (..., 1)."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    inverse = mean_square.add_(RMS_EPS).rsqrt_()
    return x * inverse, inverse


def unit_rms_backward(grad: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of `x` in `unit_rms_forward`, from its results and the gradient of the first."""
    along = (grad * unit).mean(-1, keepdim=True)
    return torch.addcmul(grad, unit, along, value=-1).mul_(inverse)


class _UnitRms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        unit, inverse = unit_rms_forward(x)
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return unit_rms_backward(grads[0], *ctx.saved_tensors)
