"""FDSA as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: T items of all rows, M asked places, X fields of features, K values of an item in a field, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.nn.ragged import Ragged
from harness.nn.sasrec import RecBoleLayer, TransformerSizes, draw_normal
from harness.sequence.features import fields_of, obstacle_to_features
from harness.sequence.model import SequenceModel
from harness.sequence.training import TINY_SCHEDULE, SequenceTraining, effort, softmax_assumptions


class FDSAConfig(SequenceTraining, TransformerSizes):
    """FDSA's sizes and schedule; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""

    features: tuple[str, ...] = Field((), description="fields of the items' metadata; none named: all that there are")


class FieldTable(nn.Module):
    """The mean vector of an item's values in one field; zero for an item without any."""

    of_items: Tensor  # (N + 1, K) int64

    def __init__(self, of_items: Tensor, num_values: int, width: int):
        super().__init__()
        self.register_buffer("of_items", of_items, persistent=False)  # (N + 1, K), 0 where there is no value
        self.table = nn.Embedding(num_values + 1, width)

    def forward(self, items_T: Tensor) -> Tensor:
        """(T, D)."""
        return F.embedding_bag(self.of_items[items_T], self.table.weight, mode="mean", padding_idx=PADDING)


class FeaturePool(nn.Module):
    """An item's vectors of all fields, weighted by a softmax over their scores."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, fields_TXD: Tensor) -> Tensor:
        """(T, D)."""
        weights_TX1 = self.score(F.relu(self.hidden(fields_TXD))).softmax(dim=1)
        return (weights_TX1 * fields_TXD).sum(dim=1)


class FDSA(Encoder):
    """Two causal encoders, of items and of their features, whose states are joined by a linear map.

    They share the positions, and one LayerNorm serves the inputs of both and the joined states, as in RecBole. Row 0 of
    the item table is padding: zero and never trained, or with `legacy_pad` drawn and trained as a class of the softmax.
    """

    def __init__(self, config: FDSAConfig, dataset: Dataset):
        super().__init__()
        self.max_history, width = dataset.max_history, config.hidden_size
        self.item_table = nn.Embedding(dataset.num_items + 1, width)
        self.position_table = nn.Embedding(dataset.max_history, width)
        found = fields_of(dataset, config.features)
        self.fields = nn.ModuleList(FieldTable(torch.from_numpy(x.of_items), len(x.values), width) for x in found)
        self.pool = FeaturePool(width)
        parts = (width, config.inner_size, config.num_heads, config.dropout)
        self.item_layers = nn.ModuleList(RecBoleLayer(*parts) for _ in range(config.num_layers))
        self.feature_layers = nn.ModuleList(RecBoleLayer(*parts) for _ in range(config.num_layers))
        self.join = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(config.dropout)
        draw_normal(self, item_table=None if config.legacy_pad else self.item_table)

    def _encoded(self, x_TD: Tensor, layers: nn.ModuleList, layout: Ragged) -> Tensor:
        x_TD = self.dropout(self.norm(x_TD))
        for layer in layers:
            x_TD = layer(x_TD, layout)
        return x_TD

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D). Positions count from a row's first item."""
        positions_TD = self.position_table(rows.from_start_T)
        fields_TXD = torch.stack([field(rows.items_T) for field in self.fields], dim=1)
        items_TD = self._encoded(self.item_table(rows.items_T) + positions_TD, self.item_layers, rows.layout)
        features_TD = self._encoded(self.pool(fields_TXD) + positions_TD, self.feature_layers, rows.layout)
        both_MD = torch.cat([items_TD.index_select(0, places_M), features_TD.index_select(0, places_M)], dim=1)
        return self.dropout(self.norm(self.join(both_MD)))


FDSA_MODEL = SequenceModel("fdsa", FDSA)


def assumptions(config: FDSAConfig) -> list[str]:
    """What the paper leaves open, as one line each."""
    return [
        f"FDSA: the paper gives only the item dimension (128); {config.num_layers} layers, {config.num_heads} heads, "
        f"dropout {config.dropout}, learning rate {config.learning_rate}, and the features "
        f"({', '.join(config.features) or 'all of the metadata'}) are assumed",
        *softmax_assumptions(config, "FDSA"),
    ]


METHOD = FDSA_MODEL.method(
    title="FDSA",
    groups=("paper",),
    inputs=("features",),
    obstacle=lambda config, dataset: obstacle_to_features(dataset, config.features),
    place=160,
    config=FDSAConfig,
    presets={
        "paper": FDSAConfig(),
        "lite": FDSAConfig(hidden_size=64, dropout=0.4, learning_rate=2e-3, batch_size=512, epochs=40, patience=4),
    },
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "inner_size": 32, "num_layers": 1, "num_heads": 1},
    assumptions=assumptions,
    effort=lambda config: 1.2 * effort(config),  # two encoders; the softmax takes most of the time
)
