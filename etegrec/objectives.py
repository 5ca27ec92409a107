"""The losses of ETEGRec (METHODS C.2); L_REC and L_SQ are those that TIGER's generator and tokenizer have too.

Shape legend: B rows, L levels or tokens, K codes per level, D width of an item vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.generative.generator import token_loss as l_rec
from harness.generative.tokenizer.rqvae import tokenizer_loss as l_sq
from harness.nn.kernels.precision import full_precision, widened

__all__ = ["combined", "first_occurrences", "l_psa", "l_rec", "l_sia", "l_sq"]

DistanceSign = Literal["minus", "plus"]
LevelReduction = Literal["mean", "sum"]


def l_sia(
    distances_z_BLK: Tensor,
    distances_e_BLK: Tensor,
    *,
    sign: DistanceSign = "minus",
    level_reduction: LevelReduction = "mean",
) -> Tensor:
    """L_SIA in nats, a scalar (Eq. 15): KL(P||Q) + KL(Q||P) of the code distributions of an item and of its sequence.

    P and Q are softmaxes of minus the squared distances (Eq. 6; the released code takes plus, METHODS C.5 #1).
    The mean goes over rows, and over levels too unless `level_reduction="sum"` (METHODS C.5 #4).
    The paper's Eq. 15 carries a stray minus: a divergence is minimised.
    """
    factor = -1.0 if sign == "minus" else 1.0
    log_p_BLK = F.log_softmax(factor * distances_z_BLK, dim=-1)
    log_q_BLK = F.log_softmax(factor * distances_e_BLK, dim=-1)
    divergence_BL = ((log_p_BLK.exp() - log_q_BLK.exp()) * (log_p_BLK - log_q_BLK)).sum(-1)
    return divergence_BL.mean() if level_reduction == "mean" else divergence_BL.sum(-1).mean()


def l_psa(reconstruction_BD: Tensor, preference_BD: Tensor, temperature: float = 0.07) -> Tensor:
    """L_PSA in nats, a scalar (Eq. 16): contrast of each reconstructed target with its preference, in both directions.

    Rows are L2-normalised, the other rows of the batch are the negatives, and both cross-entropies are added
    (the paper's Eq. 16 prints one with the wrong sign, METHODS C.2).
    """
    with full_precision(reconstruction_BD.device):
        semantics_BD, preference_BD = widened(reconstruction_BD), widened(preference_BD)
        similarity_BB = F.normalize(semantics_BD, dim=-1) @ F.normalize(preference_BD, dim=-1).T / temperature
        own_B = torch.arange(len(similarity_BB), device=similarity_BB.device)
        return F.cross_entropy(similarity_BB, own_B) + F.cross_entropy(similarity_BB.T, own_B)


def combined(terms: Mapping[str, Tensor], mu: float, lambda_: float) -> Tensor:
    """The total of whichever of L_REC, L_SQ, L_SIA and L_PSA a phase has; mu weighs SIA, lambda PSA (METHODS C.2)."""
    weights = {"sia": mu, "psa": lambda_}
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()


def first_occurrences(targets_B: np.ndarray) -> np.ndarray:
    """int64 positions, ascending, at which a target stands for the first time in the batch (METHODS C.5 #9)."""
    return np.sort(np.unique(targets_B, return_index=True)[1])
