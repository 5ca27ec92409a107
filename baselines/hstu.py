"""HSTU: pointwise attention without a softmax, gated, with biases of positions and times (METHODS B.7).

Shape legend: T items of all rows, M asked places, D width, I widths of all heads, V items with padding.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.nn.pointwise_attention import BUCKETS, Biases, pointwise_attention, time_buckets
from harness.nn.ragged import Ragged
from harness.sequence.losses import drawn_cross_entropy
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


class HSTUConfig(SequenceTraining):
    """HSTU's sizes and schedule; the defaults are those of public five-seed runs on Amazon data (METHODS B.7)."""

    hidden_size: int = Field(64, ge=1, description="width of items and states")
    num_layers: int = Field(4, ge=1)
    num_heads: int = Field(2, ge=1)
    attention_size: int = Field(4, ge=1, description="width of a head's queries and keys")
    value_size: int = Field(4, ge=1, description="width of a head's values and gates")
    embedding_dropout: float = Field(0.5, ge=0, lt=1, description="on the sum of items and positions")
    dropout: float = Field(0.1, ge=0, lt=1, description="on what a block adds, before its last linear map")
    time_bias: bool = Field(True, description="attention knows the time between items, where the data tell times")
    padding_keys: bool = Field(
        False, description="rows are padded on the left, and padding takes part in attention, as in RecBoard's runs"
    )
    legacy_pad: Literal[False] = Field(False, description="padding has no direction, so it is no class")
    softmax: Softmax = Field("drawn", description="over cosines: drawn, as published, or full, chunked, sampled")
    num_negatives: int = Field(512, ge=1, description="items drawn for a target (softmax=drawn)")
    keep_hits: bool = Field(True, description="a drawn item that equals the target counts (softmax=drawn)")
    temperature: float = Field(0.1, gt=0, description="what cosines are divided by in training")
    batch_size: int = Field(256, ge=1, description="users of an optimiser step")


class HSTULayer(nn.Module):
    """x + W (U * norm(A V)), where A = SiLU(Q Kᵀ + bias) / n over the row so far, and U, V, Q, K = SiLU(norm(x) W)."""

    def __init__(self, config: HSTUConfig, longest: int):
        super().__init__()
        self.num_heads = config.num_heads
        self.widths = [config.num_heads * size for size in (config.value_size, config.attention_size)]
        inner, own = self.widths
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.input = nn.Linear(config.hidden_size, 2 * inner + 2 * own, bias=False)
        self.mixed_norm = nn.LayerNorm(inner, eps=1e-6)
        self.output = nn.Linear(inner, config.hidden_size)
        self.position_weights = nn.Parameter(torch.empty(2 * longest - 1))
        self.time_weights = nn.Parameter(torch.empty(BUCKETS + 1)) if config.time_bias else None
        self.dropout = Dropout(config.dropout)

    def forward(self, x_TD: Tensor, layout: Ragged, buckets: list[Tensor] | None) -> Tensor:
        """(T, D)."""
        inner, own = self.widths
        gates_TI, values_TI, pairs_TX = F.silu(self.input(self.norm(x_TD))).split([inner, inner, 2 * own], dim=1)
        biases = Biases(self.position_weights, self.time_weights, buckets)
        mixed_TI = pointwise_attention(pairs_TX, values_TI, biases, layout, self.num_heads)
        return x_TD + self.output(self.dropout(self.mixed_norm(mixed_TI) * gates_TI))


class HSTU(Encoder):
    """Scores are cosines of states and items, divided by the temperature. Row 0 of the table is padding, which is 0."""

    def __init__(self, config: HSTUConfig, dataset: Dataset):
        super().__init__()
        self.max_history, self.config = dataset.max_history, config
        self.item_table = nn.Embedding(dataset.num_items + 1, config.hidden_size)
        self.position_table = nn.Embedding(dataset.max_history, config.hidden_size)
        self.dropout = Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(HSTULayer(config, dataset.max_history) for _ in range(config.num_layers))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal with deviation 0.02, items and positions within two of these; linear maps as torch draws them."""
        for table in (self.item_table, self.position_table):
            nn.init.trunc_normal_(table.weight, std=0.02, a=-0.04, b=0.04)
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("position_weights", "time_weights")):
                nn.init.normal_(parameter, std=0.02)
        self.item_table.weight[PADDING].zero_()

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D)."""
        if self.config.padding_keys:
            rows, slots_T = rows.left_padded(self.max_history)
            places_M = slots_T[places_M]
        items_TD = self.item_table(rows.items_T) * math.sqrt(self.config.hidden_size)
        x_TD = self.dropout(items_TD + self.position_table(rows.from_start_T)) * (rows.items_T != PADDING)[:, None]
        buckets = time_buckets(rows) if self.config.time_bias else None
        for layer in self.layers:
            x_TD = layer(x_TD, rows.layout, buckets)
        return F.normalize(x_TD.index_select(0, places_M), dim=1) / self.config.temperature

    @property
    def item_rows_VD(self) -> Tensor:
        """(V, D) the rows of the table at length 1."""
        return F.normalize(self.item_table.weight, dim=1)


def objective(config: HSTUConfig, dataset: Dataset) -> Objective:
    """Every next item of each user's latest window."""
    chosen = softmax_objective(config, dataset, TrainingRows.latest_window)
    if config.softmax == "drawn":
        return chosen._replace(loss=partial(drawn_cross_entropy, keep_hits=config.keep_hits))
    return chosen


HSTU_MODEL = SequenceModel("hstu", HSTU, objective)


def assumptions(config: HSTUConfig) -> list[str]:
    """What the authors' code leaves open for these data, as one line each."""
    return [
        "HSTU: the authors give no values for small Amazon data; sizes, dropout, negatives and temperature are those "
        "of RecBoard's runs on Beauty",
        *(softmax_assumptions(config, "HSTU") if config.softmax == "sampled" else []),
    ]


PAPER = HSTUConfig(evaluate_every=5, patience=60)  # all 300 epochs, and the best of their 60 scores
METHOD = HSTU_MODEL.method(
    title="HSTU",
    place=200,
    groups=("strong",),
    reads_times=True,
    config=HSTUConfig,
    presets={"paper": PAPER, "lite": PAPER.replace(batch_size=64, epochs=60, evaluate_every=3, patience=3)},
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "num_layers": 2, "embedding_dropout": 0.1, "num_negatives": 8},
    grid={"learning_rate": (5e-3, 1e-3, 5e-4), "dropout": (0.1, 0.2, 0.3), "embedding_dropout": (0.2, 0.5)},
    assumptions=assumptions,
)
