"""The two losses of a quantiser in one pass: their squared gaps are the same numbers.

Shape legend: B rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.nn.kernels.switch import runs_fast


def gap_loss(
    pull_codes: float, pull_residuals: float, code_vectors_BD: Sequence[Tensor], residuals_BD: Sequence[Tensor]
) -> Tensor:
    """Scalar: the sum over levels of ||v - e||², as often as the two pulls together say.

    The gradient pulls each e (code vector) to its v (residual) and each v to its e, each with its own weight.
    """
    form = _GapLoss.apply if runs_fast(residuals_BD[0].device) else plain_gap_loss
    return form(pull_codes, pull_residuals, *code_vectors_BD, *residuals_BD)


def plain_gap_loss(pull_codes: float, pull_residuals: float, *codes_and_residuals: Tensor) -> Tensor:
    """What `gap_loss` computes, under autograd."""
    levels = len(codes_and_residuals) // 2
    total = codes_and_residuals[0].new_zeros(())
    for e_BD, v_BD in zip(codes_and_residuals[:levels], codes_and_residuals[levels:], strict=True):
        total = total + pull_codes * (v_BD.detach() - e_BD).square().sum()
        total = total + pull_residuals * (v_BD - e_BD.detach()).square().sum()
    return total


class _GapLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pull_codes: float, pull_residuals: float, *codes_and_residuals: Tensor) -> Tensor:
        levels = len(codes_and_residuals) // 2
        code_vectors, residuals = codes_and_residuals[:levels], codes_and_residuals[levels:]
        gaps = [v_BD - e_BD for e_BD, v_BD in zip(code_vectors, residuals, strict=True)]
        ctx.save_for_backward(*gaps)
        ctx.pulls = [-pull_codes] * levels + [pull_residuals] * levels
        total = torch.stack([torch.linalg.vector_norm(gap_BD) for gap_BD in gaps]).square().sum()
        return (pull_codes + pull_residuals) * total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gaps, needed = ctx.saved_tensors * 2, ctx.needs_input_grad[2:]
        moved = zip(gaps, ctx.pulls, needed, strict=True)
        return None, None, *(gap_BD * (2 * pull * grad) if needs else None for gap_BD, pull, needs in moved)
