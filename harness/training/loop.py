"""The training loop: batch, loss, backward, clip, step, schedule, record; epochs, selection, checkpoints.

Methods differ by the losses and the phases that they pass to `train`. Where several processes train together
(`context.group`), each goes through all batches and makes the losses of its own part of each; the gradients are added
up before the clip, so all processes take the same steps. Random numbers inside an epoch come from torch's
default generator, seeded anew for each epoch, so a run that goes on from a checkpoint makes the same numbers.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.errors import StageError
from harness.interfaces import FitContext, Progress
from harness.provenance import peak_memory_mb
from harness.seeding import derive_seed, numpy_stream
from harness.stages import RESUME_FOLDER, read_json, write_json

Losses = dict[str, Tensor]  # scalars by name; "total" is what is minimised
SHORT = 0.999  # of the greatest norm: so short a gradient is scaled by exactly 1
HOST_SYNC_INTERVAL = 50  # steps between looks at the losses, each of which makes the host wait for the device


@dataclass
class Learner:
    """Parameters that are trained together: their optimiser, learning-rate schedule and gradient clip."""

    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float] = lambda step: 1.0  # steps taken → multiple of the base learning rate
    max_norm: float | None = None
    steps: int = 0

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, in the optimiser's order."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def step(self) -> None:
        """One update with the gradients at hand, which are then forgotten."""
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("base_lr", group["lr"]) * self.schedule(self.steps)
        if self.max_norm is not None:
            self._clip(self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1

    def _clip(self, max_norm: float) -> None:
        parameters = self.parameters()
        norm = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        # Most are short, and to scale them by 1 would write them all again. For a GPU's answer one would have to wait.
        if norm.device.type != "cpu" or not norm <= SHORT * max_norm:
            nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def nothing() -> None:
    """A phase's `begin` that has nothing to do."""


def no_measures() -> dict[str, float]:
    """A phase's `end` that has nothing to do and nothing to record."""
    return {}


def never(history: tuple[dict[str, Any], ...]) -> bool:
    """A plan's `stop` that lets training run to its end."""
    return False


class Phase(NamedTuple):
    """What an epoch does: whose parameters move, and by which losses.

    `losses(batch)` yields the step's losses in one piece or several, whose gradients add up, over the processes of a
    group too; a piece's graph is freed before the next is built. `begin` freezes and thaws; `end` returns measures for
    the history.
    """

    name: str
    learners: tuple[str, ...]
    losses: Callable[[Any], Iterable[Losses]]
    begin: Callable[[], object] = nothing
    end: Callable[[], dict[str, float]] = no_measures


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


class State(NamedTuple):
    """Where training stands after an epoch, as plain JSON."""

    epoch: int = 0  # epochs done
    best_score: float | None = None
    best_epoch: int = 0
    without_improvement: int = 0
    history: tuple[dict[str, Any], ...] = ()


def train(plan: TrainingPlan, context: FitContext) -> list[dict[str, Any]]:
    """The history, one row per epoch; leaves the best weights in `plan.model`.

    Goes on from the last checkpoint in `context.folder`, if there is one. A finished training is not repeated.
    Raises `StageError` when a loss is not finite or a checkpoint is cut short.
    """
    files, group = Checkpoint(context.folder / RESUME_FOLDER, plan.name), context.group
    group.copy_from_main(plan.model.state_dict().values())
    state = files.load(plan) if group.from_main(files.exists()) else State()
    while state.epoch < plan.epochs and not _exhausted(plan, state):
        state = _epoch(plan, state, context)
        if not group.is_main:
            continue
        is_scored = state.history[-1]["score"] is not None
        if plan.score is None or (is_scored and state.best_epoch == state.epoch):
            files.save_best(plan.model)
        if is_scored or state.epoch % plan.checkpoint_every == 0 or state.epoch == plan.epochs:
            files.save(plan, state)
    group.barrier()  # the best weights are written
    if state.epoch:
        files.load_best(plan.model)
    if group.is_main:
        write_json(context.folder / f"history-{plan.name}.json", list(state.history))
    return list(state.history)


def _exhausted(plan: TrainingPlan, state: State) -> bool:
    return plan.stop(state.history) or (plan.patience is not None and state.without_improvement >= plan.patience)


def _epoch(plan: TrainingPlan, state: State, context: FitContext) -> State:
    """One pass over the batches, then the score where it is due."""
    started = time.perf_counter()
    epoch = state.epoch
    group = context.group
    of_rank = () if group.is_main else ("rank", group.rank)  # dropout masks of its own for each process
    torch.manual_seed(derive_seed(context.seed, plan.name, "epoch", epoch, *of_rank))
    phase = plan.phase_of(epoch)
    phase.begin()
    means = _steps(plan, phase, epoch, context)
    measures = group.from_main(phase.end())
    group.copy_from_main(plan.model.buffers())  # codes that were made anew, the same in all processes
    trained = time.perf_counter()
    done = epoch + 1
    score = None
    if plan.score is not None and (done % plan.score_every == 0 or done == plan.epochs):
        score = group.from_main(plan.score())
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


def _steps(plan: TrainingPlan, phase: Phase, epoch: int, context: FitContext) -> dict[str, float]:
    """Mean of each loss over the epoch's steps."""
    group = context.group
    bf16 = context.precision == "bf16"
    autocast = torch.autocast(context.device.type, torch.bfloat16) if bf16 else nullcontext()
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

    for batch in plan.batches(numpy_stream(context.seed, plan.name, "batches", epoch)):
        step_losses: Losses = {}
        with autocast:
            for piece in phase.losses(batch):
                piece["total"].backward()
                for name, value in piece.items():
                    value = value.detach()
                    step_losses[name] = step_losses[name] + value if name in step_losses else value
        group.all_reduce_gradients(p for name in phase.learners for p in plan.learners[name].parameters())
        for name in phase.learners:
            plan.learners[name].step()
        steps += 1
        if step_losses:  # a process that has no part of a small batch has no losses
            waiting.append(step_losses)
        if len(waiting) == interval:
            look()
    if waiting:
        look()
    return {name: value / steps for name, value in group.sum_by_name(sums).items()}


@dataclass(frozen=True)
class Checkpoint:
    """The files from which an interrupted training goes on: the last epoch's state, and the best model."""

    folder: Path
    name: str

    @property
    def last(self) -> Path:
        """Model, optimisers and counters after the last saved epoch."""
        return self.folder / f"{self.name}.last.safetensors"

    @property
    def best(self) -> Path:
        """The model with the best score."""
        return self.folder / f"{self.name}.best.safetensors"

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self.last.exists()

    def save_best(self, model: nn.Module) -> None:
        """Written before `save`: after a kill between the two, the epoch runs again and writes the same."""
        save_tensors(self.best, dict(model.state_dict()))

    def load_best(self, model: nn.Module) -> None:
        """Puts the best weights into the model."""
        model.load_state_dict(load_tensors(self.best))

    def save(self, plan: TrainingPlan, state: State) -> None:
        """Writes everything that the next epoch depends on. The counters stand in the same file as the tensors."""
        tensors = {f"model/{name}": tensor for name, tensor in plan.model.state_dict().items()}
        for learner_name, learner in plan.learners.items():
            tensors[f"steps/{learner_name}"] = torch.tensor(learner.steps)
            for index, parameter in enumerate(learner.parameters()):
                for name, value in learner.optimizer.state[parameter].items():
                    tensors[f"optimizer/{learner_name}/{index}/{name}"] = torch.as_tensor(value)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{self.name}.{state.epoch}.json", state._asdict())
        tensors["epoch"] = torch.tensor(state.epoch)
        save_tensors(self.last, tensors)
        for stale in self.folder.glob(f"{self.name}.*.json"):
            if stale.name != f"{self.name}.{state.epoch}.json":
                stale.unlink()

    def load(self, plan: TrainingPlan) -> State:
        """The saved state, with model, optimisers and step counts put back."""
        tensors = load_tensors(self.last)
        plan.model.load_state_dict(_below(tensors, "model/"))
        for learner_name, learner in plan.learners.items():
            learner.steps = int(tensors[f"steps/{learner_name}"])
            # A fused optimiser counts its steps on the parameters' device, the others on the CPU.
            fused = any(group.get("fused") for group in learner.optimizer.param_groups)
            for index, parameter in enumerate(learner.parameters()):
                saved = _below(tensors, f"optimizer/{learner_name}/{index}/")
                if saved:
                    learner.optimizer.state[parameter] = {
                        name: value.to(parameter.device) if fused or name != "step" else value
                        for name, value in saved.items()
                    }
        saved_state = read_json(self.folder / f"{self.name}.{int(tensors['epoch'])}.json")
        return State(**{**saved_state, "history": tuple(saved_state["history"])})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes safetensors to a temporary name, then renames, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    # Clones: safetensors refuses tensors that share memory, as tied weights do.
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, temporary)
    os.replace(temporary, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; `StageError` when it is missing or cut short."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise StageError(f"{path} must exist, but it is missing; delete {path.parent} and run again") from None
    except SafetensorError as error:
        raise StageError(
            f"{path} must be a whole checkpoint, but it is cut short or damaged ({error}); delete {path.parent} and "
            "run again"
        ) from None


def linear_warmup(steps: int) -> Callable[[int], float]:
    """A schedule that rises linearly from 0 to 1 over `steps`, then stays."""
    return lambda step: min(1.0, step / steps) if steps else 1.0


def warmup_then_cosine(warmup_steps: float, total_steps: float) -> Callable[[int], float]:
    """A schedule that rises linearly to 1 over `warmup_steps`, then falls on a half cosine to 0 at `total_steps`."""

    def multiple(step: int) -> float:
        if step < warmup_steps:
            return step / max(1.0, warmup_steps)
        progress = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return multiple
