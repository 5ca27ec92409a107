"""What a target costs among the items: softmax losses that fit a large catalog, and binary losses with negatives.

States and table are of one precision, the full one: callers leave autocast first. A class is a row of the table; a
table that begins with a row for padding has items as classes by their ids.

Shape legend: M targets, V classes, C targets or classes of a chunk, J drawn classes, K negatives of a target, or chosen
classes, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.nn.kernels.products import scores_of_all, weighted_rows
from harness.nn.kernels.switch import form_on

# Logits in memory at a time. On a CPU they should stay in its cache, with the table where that is small; a larger table
# comes from memory for each chunk, so that chunks should be fewer. Elsewhere few large products are better.
CACHED_TABLE = 2**20  # elements of a small table
CPU_CHUNK_ELEMENTS = 2**19, 2**23  # with a small table, and at most with a larger one,
CPU_CHUNK_TARGETS = 192  # for so many targets
CPU_CHOSEN_ELEMENTS = 2**20  # of classes that are chosen for each target
CHUNK_ELEMENTS = 2**27
LEAST_CHUNK_TARGETS = 32  # targets whose logits are in memory, however many items: each chunk reads the whole table

CLASS_CHUNK_ELEMENTS = 2**21  # logits in memory at a time where the classes come in chunks,
LEAST_CHUNK_CLASSES = 256  # and classes of a chunk, however many targets there are


def linear_cross_entropy(
    states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, *, targets_at_once: int | None = None
) -> Tensor:
    """Scalar: summed cross-entropy (nats) of the targets under logits `states · tableᵀ`.

    The logits exist only a chunk at a time: the gradients are made along with the loss, so that memory does not grow
    with M · V and nothing is computed twice. `targets_at_once`: targets of a chunk; none: what the device likes best.
    """
    if targets_at_once is None:
        is_cpu, is_large = table_VD.device.type == "cpu", table_VD.numel() > CACHED_TABLE
        elements = CPU_CHUNK_ELEMENTS[is_large] if is_cpu else CHUNK_ELEMENTS
        most = CPU_CHUNK_TARGETS if is_cpu and is_large else len(states_MD)
        targets_at_once = max(LEAST_CHUNK_TARGETS, min(most, elements // len(table_VD)))
    form = form_on(table_VD.device)
    if form == "plain" or (form == "native" and targets_at_once >= len(states_MD)):
        return plain_cross_entropy(states_MD, table_VD, targets_M)
    return _LinearCrossEntropy.apply(states_MD, table_VD, targets_M, targets_at_once)


def plain_cross_entropy(states_MD: Tensor, table_VD: Tensor, targets_M: Tensor) -> Tensor:
    """What `linear_cross_entropy` and `chunked_cross_entropy` compute, under autograd."""
    return F.cross_entropy(states_MD @ table_VD.T, targets_M, reduction="sum")


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, size: int) -> Tensor:
        size = min(len(states_MD), size)
        logits, probabilities = states_MD.new_empty(2, size, len(table_VD))
        states_grad, table_grad = torch.empty_like(states_MD), torch.zeros_like(table_VD)
        loss = states_MD.new_zeros(())
        for start in range(0, len(states_MD), size):
            chunk = slice(start, start + size)
            states_CD, targets_C1 = states_MD[chunk], targets_M[chunk, None]
            count = len(states_CD)
            logits_CV = scores_of_all(states_CD, table_VD, logits[:count])
            difference_CV = torch.softmax(logits_CV, dim=1, out=probabilities[:count])
            # log_softmax and exp would take twice the time of softmax. The largest class tells what the logits were
            # lowered by; its probability is at least 1 / V, so its logarithm is exact where a target's need not be.
            log_sums_C = logits_CV.amax(dim=1) - difference_CV.amax(dim=1).log_()
            loss += (log_sums_C - logits_CV.gather(1, targets_C1)[:, 0]).sum()
            # The gradient with respect to the logits: probabilities less the one-hot target.
            difference_CV.scatter_add_(1, targets_C1, -states_CD.new_ones(count, 1))
            weighted_rows(difference_CV, table_VD, states_grad[chunk])
            table_grad.addmm_(difference_CV.T, states_CD)
        ctx.save_for_backward(states_grad, table_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_grad, table_grad = ctx.saved_tensors
        return states_grad * loss_grad, table_grad * loss_grad, None, None


def chunked_cross_entropy(
    states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, *, classes_at_once: int | None = None
) -> Tensor:
    """Scalar: summed cross-entropy (nats) of the targets under logits `states · tableᵀ`, the classes a chunk at a time.

    Loss and gradients are those of the whole softmax up to rounding. Each pass reads the table once, whatever its
    length, so time grows with M · V; the logits are computed in the forward pass and again in the backward pass, and
    memory beyond the gradients grows with M alone. `classes_at_once`: classes of a chunk; none: about as many logits.
    """
    if classes_at_once is None:
        classes_at_once = max(LEAST_CHUNK_CLASSES, CLASS_CHUNK_ELEMENTS // max(1, len(states_MD)))
    if form_on(table_VD.device) == "plain":
        return plain_cross_entropy(states_MD, table_VD, targets_M)
    return _ChunkedCrossEntropy.apply(states_MD, table_VD, targets_M, classes_at_once)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, size: int) -> Tensor:
        log_sums_M = states_MD.new_full((len(states_MD),), -math.inf)
        for chunk_CD in table_VD.split(size):
            log_sums_M = torch.logaddexp(log_sums_M, (states_MD @ chunk_CD.T).logsumexp(dim=1))
        ctx.save_for_backward(states_MD, table_VD, targets_M, log_sums_M)
        ctx.size = size
        return (log_sums_M - (states_MD * table_VD[targets_M]).sum(dim=1)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_MD, table_VD, targets_M, log_sums_M = ctx.saved_tensors
        states_grad, table_grad = -table_VD[targets_M], torch.empty_like(table_VD)
        for chunk_CD, chunk_grad in zip(table_VD.split(ctx.size), table_grad.split(ctx.size), strict=True):
            probabilities_MC = (states_MD @ chunk_CD.T).sub_(log_sums_M[:, None]).exp_()
            states_grad.addmm_(probabilities_MC, chunk_CD)
            torch.mm(probabilities_MC.T, states_MD, out=chunk_grad)
        table_grad.index_add_(0, targets_M, states_MD, alpha=-1)
        return states_grad.mul_(loss_grad), table_grad.mul_(loss_grad), None, None


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


# A chosen class's row is read for it alone where the table is longer than this many times the chosen classes of a
# target. In a shorter one the products with all classes cost less than rows read here and there.
ROWS_OF_A_CHOICE = 128


def chosen_logits(states_MD: Tensor, table_VD: Tensor, classes_MK: Tensor, *, at_once: int | None = None) -> Tensor:
    """(M, K) logits of the classes that are chosen for each target.

    No tensor of M · V or M · K · D elements exists, only of a chunk of targets. `at_once`: targets of a chunk; none: as
    many as `CHUNK_ELEMENTS` allow.
    """
    if form_on(table_VD.device) == "plain":
        return plain_chosen_logits(states_MD, table_VD, classes_MK)
    if at_once is None:
        elements = CPU_CHOSEN_ELEMENTS if table_VD.device.type == "cpu" else CHUNK_ELEMENTS
        width = min(len(table_VD), classes_MK.shape[1] * table_VD.shape[1])
        at_once = max(LEAST_CHUNK_TARGETS, elements // width)
    return _ChosenLogits.apply(states_MD, table_VD, classes_MK, at_once)


def plain_chosen_logits(states_MD: Tensor, table_VD: Tensor, classes_MK: Tensor) -> Tensor:
    """What `chosen_logits` computes, under autograd."""
    return torch.einsum("md,mkd->mk", states_MD, F.embedding(classes_MK, table_VD))


class _ChosenLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_MD: Tensor, table_VD: Tensor, classes_MK: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(states_MD, table_VD, classes_MK)
        ctx.size, ctx.is_short = size, len(table_VD) <= ROWS_OF_A_CHOICE * classes_MK.shape[1]
        logits_MK = states_MD.new_empty(classes_MK.shape)
        logits = states_MD.new_empty(min(size, len(states_MD)) if ctx.is_short else 0, len(table_VD))
        for states_CD, classes_CK, logits_CK in zip(
            states_MD.split(size), classes_MK.split(size), logits_MK.split(size), strict=True
        ):
            if ctx.is_short:
                logits_CV = scores_of_all(states_CD, table_VD, logits[: len(states_CD)])
                torch.gather(logits_CV, 1, classes_CK, out=logits_CK)
            else:
                logits_CK.copy_(torch.bmm(table_VD[classes_CK], states_CD[:, :, None])[:, :, 0])
        return logits_MK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logits_grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_MD, table_VD, classes_MK = ctx.saved_tensors
        states_grad, table_grad = torch.empty_like(states_MD), torch.zeros_like(table_VD)
        d = logits_grad.new_empty(min(ctx.size, len(states_MD)) if ctx.is_short else 0, len(table_VD))
        for states_CD, classes_CK, d_CK, d_states_CD in zip(
            states_MD.split(ctx.size),
            classes_MK.split(ctx.size),
            logits_grad.split(ctx.size),
            states_grad.split(ctx.size),
            strict=True,
        ):
            if ctx.is_short:
                d_CV = d[: len(d_CK)].zero_().scatter_add_(1, classes_CK, d_CK)
                weighted_rows(d_CV, table_VD, d_states_CD)
                table_grad.addmm_(d_CV.T, states_CD)
            else:
                d_states_CD.copy_(torch.bmm(d_CK[:, None], table_VD[classes_CK])[:, 0])
                d_rows_CKD = d_CK[:, :, None] * states_CD[:, None]
                table_grad.index_add_(0, classes_CK.flatten(), d_rows_CKD.flatten(0, 1))
        return states_grad, table_grad, None, None


def drawn_cross_entropy(
    states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, negatives_MK: Tensor, *, keep_hits: bool = True
) -> Tensor:
    """Scalar: summed cross-entropy (nats) of each target against K negatives of its own, logits not corrected.

    This is the sampled softmax of HSTU and eSASRec (METHODS B.7, B.9). `keep_hits`: a negative that equals the target
    counts like any other; else it is left out.
    """
    logits_MC = chosen_logits(states_MD, table_VD, torch.cat([targets_M[:, None], negatives_MK], dim=1))
    if not keep_hits:
        is_hit_MC = F.pad(negatives_MK == targets_M[:, None], (1, 0))
        logits_MC = logits_MC.masked_fill(is_hit_MC, -math.inf)
    return (logits_MC.logsumexp(dim=1) - logits_MC[:, 0]).sum()


def binary_cross_entropy(states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, negatives_M: Tensor) -> Tensor:
    """Scalar: summed binary cross-entropy (nats) of each target against one negative (METHODS B.1, original form)."""
    target_logits_M = (states_MD * F.embedding(targets_M, table_VD)).sum(dim=1)
    negative_logits_M = (states_MD * F.embedding(negatives_M, table_VD)).sum(dim=1)
    return -(F.logsigmoid(target_logits_M) + F.logsigmoid(-negative_logits_M)).sum()


def generalised_binary_cross_entropy(
    states_MD: Tensor, table_VD: Tensor, targets_M: Tensor, negatives_MK: Tensor, *, num_items: int, calibration: float
) -> Tensor:
    """Scalar: summed gBCE (nats) of each target against K uniform negatives, a mean over the K + 1 (METHODS B.9).

    `calibration` is the paper's t: the target's term weighs 1 - t (1 - K / (num_items - 1)), which undoes the
    overconfidence that drawing only K negatives brings: 0 is the plain binary cross-entropy, 1 undoes all of it.
    """
    count = negatives_MK.shape[1]
    weight = 1 - calibration * (1 - count / (num_items - 1))
    logits_MC = chosen_logits(states_MD, table_VD, torch.cat([targets_M[:, None], negatives_MK], dim=1))
    return -(weight * F.logsigmoid(logits_MC[:, 0]).sum() + F.logsigmoid(-logits_MC[:, 1:]).sum()) / (count + 1)
