"""DIGER's quantiser: codes that are tried out under Gumbel noise, and what lets the noise fade (METHODS B.12).

Shape legend: B rows, N items, L levels, K codes of a level, D code width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from harness.config import Config
from harness.generative.tokenizer.fit import TokenizerTraining
from harness.generative.tokenizer.quantize import Quantized, quantization_loss, squared_distances, squared_error
from harness.generative.tokenizer.reassign import semantic_codes, without_collisions
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig
from harness.generative.tokenizer.sinkhorn import scaled_distances, sinkhorn_codes
from harness.nn.kernels.precision import full_precision, widened
from harness.nn.pieces import pieces_on

Decay = Literal["frqud", "sdud", "both", "none"]


class Exploration(Config):
    """The noise on the choice of codes in training, and the balanced choice without it (METHODS B.12)."""

    sigma: float = Field(default=1.0, ge=0, description="scale of the Gumbel noise; where it is learned, its start")
    temperature: float = Field(default=2.0, gt=0, description="of the softmax that the gradient goes through")
    decay: Decay = Field(
        default="frqud",
        description="how the noise fades; frqud: only items of often used codes get it, sdud: its scale is learned "
        "from the generator's loss, both, none",
    )
    hot: float = Field(
        default=1.5, ge=0, description="frqud: a code is often used above this many times the mean usage 1/K"
    )
    momentum: float = Field(default=0.99, ge=0, lt=1, description="frqud: share of the past in a code's mean usage")
    usage: Literal["nearest", "balanced"] = Field(
        default="nearest",
        description="frqud: the first codes that usage counts, an item's nearest ones or those of Sinkhorn in the "
        "batch, as released, which are all used alike",
    )
    offset: float = Field(default=1.7, gt=0, description="sdud: lambda, what is added to the noise's scale in the loss")
    sinkhorn_epsilon: float = Field(
        default=0.003,
        ge=0,
        description="entropy of the balanced choice, with which distances are scaled to [-1, 1]; 0: nearest codes, "
        "distances as they are",
    )
    sinkhorn_iterations: int = Field(default=50, ge=1)

    @model_validator(mode="after")
    def _a_learned_scale_can_move(self) -> Exploration:
        if self.learns_sigma and not self.sigma:
            raise ValueError(
                f"sigma > 0 must hold where it is learned (decay={self.decay}), but got 0, where its gradient is 0; "
                "raise sigma, or choose another decay"
            )
        return self

    @property
    def learns_sigma(self) -> bool:
        """Whether the generator's loss moves the noise's scale."""
        return self.decay in ("sdud", "both")

    @property
    def spares_rare_codes(self) -> bool:
        """Whether only items of often used codes get noise."""
        return self.decay in ("frqud", "both")


class Noise(NamedTuple):
    """What is added to the logits of a batch."""

    gumbel_LBK: Tensor
    scale_L: Tensor  # may carry a gradient
    explores_B: Tensor | None = None  # bool: the rows that get it; None: all


def explore(
    vectors_BD: Tensor, codebooks_LKD: Tensor | Sequence[Tensor], noise: Noise, exploration: Exploration
) -> Quantized:
    """The residual quantisation whose codes are the largest of minus the distance plus noise (METHODS B.12).

    A level's value is (onehot - sg(p) + p) · codebook, p being the softmax of the noisy logits over the temperature:
    the chosen code vector, whose gradient goes to the chosen row, and through p to the input and to all rows. Unlike
    in `quantize`, residuals pass their gradient on, and the sum's reaches the input through p alone. Rows that get no
    noise take the nearest code, or with Sinkhorn the balanced one.
    """
    is_balanced = exploration.sinkhorn_epsilon > 0
    with full_precision(vectors_BD.device):
        residual_BD = widened(vectors_BD)
        codes, residuals, values, distances = [], [], [], []
        for level, codebook_KD in enumerate(codebooks_LKD):
            distances_BK = squared_distances(residual_BD, codebook_KD)
            logits_BK = -(scaled_distances(distances_BK).to(distances_BK.dtype) if is_balanced else distances_BK)
            added_BK = noise.scale_L[level] * noise.gumbel_LBK[level]
            if noise.explores_B is not None:
                added_BK = added_BK * noise.explores_B[:, None]
            noisy_BK = logits_BK + added_BK
            codes_B = noisy_BK.argmax(-1)
            if noise.explores_B is not None and is_balanced:
                codes_B = torch.where(noise.explores_B, codes_B, balanced(distances_BK, exploration))
            soft_BD = (noisy_BK / exploration.temperature).softmax(-1) @ codebook_KD.detach()
            values_BD = F.embedding(codes_B, codebook_KD) + (soft_BD - soft_BD.detach())
            codes.append(codes_B)
            residuals.append(residual_BD)
            values.append(values_BD)
            distances.append(distances_BK)
            residual_BD = residual_BD - values_BD
    return Quantized(
        codes_BL=torch.stack(codes, dim=1),
        quantized_BD=torch.stack(values).sum(0),
        residuals=tuple(residuals),
        code_vectors=tuple(values),
        distances=tuple(distances),
    )


def balanced(distances_BK: Tensor, exploration: Exploration) -> Tensor:
    """(B,) Sinkhorn's codes among the rows at hand."""
    return sinkhorn_codes(
        distances_BK.detach(), epsilon=exploration.sinkhorn_epsilon, iterations=exploration.sinkhorn_iterations
    )


@torch.no_grad()
def hot_rows(latents_BD: Tensor, codebook_KD: Tensor, usage_K: Tensor, exploration: Exploration) -> Tensor:
    """(B,) bool: the rows whose nearest first code was used often so far; then counts the batch into `usage_K`."""
    distances_BK = squared_distances(latents_BD, codebook_KD)
    nearest_B = distances_BK.argmin(-1)
    is_hot_B = usage_K[nearest_B] > exploration.hot / len(usage_K)
    counts_balanced = exploration.usage == "balanced" and exploration.sinkhorn_epsilon > 0
    counted_B = balanced(distances_BK, exploration) if counts_balanced else nearest_B
    share = (1 - exploration.momentum) / len(counted_B)
    # Equal terms, so their order does not matter.
    usage_K.mul_(exploration.momentum).index_add_(0, counted_B, usage_K.new_full((len(counted_B),), share))
    return is_hot_B


def latent_loss(quantized: Quantized, latents_BD: Tensor, config: RQVAEConfig) -> Tensor:
    """How far the quantised sum is from the latents, plus `alpha` times the quantisation loss, a scalar."""
    gap = squared_error(quantized.quantized_BD, widened(latents_BD), config.loss_form)
    return gap + config.alpha * quantization_loss(quantized, config.beta, config.loss_form)


def uncertainty(scale_L: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """SDUD: what multiplies the generator's loss, 1 / (2 s²), and what is added to it, ln s; s = mean scale + offset.

    Both together are least where s is the root of the loss, so that the scale falls with it.
    """
    deviation = scale_L.mean() + offset
    return 1 / (2 * deviation.square()), deviation.log()


@torch.no_grad()
def item_codes(rqvae: RQVAE, vectors_NZ: Tensor, exploration: Exploration, config: TokenizerTraining) -> Tensor:
    """(N, L) int64 codes of all items without noise: Sinkhorn over all of them at each level, or the nearest."""
    with full_precision(vectors_NZ.device):
        if not exploration.sinkhorn_epsilon:
            return semantic_codes(rqvae, vectors_NZ, config.zero_collisions)
        latents_ND = torch.cat(
            [rqvae.encode(each_BZ) for each_BZ in vectors_NZ.split(pieces_on(vectors_NZ.device).items)]
        )
        quantized = rqvae.quantize(latents_ND, lambda level, distances_NK: balanced(distances_NK, exploration))
        return without_collisions(quantized.codes_BL, quantized.distances[-1], config.zero_collisions)
