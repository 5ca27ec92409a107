"""Linear layers with ReLU between them.

Shape legend: B rows, I inputs and O outputs of a layer.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.nn.kernels.linear_relu import linear_relu


class MLP(nn.Sequential):
    """Linear layers with biases, and a ReLU between each two."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, O) of (B, I)."""
        return linear_relu(input, *self.parameters())


def mlp(sizes: tuple[int, ...], generator: torch.Generator | None = None) -> MLP:
    """Layers of the given sizes; Xavier-normal weights drawn from `generator`, zero biases."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out, device="meta")  # no draw from the global generator
        # `skip_init` would do the same by way of SymPy, which takes longer to import than a model to load.
        linear.weight, linear.bias = (nn.Parameter(torch.empty(one.shape)) for one in (linear.weight, linear.bias))
        nn.init.xavier_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return MLP(*layers[:-1])
