"""Residual quantisation as pure functions of tensors: codes, straight-through values, losses.

Shape legend: B rows, L levels, K codes per level, D code width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.nn.kernels.gap_loss import gap_loss
from harness.nn.kernels.precision import full_precision, widened

ResidualGradient = Literal["straight-through", "pass-on"]
LossForm = Literal["mean", "sum"]
Assign = Callable[[int, Tensor], Tensor]  # (level, distances_BK without gradient) -> codes_B int64


@dataclass(frozen=True)
class Quantized:
    """What a residual quantiser makes of B vectors; a tuple has one entry per level, in order."""

    codes_BL: Tensor  # int64
    quantized_BD: Tensor  # the sum of the chosen code vectors; its gradient passes straight to the input
    residuals: tuple[Tensor, ...]  # L times (B, D): v_l, what level l had to quantise
    code_vectors: tuple[Tensor, ...]  # L times (B, D): e_l, the chosen row of level l's codebook
    distances: tuple[Tensor, ...]  # L times (B, K): squared distances of v_l to every code of level l

    @property
    def distances_BLK(self) -> Tensor:
        """(B, L, K) squared distances, with gradient where `distances` has one."""
        return torch.stack(self.distances, dim=1)


def squared_distances(points_BD: Tensor, codebook_KD: Tensor) -> Tensor:
    """(B, K) squared Euclidean distances, as ||v||² + ||e||² - 2 v·e (one matrix product).

    In the codebook's own precision, under autocast too: the terms cancel, so in bf16 the nearest code would be lost.
    """
    with full_precision(points_BD.device):
        points_BD = points_BD.to(codebook_KD.dtype)
        cross_BK = torch.addmm(codebook_KD.square().sum(-1), points_BD, codebook_KD.T, alpha=-2)
        return cross_BK.add_(points_BD.square().sum(-1, keepdim=True))


def nearest(level: int, distances_BK: Tensor) -> Tensor:
    """(B,) the nearest code of each row: the `Assign` of every level unless told otherwise."""
    return distances_BK.argmin(-1)


def quantize(
    vectors_BD: Tensor,
    codebooks_LKD: Tensor | Sequence[Tensor],
    *,
    gradient: ResidualGradient = "straight-through",
    assign: Assign = nearest,
) -> Quantized:
    """Codes, quantised sum, residuals, code vectors and distances of B vectors (METHODS B.2).

    v_1 is the input, and v_{l+1} = v_l - e_l. With `gradient="straight-through"` the released form holds:
    v_{l+1} = v_l - q_l, where q_l = v_l + sg(e_l - v_l), so every residual after the first carries no gradient.
    With `"pass-on"`, v_{l+1} = v_l - sg(e_l), and each level's residual passes its gradient on to the input
    (METHODS C.5 #5). In both, the quantised sum is the input less sg(what the last level leaves): one straight-through
    gradient whatever the number of levels, so the switch changes the commitment and alignment terms only.
    """
    vectors_BD = residual_BD = widened(vectors_BD)
    codes, residuals, code_vectors, distances = [], [], [], []
    for level, codebook_KD in enumerate(codebooks_LKD):
        distances_BK = squared_distances(residual_BD, codebook_KD)
        codes_B = assign(level, distances_BK.detach())
        code_vectors_BD = F.embedding(codes_B, codebook_KD)
        codes.append(codes_B)
        residuals.append(residual_BD)
        code_vectors.append(code_vectors_BD)
        distances.append(distances_BK)
        residual_BD = residual_BD - code_vectors_BD.detach()
        if gradient == "straight-through":
            residual_BD = residual_BD.detach()
    return Quantized(
        codes_BL=torch.stack(codes, dim=1),
        quantized_BD=vectors_BD - residual_BD.detach(),
        residuals=tuple(residuals),
        code_vectors=tuple(code_vectors),
        distances=tuple(distances),
    )


def squared_error(estimate_BD: Tensor, truth_BD: Tensor, form: LossForm) -> Tensor:
    """The squared error: "mean" over all elements, or "sum", the squared norm of a row averaged over rows."""
    estimate_BD = widened(estimate_BD)
    if form == "mean":
        return F.mse_loss(estimate_BD, truth_BD)
    return (estimate_BD - truth_BD).square().sum(-1).mean()


def quantization_loss(quantized: Quantized, beta: float, form: LossForm = "mean") -> Tensor:
    """Codebook term plus `beta` times the commitment term, averaged ("mean") or summed over levels (METHODS B.2).

    ||sg(v_l) - e_l||² moves each level's own codebook, ||v_l - sg(e_l)||² the quantiser's input.
    """
    first = quantized.residuals[0]
    scale = 1 / (len(first) if form == "sum" else first.numel() * len(quantized.residuals))
    return gap_loss(scale, beta * scale, quantized.code_vectors, quantized.residuals)
