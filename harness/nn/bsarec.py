"""BSARec's layer: self-attention beside a filter of frequencies (METHODS B.8).

Shape legend: B rows, S places of a row, padded on the left, Q places that are asked for, L places of the longest row,
D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.layers import Dropout

MASKED = -1e4  # added to a score; a padded place, for which nothing else is left, sees all places alike


def low_pass(longest: int, cutoff: int) -> Tensor:
    """(L + 1, L, L): what keeps the low frequencies of the last s of L places, and gives 0 elsewhere, for each s."""
    projectors = torch.zeros(longest + 1, longest, longest, dtype=torch.float64)
    for size in range(1, longest + 1):
        spectrum = torch.fft.rfft(torch.eye(size, dtype=torch.float64), dim=0, norm="ortho")
        spectrum[cutoff // 2 + 1 :] = 0
        projectors[size, -size:, -size:] = torch.fft.irfft(spectrum, n=size, dim=0, norm="ortho")
    return projectors.float()


class BSARecLayer(nn.Module):
    """alpha · norm(x + filter(x)) + (1 - alpha) · norm(x + attention(x)), then a GELU feed-forward, normed too."""

    def __init__(self, width: int, num_heads: int, alpha: float, rate: float, attention_rate: float):
        super().__init__()
        self.alpha, self.num_heads = alpha, num_heads
        self.beta = nn.Parameter(torch.empty(width))
        self.filter_norm, self.attention_norm, self.norm = (nn.LayerNorm(width, eps=1e-12) for _ in range(3))
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout, self.attention_dropout = Dropout(rate), Dropout(attention_rate)

    def forward(self, x_BSD: Tensor, bias_BSS: Tensor, low_BSS: Tensor, asked: slice) -> Tensor:
        """(B, Q, D) of the asked places."""
        x_BQD = x_BSD[:, asked]
        mixed_BQD = self.dropout(self.output(self.attend(x_BQD, x_BSD, bias_BSS[:, asked])))
        hidden_BQD = self.alpha * self.filter_norm(self.dropout(self.filtered(x_BQD, x_BSD, low_BSS[:, asked])) + x_BQD)
        hidden_BQD = hidden_BQD + (1 - self.alpha) * self.attention_norm(mixed_BQD + x_BQD)
        return self.norm(self.dropout(self.outer(F.gelu(self.inner(hidden_BQD)))) + hidden_BQD)

    def filtered(self, x_BQD: Tensor, x_BSD: Tensor, low_BQS: Tensor) -> Tensor:
        """low + beta² · high, where low + high = x."""
        low_BQD = low_BQS @ x_BSD
        return low_BQD + self.beta**2 * (x_BQD - low_BQD)

    def attend(self, x_BQD: Tensor, x_BSD: Tensor, bias_BQS: Tensor) -> Tensor:
        """Scaled multi-head attention."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(x_BQD), self.key(x_BSD), self.value(x_BSD))
        )
        scores_BHQS = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias_BQS[:, None]
        return (self.attention_dropout(scores_BHQS.softmax(-1)) @ value).transpose(1, 2).flatten(2)
