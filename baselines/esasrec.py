"""eSASRec: gated LiGR layers and a softmax over the target and items drawn for it (METHODS B.9).

Shape legend: T items of all rows, M asked places, D width, V items with padding.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from harness.data.dataset import Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.nn.ragged import Ragged
from harness.nn.sasrec import SelfAttention, check_heads
from harness.sequence.model import SequenceModel
from harness.sequence.targets import TrainingRows
from harness.sequence.training import (
    TINY_SCHEDULE,
    Objective,
    SequenceTraining,
    Softmax,
    softmax_assumptions,
    softmax_objective,
)


class ESASRecConfig(SequenceTraining):
    """eSASRec's sizes and schedule; the defaults are those of the authors' configs for Beauty (METHODS B.9)."""

    hidden_size: int = Field(256, ge=1, description="width of items and states")
    num_layers: int = Field(1, ge=1)
    num_heads: int = Field(1, ge=1)
    inner_factor: int = Field(4, ge=1, description="width of the feed-forward layers in widths of an item")
    dropout: float = Field(0.2, ge=0, lt=1, description="on embeddings, attention weights, hidden units and sub-layers")
    table_dropout: bool = Field(
        False, description="dropout on the whole item table too, inputs and candidates alike, as in the published runs"
    )
    softmax: Softmax = Field("drawn", description="drawn, as published, or full, chunked, sampled")
    num_negatives: int = Field(256, ge=1, description="items drawn for a target (softmax=drawn)")
    beta2: float = Field(0.98, gt=0, lt=1, description="Adam's second decay")
    batch_size: int = Field(128, ge=1, description="users of an optimiser step")
    epochs: int = Field(200, ge=1, description="at most")
    patience: int | None = Field(50, ge=0, description="as in SASRec")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        check_heads(self.hidden_size, self.num_heads)
        return self


class LiGRLayer(nn.Module):
    """x + gate(x) * attention(norm(x)), then the same with a SwiGLU feed-forward; the gates read what is not normed."""

    def __init__(self, config: ESASRecConfig):
        super().__init__()
        width, inner = config.hidden_size, config.inner_factor * config.hidden_size
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, config.num_heads, config.dropout)
        self.output = nn.Linear(width, width)
        self.attention_gate, self.feed_forward_gate = nn.Linear(width, width), nn.Linear(width, width)
        self.activated, self.factor = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.outer = nn.Linear(inner, width, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_TD: Tensor, layout: Ragged) -> Tensor:
        """(T, D)."""
        normed_TD = self.attention_norm(x_TD)
        mixed_TD = self.dropout(self.output(self.attention(normed_TD, normed_TD, layout)))
        x_TD = x_TD + torch.sigmoid(self.attention_gate(x_TD)) * mixed_TD
        normed_TD = self.feed_forward_norm(x_TD)
        hidden_TD = self.dropout(F.silu(self.activated(normed_TD)) * self.factor(normed_TD))
        return x_TD + torch.sigmoid(self.feed_forward_gate(x_TD)) * self.dropout(self.outer(hidden_TD))


class ESASRec(Encoder):
    """Positions count from a row's last item, 0. The last layer's output is the state, without a norm."""

    def __init__(self, config: ESASRecConfig, dataset: Dataset):
        super().__init__()
        self.max_history = dataset.max_history
        self.item_table = nn.Embedding(dataset.num_items + 1, config.hidden_size)
        self.position_table = nn.Embedding(dataset.max_history, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.drops_table = config.table_dropout
        self.dropped_VD: Tensor | None = None  # the table after the dropout of the latest pass
        self.layers = nn.ModuleList(LiGRLayer(config) for _ in range(config.num_layers))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Xavier-normal matrices, those of queries, keys and values as one; biases 0, those of gates as torch draws."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
        for module in self.modules():
            if isinstance(module, LiGRLayer):
                width = len(module.output.bias)
                for linear in (module.attention.query, module.attention.key_value):
                    nn.init.normal_(linear.weight, std=(2 / (4 * width)) ** 0.5)
                    nn.init.zeros_(linear.bias)
                nn.init.zeros_(module.output.bias)

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D)."""
        if self.drops_table:
            self.dropped_VD = self.dropout(self.item_table.weight)
        items_TD = F.embedding(rows.items_T, self.item_rows_VD)
        x_TD = self.dropout(items_TD + self.position_table(rows.from_end_T))
        for layer in self.layers:
            x_TD = layer(x_TD, rows.layout)
        return x_TD.index_select(0, places_M)

    @property
    def item_rows_VD(self) -> Tensor:
        """(V, D) the table; in training, where that is asked for, after the dropout of the latest pass."""
        return self.item_table.weight if self.dropped_VD is None or not self.training else self.dropped_VD


def objective(config: ESASRecConfig, dataset: Dataset) -> Objective:
    """Every next item of each user's latest window."""
    return softmax_objective(config, dataset, TrainingRows.latest_window)


ESASREC = SequenceModel("esasrec", ESASRec, objective)


def assumptions(config: ESASRecConfig) -> list[str]:
    """What the authors leave open, as one line each."""
    return [
        f"eSASRec: width {config.hidden_size}; the authors' table says 64, their configs 256",
        *(softmax_assumptions(config, "eSASRec") if config.softmax == "sampled" else []),
    ]


METHOD = ESASREC.method(
    title="eSASRec",
    place=220,
    groups=("strong",),
    config=ESASRecConfig,
    lite=ESASRecConfig(hidden_size=64, epochs=60, patience=5),
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "num_negatives": 8},
    grid={"learning_rate": (2e-3, 1e-3, 5e-4), "dropout": (0.2, 0.3, 0.5), "inner_factor": (1, 2, 4)},
    assumptions=assumptions,
)
