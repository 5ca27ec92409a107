"""BSARec: self-attention beside a filter that weighs low and high frequencies of a history (METHODS B.8).

The filter reads a row as a whole, later items included, so that only a row's last state predicts: samples are prefixes.

Shape legend: B rows, M asked places, D width, S places of rows that are padded on the left, L of the longest row.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.bsarec import MASKED, BSARecLayer, low_pass
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.kernels.switch import runs_native
from harness.nn.layers import Dropout
from harness.nn.sasrec import check_heads, draw_normal
from harness.sequence.model import SequenceModel
from harness.sequence.targets import TrainingRows
from harness.sequence.training import (
    TINY_SCHEDULE,
    Objective,
    SequenceTraining,
    softmax_assumptions,
    softmax_objective,
)


class BSARecConfig(SequenceTraining):
    """BSARec's sizes and schedule; the defaults are those of the authors' run on Beauty (METHODS B.8)."""

    hidden_size: int = Field(64, ge=1, description="width of items and states")
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(1, ge=1)
    alpha: float = Field(0.7, ge=0, le=1, description="weight of the filter; attention has the rest")
    cutoff: int = Field(5, ge=1, description="c: frequencies 0 to c // 2 are low")
    dropout: float = Field(0.5, ge=0, lt=1, description="on embeddings and sub-layer outputs")
    attention_dropout: float = Field(0.5, ge=0, lt=1, description="on attention weights")
    padded: bool = Field(
        True,
        description="the filter sees padding up to the longest history, as published; else a row's own items alone",
    )
    learning_rate: float = Field(5e-4, gt=0)
    batch_size: int = Field(256, ge=1, description="samples of an optimiser step")
    epochs: int = Field(200, ge=1, description="at most")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        check_heads(self.hidden_size, self.num_heads)
        return self


class BSARec(Encoder):
    """Positions count up to `max_history - 1` at a row's last item. Row 0 of the table is padding: zero, not trained.

    With `legacy_pad` it is drawn like an item's row and trained as a class of the softmax, but not as an input.
    """

    low_LSS: Tensor

    def __init__(self, config: BSARecConfig, dataset: Dataset):
        super().__init__()
        self.max_history, self.padded = dataset.max_history, config.padded
        self.item_table = nn.Embedding(dataset.num_items + 1, config.hidden_size, padding_idx=PADDING)
        self.position_table = nn.Embedding(dataset.max_history, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.dropout = Dropout(config.dropout)
        parts = (config.hidden_size, config.num_heads, config.alpha, config.dropout, config.attention_dropout)
        self.layers = nn.ModuleList(BSARecLayer(*parts) for _ in range(config.num_layers))
        self.register_buffer("low_LSS", low_pass(dataset.max_history, config.cutoff), persistent=False)
        self.reset_parameters(config.legacy_pad)

    @torch.no_grad()
    def reset_parameters(self, legacy_pad: bool = False) -> None:
        """Weights normal, deviation 0.02, biases 0; one standard normal beta for all layers, as copies have it."""
        draw_normal(self, item_table=None if legacy_pad else self.item_table)
        beta_D = torch.randn(self.item_table.embedding_dim)
        for module in self.modules():
            if isinstance(module, BSARecLayer):
                module.beta.copy_(beta_D)

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D); the places must be ends of rows."""
        items_BL = rows.windows(self.max_history, at_end=True)
        if self.padded:
            states_BD = self.encode(items_BL, self.low_LSS[-1:])
        elif runs_native(items_BL.device):
            width = rows.layout.longest
            low_BLL = self.low_LSS.index_select(0, rows.layout.place("lengths_B"))
            states_BD = self.encode(items_BL[:, -width:], low_BLL[:, -width:, -width:])
        else:
            bands = rows.layout.bands
            lows = (self.low_LSS[rows.layout.lengths[band.rows], -band.width :, -band.width :] for band in bands)
            parts = [self.encode(items_BL[b.rows, -b.width :], low) for b, low in zip(bands, lows, strict=True)]
            order_B = torch.from_numpy(np.argsort(np.concatenate(rows.layout.rows_of_bands))).to(items_BL.device)
            states_BD = torch.cat(parts).index_select(0, order_B)
        return states_BD.index_select(0, torch.searchsorted(rows.ends_B, places_M))

    def encode(self, items_BS: Tensor, low_BSS: Tensor) -> Tensor:
        """(B, D) the last states of rows that are padded on the left."""
        length = items_BS.shape[1]
        x_BSD = self.dropout(self.norm(self.item_table(items_BS) + self.position_table.weight[-length:]))
        is_later_SS = torch.ones(length, length, dtype=torch.bool, device=items_BS.device).triu(1)
        bias_BSS = (is_later_SS | (items_BS == PADDING)[:, None]) * MASKED
        *layers, last = self.layers
        for layer in layers:
            x_BSD = layer(x_BSD, bias_BSS, low_BSS, slice(None))
        return last(x_BSD, bias_BSS, low_BSS, slice(-1, None))[:, 0]


def objective(config: BSARecConfig, dataset: Dataset) -> Objective:
    """Each prefix of a training sequence and the item after it, under the config's softmax."""
    return softmax_objective(config, dataset, TrainingRows.prefix_samples)


BSAREC = SequenceModel("bsarec", BSARec, objective)


def assumptions(config: BSARecConfig) -> list[str]:
    """Where a config departs from the authors' code, as one line each."""
    filtered = [] if config.padded else ["BSARec: the filter reads a history's own items, not padding up to 50 places"]
    return [*filtered, *softmax_assumptions(config, "BSARec")]


METHOD = BSAREC.method(
    title="BSARec",
    place=210,
    groups=("strong",),
    config=BSARecConfig,
    lite=BSARecConfig(padded=False, learning_rate=1e-3, epochs=40, patience=4),
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "attention_dropout": 0.1},
    grid={"learning_rate": (1e-3, 5e-4, 1e-4), "alpha": (0.3, 0.5, 0.7, 0.9), "cutoff": (3, 5, 7, 9)},
    assumptions=assumptions,
)
