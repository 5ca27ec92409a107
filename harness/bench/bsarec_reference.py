"""BSARec as a plain module on padded batches: a peer to measure ours against, and an oracle (METHODS B.8).

All rows have 50 places, all places are computed in all layers, and the filter is a Fourier transform.

Shape legend: B rows, S places, D width, H heads, V items with padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.bsarec import BSARecConfig
from harness.data.dataset import Sequences


class PlainLayer(nn.Module):
    """The filter and the attention of one input, mixed, then the feed-forward."""

    def __init__(self, config: BSARecConfig):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.beta = nn.Parameter(torch.randn(width))
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.filter_norm, self.attention_norm, self.norm = (nn.LayerNorm(width, eps=1e-12) for _ in range(3))

    def forward(self, x_BSD: Tensor, bias_B1SS: Tensor) -> Tensor:
        """(B, S, D)."""
        alpha = self.config.alpha
        filtered_BSD = self.filter_norm(x_BSD + self._dropped(self._filtered(x_BSD)))
        attended_BSD = self.attention_norm(x_BSD + self._dropped(self.output(self._attended(x_BSD, bias_B1SS))))
        hidden_BSD = alpha * filtered_BSD + (1 - alpha) * attended_BSD
        return self.norm(hidden_BSD + self._dropped(self.outer(F.gelu(self.inner(hidden_BSD)))))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)

    def _filtered(self, x_BSD: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x_BSD, dim=1, norm="ortho")
        is_low = torch.arange(spectrum.shape[1]) <= self.config.cutoff // 2
        low_BSD = torch.fft.irfft(spectrum * is_low[:, None], n=x_BSD.shape[1], dim=1, norm="ortho")
        return low_BSD + self.beta**2 * (x_BSD - low_BSD)

    def _attended(self, x_BSD: Tensor, bias_B1SS: Tensor) -> Tensor:
        query, key, value = (
            part(x_BSD).unflatten(2, (self.config.num_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores_BHSS = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + bias_B1SS
        weights_BHSS = F.dropout(scores_BHSS.softmax(dim=-1), self.config.attention_dropout, self.training)
        return (weights_BHSS @ value).transpose(1, 2).flatten(2)


class PlainBSARec(nn.Module):
    """The model; its weights have the names of ours."""

    def __init__(self, config: BSARecConfig, num_items: int, longest: int):
        super().__init__()
        self.config = config
        self.item_table = nn.Embedding(num_items + 1, config.hidden_size)
        self.position_table = nn.Embedding(longest, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.layers = nn.ModuleList(PlainLayer(config) for _ in range(config.num_layers))

    @classmethod
    def like(cls, weights: Mapping[str, Tensor], config: BSARecConfig) -> PlainBSARec:
        """With copied weights."""
        longest = len(weights["position_table.weight"])
        built = cls(config, len(weights["item_table.weight"]) - 1, longest)
        built.load_state_dict(weights)
        return built

    def forward(self, items_BS: Tensor) -> Tensor:
        """(B, D) states at the last places."""
        x_BSD = self.norm(self.item_table(items_BS) + self.position_table.weight)
        x_BSD = F.dropout(x_BSD, self.config.dropout, self.training)
        places = torch.arange(items_BS.shape[1])
        is_seen_BSS = (places <= places[:, None]) & (items_BS > 0)[:, None]
        bias_B1SS = torch.where(is_seen_BSS, 0.0, -1e4)[:, None]
        for layer in self.layers:
            x_BSD = layer(x_BSD, bias_B1SS)
        return x_BSD[:, -1]

    def loss(self, items_BS: Tensor, targets_B: Tensor) -> Tensor:
        """Mean cross-entropy (nats), padding being a class."""
        return F.cross_entropy(self(items_BS) @ self.item_table.weight.T, targets_B)


def left_padded(histories: Sequences, longest: int) -> Tensor:
    """(B, longest) int64, zeros before the items."""
    items_BS = np.zeros((len(histories), longest), dtype=np.int64)
    items_BS[np.arange(longest) >= longest - histories.lengths[:, None]] = histories.items
    return torch.from_numpy(items_BS)
