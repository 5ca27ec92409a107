"""The training loop: batch, loss, backward, clip, step, schedule, record; epochs, selection, checkpoints.

Methods differ by the losses and the phases that they pass to `train`. Where several processes train together
(`context.group`), each goes through all batches and makes the losses of its own part of each; the gradients are added
up before the clip, so all processes take the same steps. Random numbers inside an epoch come from torch's
default generator, seeded anew for each epoch, so a run that goes on from a checkpoint makes the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import StageError
from harness.heap import SpareMemory
from harness.interfaces import FitContext, Progress, Recommender
from harness.provenance import peak_memory_mb
from harness.seeding import derive_seed, numpy_stream
from harness.stages import RESUME_FOLDER, write_json
from harness.training.ahead import made_ahead
from harness.training.checkpoints import Checkpoint, State
from harness.training.learner import Learner

Losses = dict[str, Tensor]  # scalars by name; "total" is what is minimised
HOST_SYNC_INTERVAL = 50  # steps between looks at the losses, each of which makes the host wait for the device


def nothing() -> None:
    """A phase's `begin` that has nothing to do."""


def no_measures() -> dict[str, float]:
    """A phase's `end` that has nothing to do and nothing to record."""
    return {}


def as_it_is(batch: Any) -> Any:
    """A phase's `prepare` that has nothing to do."""
    return batch


def never(history: tuple[dict[str, Any], ...]) -> bool:
    """A plan's `stop` that lets training run to its end."""
    return False


class Phase(NamedTuple):
    """What an epoch does: whose parameters move, and by which losses.

    `losses(batch)` yields the step's losses in one piece or several, whose gradients add up, over the processes of a
    group too; a piece's graph is freed before the next is built. `begin` freezes and thaws; `end` returns measures for
    the history. `prepare` makes of a batch what `losses` takes, in another thread where a device computes.
    """

    name: str
    learners: tuple[str, ...]
    losses: Callable[[Any], Iterable[Losses]]
    begin: Callable[[], object] = nothing
    end: Callable[[], dict[str, float]] = no_measures
    prepare: Callable[[Any], Any] = as_it_is


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """All that `train` needs to know about one stage of training."""

    name: str
    model: nn.Module  # everything that is saved and restored: parameters and persistent buffers
    learners: Mapping[str, Learner]
    phase_of: Callable[[int], Phase]  # epoch → what it does
    batches: Callable[[np.random.Generator], Iterable[Any]]  # one epoch's batches
    epochs: int
    score: Callable[[], float] | None = None  # higher is better; None: the last epoch is kept
    score_every: int = 1
    patience: int | None = None  # scores in a row without improvement before stopping
    ties_improve: bool = False
    stop: Callable[[tuple[dict[str, Any], ...]], bool] = never  # the history → whether to end here, beside `patience`
    checkpoint_every: int = 1  # epochs
    present: Callable[[], Recommender] | None = None  # with the weights as they are; None: what is trained is none


def train(plan: TrainingPlan, context: FitContext) -> list[dict[str, Any]]:
    """The history, one row per epoch; leaves the best weights in `plan.model`.

    Goes on from the last checkpoint in `context.folder`, if there is one. A finished training is not repeated.
    Raises `StageError` when a loss is not finite or a checkpoint is cut short.
    """
    files, group = Checkpoint(context.folder / RESUME_FOLDER, plan.name), context.group
    group.copy_from_main(plan.model.state_dict().values())
    state = files.load(plan.model, plan.learners) if group.from_main(files.exists()) else State()
    spare = SpareMemory()
    while state.epoch < plan.epochs and not _exhausted(plan, state):
        state = _epoch(plan, state, context, spare)
        if not group.is_main:
            continue
        is_scored = state.history[-1]["score"] is not None
        if plan.score is None or (is_scored and state.best_epoch == state.epoch):
            files.save_best(plan.model)
        if is_scored or state.epoch % plan.checkpoint_every == 0 or state.epoch == plan.epochs:
            files.save(plan.model, plan.learners, state)
    group.barrier()  # the best weights are written
    if state.epoch:
        files.load_best(plan.model)
    if group.is_main:
        write_json(context.folder / f"history-{plan.name}.json", list(state.history))
    return list(state.history)


def _exhausted(plan: TrainingPlan, state: State) -> bool:
    return plan.stop(state.history) or (plan.patience is not None and state.without_improvement >= plan.patience)


def _epoch(plan: TrainingPlan, state: State, context: FitContext, spare: SpareMemory) -> State:
    """One pass over the batches, then the score where it is due."""
    started = time.perf_counter()
    epoch = state.epoch
    group = context.group
    of_rank = () if group.is_main else ("rank", group.rank)  # dropout masks of its own for each process
    torch.manual_seed(derive_seed(context.seed, plan.name, "epoch", epoch, *of_rank))
    phase = plan.phase_of(epoch)
    phase.begin()
    means = _steps(plan, phase, epoch, context, spare)
    measures = group.from_main(phase.end())
    group.copy_from_main(plan.model.buffers())  # codes that were made anew, the same in all processes
    trained = time.perf_counter()
    done = epoch + 1
    is_due = done % plan.score_every == 0 or done == plan.epochs
    score = group.from_main(plan.score()) if plan.score is not None and is_due else None
    row = {
        "stage": plan.name,
        "phase": phase.name,
        "epoch": done,
        "losses": means,
        "measures": measures,
        "learning_rates": {n: plan.learners[n].optimizer.param_groups[0]["lr"] for n in phase.learners},
        "score": score,
        "train_seconds": trained - started,
        "score_seconds": time.perf_counter() - trained,
    }
    state = _scored(plan, state._replace(epoch=done, history=(*state.history, row)), score)
    if context.keep is not None and plan.present is not None and is_due:
        context.keep(plan.name, done, plan.present())
    context.report(Progress(plan.name, done, plan.epochs, means["total"], score, state.best_score, peak_memory_mb()))
    return state


def _scored(plan: TrainingPlan, state: State, score: float | None) -> State:
    """The state with the last epoch's score taken into account."""
    if score is None:
        return state
    best = state.best_score
    if best is None or score > best or (plan.ties_improve and score == best):
        return state._replace(best_score=score, best_epoch=state.epoch, without_improvement=0)
    return state._replace(without_improvement=state.without_improvement + 1)


def autocast(context: FitContext) -> AbstractContextManager[object]:
    """What forward passes are made within."""
    return torch.autocast(context.device.type, torch.bfloat16) if context.precision == "bf16" else nullcontext()


def each_within(context: AbstractContextManager[object], pieces: Iterable[Losses]) -> Iterator[Losses]:
    """The pieces, each made within the context and used outside: backward passes leave autocast alone."""
    made = iter(pieces)
    while True:
        with context:
            piece = next(made, None)
        if piece is None:
            return
        yield piece


def _steps(plan: TrainingPlan, phase: Phase, epoch: int, context: FitContext, spare: SpareMemory) -> dict[str, float]:
    """Mean of each loss over the epoch's steps."""
    group = context.group
    sums: dict[str, float] = {}
    waiting: list[Losses] = []
    steps = 0
    interval = 1 if context.device.type == "cpu" else HOST_SYNC_INTERVAL

    def look() -> None:
        names = list(waiting[0])
        values = torch.stack([torch.stack([losses[name] for name in names]) for losses in waiting]).double().cpu()
        for place, row in enumerate(values.tolist()):
            for name, value in zip(names, row, strict=True):
                if not math.isfinite(value):
                    step = steps - len(waiting) + place + 1
                    raise StageError(
                        f"every loss must be finite, but '{name}' is {value} in stage '{plan.name}', phase "
                        f"'{phase.name}', epoch {epoch + 1}, step {step}; lower the learning rate"
                    )
                sums[name] = sums.get(name, 0.0) + value
        waiting.clear()

    drawn = plan.batches(numpy_stream(context.seed, plan.name, "batches", epoch))
    with made_ahead(map(phase.prepare, drawn), context.device) as batches:
        for batch in batches:
            step_losses = _step(plan, phase, batch, context)
            spare.after_step()
            steps += 1
            if step_losses:  # a process that has no part of a small batch has no losses
                waiting.append(step_losses)
            if len(waiting) == interval:
                look()
    if waiting:
        look()
    return {name: value / steps for name, value in group.sum_by_name(sums).items()}


def _step(plan: TrainingPlan, phase: Phase, batch: Any, context: FitContext) -> Losses:
    """Moves the phase's parameters once; this process's losses, added up over the pieces, on the device."""
    losses: Losses = {}
    for piece in each_within(autocast(context), phase.losses(batch)):
        piece["total"].backward()
        for name, value in piece.items():
            value = value.detach()
            losses[name] = losses[name] + value if name in losses else value
    context.group.all_reduce_gradients(p for name in phase.learners for p in plan.learners[name].parameters())
    for name in phase.learners:
        plan.learners[name].step()
    return losses
