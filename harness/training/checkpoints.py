"""Tensors on disk, and the files from which an interrupted training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.errors import StageError
from harness.stages import read_json, write_json
from harness.training.learner import Learner
from results.store.whole_files import whole


class State(NamedTuple):
    """Where training stands after an epoch, as plain JSON."""

    epoch: int = 0  # epochs done
    best_score: float | None = None
    best_epoch: int = 0
    without_improvement: int = 0
    history: tuple[dict[str, Any], ...] = ()


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

    def save(self, model: nn.Module, learners: Mapping[str, Learner], state: State) -> None:
        """Writes everything that the next epoch depends on. The counters stand in the same file as the tensors."""
        tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        for learner_name, learner in learners.items():
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

    def load(self, model: nn.Module, learners: Mapping[str, Learner]) -> State:
        """The saved state, with model, optimisers and step counts put back."""
        tensors = load_tensors(self.last)
        model.load_state_dict(_below(tensors, "model/"))
        for learner_name, learner in learners.items():
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
    """Writes safetensors, which no reader sees half of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        # Clones: safetensors refuses tensors that share memory, as tied weights do.
        save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, temporary)


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
