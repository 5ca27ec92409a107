"""FMLP-Rec as a baseline of the paper's Table 3, in the form of its authors' code (METHODS B.5).

Shape legend: B rows, L places of a window, M asked places, D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.nn.sasrec import INIT_STD, draw_normal
from harness.sequence.losses import binary_cross_entropy
from harness.sequence.model import SequenceModel
from harness.sequence.targets import TrainingRows, UnseenItems
from harness.sequence.training import (
    TINY_SCHEDULE,
    Objective,
    SequenceTraining,
    effort,
    open_choices,
    softmax_objective,
)


class FMLPRecConfig(SequenceTraining):
    """FMLP-Rec's sizes and schedule; the defaults are its authors' at the paper's item dimension (METHODS B.5)."""

    hidden_size: int = Field(128, ge=1, description="width of items and states; feed-forward layers are 4 times wider")
    num_layers: int = Field(2, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1, description="on embeddings and sub-layer outputs")
    window: int = Field(50, ge=1, description="places of a filter: so many last items of a history are read, at most")
    loss: Literal["softmax", "bce"] = Field(
        "softmax", description="softmax: over the items, as all baselines; bce: one unseen item, as the authors' code"
    )


class Filter(nn.Module):
    """Multiplies the spectrum of each channel with learned complex weights: a circular convolution over the places."""

    lag_LL: Tensor  # int64

    def __init__(self, window: int, width: int):
        super().__init__()
        self.window = window
        self.weight = nn.Parameter(INIT_STD * torch.randn(window // 2 + 1, width, 2))
        ahead = torch.arange(window)[:, None] - torch.arange(window)
        self.register_buffer("lag_LL", ahead % window, persistent=False)

    def forward(self, x_BLD: Tensor, places: slice) -> Tensor:
        """(B, places, D): irfft(weight · rfft(x)) at these places, as a circular convolution of each channel."""
        kernel_LD = torch.fft.irfft(torch.view_as_complex(self.weight), n=self.window, dim=0)
        return torch.einsum("dts,bsd->btd", kernel_LD.T[:, self.lag_LL[places]], x_BLD)


class FilterBlock(nn.Module):
    """A filter, then a GELU feed-forward, each with residual and LayerNorm after it."""

    def __init__(self, window: int, width: int, rate: float):
        super().__init__()
        self.filter = Filter(window, width)
        self.filter_norm = nn.LayerNorm(width, eps=1e-12)
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(rate)

    def forward(self, x_BLD: Tensor, places: slice) -> Tensor:
        """(B, places, D)."""
        x_BLD = self.filter_norm(self.dropout(self.filter(x_BLD, places)) + x_BLD[:, places])
        return self.feed_forward_norm(self.dropout(self.outer(F.gelu(self.inner(x_BLD)))) + x_BLD)


class FMLPRec(Encoder):
    """Filter blocks over the last places of a history, behind padding, which they read like items.

    Row 0 of the table is padding: zero and never trained, or with `legacy_pad` drawn like an item's row and trained as
    a class of the softmax.
    """

    def __init__(self, config: FMLPRecConfig, dataset: Dataset):
        super().__init__()
        self.max_history, width = min(config.window, dataset.max_history), config.hidden_size
        self.item_table = nn.Embedding(dataset.num_items + 1, width, padding_idx=PADDING)
        self.position_table = nn.Embedding(self.max_history, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            FilterBlock(self.max_history, width, config.dropout) for _ in range(config.num_layers)
        )
        draw_normal(self, item_table=None if config.legacy_pad else self.item_table)

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D), M = B: it is asked at the end of each row, in order."""
        assert len(places_M) == len(rows.ends_B), "one state is made for each row"
        items_BLD = self.item_table(rows.windows(self.max_history, at_end=True))
        x_BLD = self.dropout(self.norm(items_BLD + self.position_table.weight))
        for block in self.blocks[:-1]:
            x_BLD = block(x_BLD, slice(None))
        return self.blocks[-1](x_BLD, slice(-1, None))[:, 0]


def objective(config: FMLPRecConfig, dataset: Dataset) -> Objective:
    """Each prefix's next item, under the config's softmax or against one unseen item."""
    dataset = replace(dataset, max_history=min(config.window, dataset.max_history))
    if config.loss == "softmax":
        return softmax_objective(config, dataset, TrainingRows.prefix_samples)
    draws = UnseenItems.of(dataset.train, dataset.num_items)
    return Objective(TrainingRows.prefix_samples(dataset), binary_cross_entropy, draws)


FMLPREC = SequenceModel("fmlp-rec", FMLPRec, objective)


METHOD = FMLPREC.method(
    title="FMLP-Rec",
    groups=("paper",),
    place=150,
    config=FMLPRecConfig,
    lite=FMLPRecConfig(hidden_size=64, window=20, learning_rate=2e-3, batch_size=512, epochs=30, patience=3),
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "num_layers": 1, "window": 8},
    assumptions=open_choices(
        "FMLP-Rec",
        "{num_layers} layers, dropout {dropout}, windows of {window}, loss {loss}, rate {learning_rate}",
    ),
    effort=lambda config: 1.5 * effort(config),  # it computes padding too
)
