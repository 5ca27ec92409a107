"""What bf16 changes in a step: the first one of each epoch of a fit in fp32, made in both precisions.

From the same weights, codes, batch and dropout, so that nothing adds up over steps: a fit in bf16 as a whole goes
another way, as one in fp32 does whose weights are moved by a millionth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness.heap import SpareMemory
from harness.interfaces import FitContext
from harness.training import loop
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan

LEAST_UNIT = 2**-7  # twice what bf16 rounds to


class Made(NamedTuple):
    """What a step makes before its weights move."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]  # of each learner, all in one


class Gaps:
    """The largest gaps so far, relative, by the name of a loss or of a learner.

    A gradient's is given in units of the gap that weights rounded to bf16 make in fp32: how much rounding a gradient
    shows differs from step to step, near a minimum most of all. A unit is at least `LEAST_UNIT` of the gradient: where
    a maximum chooses what learns, as in Caser's pooling, rounded weights may choose alike and rounded states not.
    """

    def __init__(self) -> None:
        self.losses: dict[str, float] = {}
        self.gradients: dict[str, float] = {}

    def add(self, rough: Made, exact: Made, rounded: Made) -> None:
        """Takes a step's into account: in bf16, in fp32, and in fp32 with rounded weights."""
        for name, value in exact.losses.items():
            keep_greatest(self.losses, name, abs(rough.losses[name] - value) / abs(value))
        for name, gradient in exact.gradients.items():
            gap, unit = ((other.gradients[name] - gradient).norm() for other in (rough, rounded))
            keep_greatest(self.gradients, name, float(gap / torch.maximum(unit, LEAST_UNIT * gradient.norm())))


def keep_greatest(found: dict[str, float], name: str, value: float) -> None:
    """Puts in the value if it is greater than what is there; what is no number stays."""
    found[name] = float(np.maximum(found.get(name, 0.0), value))


@contextmanager
def measured(device: torch.device) -> Iterator[Gaps]:
    """Gaps of the fits on the device while the block lasts, which stay what they are without it."""
    gaps, steps = Gaps(), loop._steps
    within = torch.autocast(device.type, torch.bfloat16)

    def in_both(plan: TrainingPlan, phase: Phase, epoch: int, context: FitContext, spare: SpareMemory) -> Any:
        if context.device == device:
            learners = {name: plan.learners[name] for name in phase.learners}
            phase = phase._replace(losses=first_in_both(phase.losses, learners, plan.model, within, gaps))
        return steps(plan, phase, epoch, context, spare)

    with mock.patch.object(loop, "_steps", in_both):
        yield gaps


def first_in_both(
    losses: Callable[[Any], Iterable[Losses]],
    learners: dict[str, Learner],
    model: nn.Module,
    within: AbstractContextManager[object],
    gaps: Gaps,
) -> Callable[[Any], Iterable[Losses]]:
    """The losses, of whose first batch the gaps are taken before."""
    is_first = True

    def made(batch: Any, around: AbstractContextManager[object]) -> Made:
        with as_before(model), around:
            return step_made(losses(batch), learners)

    def of_batch(batch: Any) -> Iterable[Losses]:
        nonlocal is_first
        if is_first:
            is_first = False
            with as_before(model):
                rough = step_made(loop.each_within(within, losses(batch)), learners)
            gaps.add(rough, made(batch, nullcontext()), made(batch, rounded(list(model.parameters()))))
        yield from losses(batch)

    return of_batch


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Random numbers, and what a step counts in the model's buffers, are after the block what they were."""
    drawn, kept = torch.get_rng_state(), [buffer.clone() for buffer in model.buffers()]
    yield
    torch.set_rng_state(drawn)
    for buffer, before in zip(model.buffers(), kept, strict=True):
        buffer.copy_(before)


@contextmanager
def rounded(weights: list[nn.Parameter]) -> Iterator[None]:
    """The weights are those nearest in bf16 while the block lasts."""
    kept = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.data.copy_(weight.data.bfloat16())
    yield
    for weight, before in zip(weights, kept, strict=True):
        weight.data.copy_(before)


def step_made(pieces: Iterable[Losses], learners: dict[str, Learner]) -> Made:
    """The losses and gradients of the pieces; the gradients are forgotten afterwards."""
    losses: Counter[str] = Counter()
    for piece in pieces:
        piece["total"].backward()
        for name, value in piece.items():
            losses[name] += value.item()
    gradients = {}
    for name, learner in learners.items():
        moved = [each.grad for each in learner.parameters() if each.grad is not None]
        gradients[name] = torch.cat([grad.flatten().cpu().double() for grad in moved])
        learner.optimizer.zero_grad(set_to_none=True)
    return Made(dict(losses), gradients)
