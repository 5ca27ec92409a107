"""Dropout with 8-bit masks.

On a CPU `torch.dropout` draws a 24-bit float and keeps it for every element, which is a third of the time of a
training step at this project's sizes. Here one byte per element is drawn and kept. Masks are numbers, not booleans:
torch compares bytes, and multiplies by booleans, one by one, but clamps bytes, and turns them into floats, many at a
time (4 to 20 times faster at a million elements).
"""

from typing import Any

import torch
from torch import Tensor

from harness.nn.kernels.switch import runs_fast, runs_native

LEVELS = 256  # what one random byte can tell apart


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


def mask_if_any(shape: torch.Size, rate: float, device: torch.device) -> Tensor | None:
    """`keep_mask`, or None, without a draw, where nothing is dropped."""
    return keep_mask(shape, rate, device) if quantised(rate) else None


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x * mask for a mask of bytes."""
    return mask.to(x.dtype).mul_(x)


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`x` with each element zeroed with probability quantised(rate), the rest scaled so that the mean stays.

    The scale fits the quantised rate exactly. The backward pass needs one byte per element. Identity in eval mode.
    torch's own dropout (`switch`) has the rate as it is given.
    """
    if runs_native(x.device):
        return torch.native_dropout(x, rate, True)[0] if training and rate else x
    kept = mask_if_any(x.shape, rate, x.device) if training else None
    if kept is None:
        return x
    form = _Dropout.apply if runs_fast(x.device) else plain_dropout
    return form(x, kept, 1 / (1 - quantised(rate)))


def plain_dropout(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    """What `dropout` computes, under autograd."""
    return x * kept * scale


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return masked(x, kept).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return masked(grads[0], kept).mul_(ctx.scale), None, None
