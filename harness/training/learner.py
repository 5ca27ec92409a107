"""Parameters that are trained together, and how one step moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

SHORT = 0.999  # of the greatest norm: so short a gradient is scaled by exactly 1


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
