"""Small layers with little memory traffic: 8-bit dropout masks and RMS norm.

On a CPU `torch.dropout` draws a 24-bit float and keeps it for every element, which is a third of the time of a
training step at this project's sizes. The layers here draw one byte per element instead, keep one byte, and write in
place where autograd allows it. Masks are numbers, not booleans: torch compares bytes, and multiplies by booleans, one
by one, but clamps bytes, and turns them into floats, many at a time (4 to 20 times faster at a million elements).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256  # what one random byte can tell apart
RMS_EPS = 1e-6


def quantised(rate: float) -> float:
    """The dropout rate that is really applied: the nearest multiple of 1/256 (0.1 becomes 26/256 = 0.1016)."""
    return round(rate * LEVELS) / LEVELS


def keep_mask(shape: torch.Size, rate: float, device: torch.device) -> Tensor:
    """A uint8 mask of `shape`, 1 with probability 1 - quantised(rate), else 0, from torch's default generator."""
    count = shape.numel()
    words = torch.empty((count + 7) // 8, dtype=torch.int64, device=device)
    words.random_(-(2**63), None)  # all 64 bits, eight masks a draw
    first_kept = round(rate * LEVELS)
    kept = words.view(torch.uint8)[:count].view(shape)
    return kept.clamp_(first_kept - 1, first_kept).sub_(first_kept - 1)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x * mask for a mask of bytes."""
    return mask.to(x.dtype).mul_(x)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        kept = keep_mask(x.shape, rate, x.device)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - quantised(rate))
        return masked(x, kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return masked(grads[0], kept).mul_(ctx.scale), None


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`x` with each element zeroed with probability quantised(rate), the rest scaled so that the mean stays.

    The scale fits the quantised rate exactly. The backward pass needs one byte per element. Identity in eval mode.
    """
    return _Dropout.apply(x, rate) if training and round(rate * LEVELS) else x


class Dropout(nn.Module):
    """Dropout with cheap masks, off in evaluation."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`x` with dropped elements 0 and the others scaled up."""
        return dropout(x, self.rate, self.training)


def unit_rms(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` with root mean square 1 along the last dimension, and what it was multiplied by (..., 1)."""
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    inverse = mean_square.add_(RMS_EPS).rsqrt_()
    return x * inverse, inverse


def unit_rms_backward(grad: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of `x` in `unit_rms`, from its results and the gradient of the first."""
    along = (grad * unit).mean(-1, keepdim=True)
    return torch.addcmul(grad, unit, along, value=-1).mul_(inverse)


class _UnitRms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        unit, inverse = unit_rms(x)
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return unit_rms_backward(grads[0], *ctx.saved_tensors)


def dtype_of_products(x: Tensor) -> torch.dtype:
    """What matrix products of `x` are computed in: its own precision, or autocast's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + RMS_EPS) times a learned scale per channel: no mean, no bias (METHODS B.0)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The normed and scaled `x`."""
        return self.unit(x) * self.weight

    def linear(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """linear(norm(x)): the scale is applied to the columns of the weight, which are fewer than the rows of x."""
        return F.linear(self.unit(x), linear.weight * self.weight)

    def unit(self, x: Tensor) -> Tensor:
        """`x` with root mean square 1 along the last dimension, not scaled."""
        return _UnitRms.apply(x)
