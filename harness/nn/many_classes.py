"""Softmax losses for catalogs so large that the table of logits, or one pass over the classes per few targets, is dear.

Shape legend: M targets, V classes, C classes of a chunk, J drawn classes, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 2**21  # logits in memory at a time
LEAST_CHUNK = 256  # classes of a chunk, however many targets there are


def chunked_cross_entropy(states_MD: Tensor, table_VD: Tensor, targets_M: Tensor) -> Tensor:
    """Scalar: summed cross-entropy (nats) of the targets under logits `states · tableᵀ`, the classes a chunk at a time.

    Loss and gradients are those of the whole softmax up to rounding. Each pass reads the table once, whatever its
    length, so time grows with M · V; the logits are computed in the forward pass and again in the backward pass, and
    memory beyond the gradients grows with M alone.
    """
    with torch.autocast(states_MD.device.type, enabled=False):
        return _ChunkedCrossEntropy.apply(states_MD.to(table_VD.dtype), table_VD, targets_M)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_MD: Tensor, table_VD: Tensor, targets_M: Tensor) -> Tensor:
        log_sums_M = states_MD.new_full((len(states_MD),), -math.inf)
        for chunk_CD in table_VD.split(_chunk_size(states_MD)):
            log_sums_M = torch.logaddexp(log_sums_M, (states_MD @ chunk_CD.T).logsumexp(dim=1))
        ctx.save_for_backward(states_MD, table_VD, targets_M, log_sums_M)
        return (log_sums_M - (states_MD * table_VD[targets_M]).sum(dim=1)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor, Tensor, None]:
        states_MD, table_VD, targets_M, log_sums_M = ctx.saved_tensors
        size = _chunk_size(states_MD)
        states_grad, table_grad = -table_VD[targets_M], torch.empty_like(table_VD)
        for chunk_CD, chunk_grad in zip(table_VD.split(size), table_grad.split(size), strict=True):
            probabilities_MC = (states_MD @ chunk_CD.T).sub_(log_sums_M[:, None]).exp_()
            states_grad.addmm_(probabilities_MC, chunk_CD)
            torch.mm(probabilities_MC.T, states_MD, out=chunk_grad)
        table_grad.index_add_(0, targets_M, states_MD, alpha=-1)
        return states_grad.mul_(loss_grad), table_grad.mul_(loss_grad), None


def _chunk_size(states_MD: Tensor) -> int:
    return max(LEAST_CHUNK, CHUNK_ELEMENTS // max(1, len(states_MD)))


def sampled_cross_entropy(
    states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, drawn_J: Tensor, log_expected_J: Tensor
) -> Tensor:
    """Scalar: summed cross-entropy (nats) of each target against classes drawn with replacement, the same for all.

    A drawn class's logit is lowered by `log_expected_J`, the logarithm of how often it is expected among the J draws,
    and left out where it is the target. Then the denominator's expectation is that of the whole softmax, which the
    loss tends to as J grows (Bengio and Senécal 2008; Jean et al. 2015, section 3).
    """
    target_logits_M1 = (states_MD * table_VD[targets_M]).sum(dim=1, keepdim=True)
    drawn_logits_MJ = states_MD @ table_VD[drawn_J].T - log_expected_J
    drawn_logits_MJ = drawn_logits_MJ.masked_fill(drawn_J == targets_M[:, None], -math.inf)
    log_sums_M = torch.cat([target_logits_M1, drawn_logits_MJ], dim=1).logsumexp(dim=1)
    return (log_sums_M - target_logits_M1[:, 0]).sum()
