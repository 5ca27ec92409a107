"""Small layers on the kernels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.nn.kernels.dropout import dropout
from harness.nn.kernels.rms import RMS_EPS, unit_rms
from harness.nn.kernels.switch import runs_native


class Dropout(nn.Module):
    """Dropout with cheap masks, off in evaluation."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`x` with dropped elements 0 and the others scaled up."""
        return dropout(x, self.rate, self.training)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + RMS_EPS) times a learned scale per channel: no mean, no bias (METHODS B.0)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The normed and scaled `x`."""
        if runs_native(x.device):
            return F.rms_norm(x, self.weight.shape, self.weight, RMS_EPS)
        return unit_rms(x) * self.weight

    def linear(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """linear(norm(x)): the scale is applied to the columns of the weight, which are fewer than the rows of x."""
        if runs_native(x.device):
            return F.linear(self(x), linear.weight)
        return F.linear(unit_rms(x), linear.weight * self.weight)
