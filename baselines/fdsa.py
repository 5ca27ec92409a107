"""FDSA as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: T items of all rows, M asked places, X fields of features or width of text vectors, K values of an item
in a field, D width, V items with padding.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from harness.artifacts import TEXT_VECTORS, text_assumptions
from harness.data.dataset import PADDING, Dataset
from harness.data.text.vectors import TextConfig, load_vectors
from harness.interfaces import Artifacts, Need
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.nn.ragged import Ragged
from harness.nn.sasrec import RecBoleLayer, TransformerSizes, draw_normal
from harness.sequence.features import fields_of, obstacle_to_features
from harness.sequence.model import SequenceModel
from harness.sequence.training import TINY_SCHEDULE, SequenceTraining, effort, softmax_assumptions


class FDSAConfig(SequenceTraining, TransformerSizes):
    """FDSA's sizes and schedule; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""

    added_later: ClassVar[frozenset[str]] = frozenset({"reads", "text_vectors"})

    features: tuple[str, ...] = Field((), description="fields of the items' metadata; none named: all that there are")
    reads: Literal["features", "text"] = Field(
        "features", description="text: the vector of an item's text, frozen, in the place of its features"
    )
    text_vectors: TextConfig = Field(TextConfig(), description="how texts become vectors (reads=text)")

    @property
    def text_field(self) -> str | None:
        """`text_vectors`, where texts are read."""
        return "text_vectors" if self.reads == "text" else None

    @model_validator(mode="after")
    def _text_vectors_have_a_width(self) -> Self:
        if self.reads == "text" and self.text_vectors.dim is None:
            raise ValueError("reads='text' needs the width of text vectors, but got text_vectors.dim=none; give one")
        return self


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


class TextInput(nn.Module):
    """An item's text vector, which is never trained, through a linear map. The vectors are those of an artifact."""

    vectors_VX: Tensor  # (N + 1, X)

    def __init__(self, num_items: int, text_width: int, width: int):
        super().__init__()
        self.register_buffer("vectors_VX", torch.zeros(num_items + 1, text_width))
        self.linear = nn.Linear(text_width, width)

    def forward(self, items_T: Tensor) -> Tensor:
        """(T, D)."""
        return self.linear(self.vectors_VX.index_select(0, items_T))


class FDSA(Encoder):
    """Two causal encoders, of items and of their features, whose states are joined by a linear map.

    They share the positions, and one LayerNorm serves the inputs of both and the joined states, as in RecBole. Row 0 of
    the item table is padding: zero and never trained, or with `legacy_pad` drawn and trained as a class of the softmax.
    """

    def __init__(self, config: FDSAConfig, dataset: Dataset):
        super().__init__()
        self.max_history, width = dataset.max_history, config.hidden_size
        self.item_keys = dataset.catalog.keys
        self.item_table = nn.Embedding(dataset.num_items + 1, width)
        self.position_table = nn.Embedding(dataset.max_history, width)
        self.text: TextInput | None = None
        if config.reads == "text":
            assert config.text_vectors.dim is not None
            self.text = TextInput(dataset.num_items, config.text_vectors.dim, width)
        else:
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

    def _features(self, items_T: Tensor) -> Tensor:
        if self.text is not None:
            return self.text(items_T)
        return self.pool(torch.stack([field(items_T) for field in self.fields], dim=1))

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D). Positions count from a row's first item."""
        positions_TD = self.position_table(rows.from_start_T)
        items_TD = self._encoded(self.item_table(rows.items_T) + positions_TD, self.item_layers, rows.layout)
        features_TD = self._encoded(self._features(rows.items_T) + positions_TD, self.feature_layers, rows.layout)
        both_MD = torch.cat([items_TD.index_select(0, places_M), features_TD.index_select(0, places_M)], dim=1)
        return self.dropout(self.norm(self.join(both_MD)))


def needs(config: FDSAConfig) -> dict[str, Need]:
    """The items' text vectors, where they are read."""
    return {"text": Need(TEXT_VECTORS, config.text_vectors)} if config.reads == "text" else {}


def start(network: Encoder, artifacts: Artifacts) -> None:
    """Gives the network the items' text vectors, where it reads them; padding has the vector 0."""
    assert isinstance(network, FDSA)
    if network.text is not None:
        vectors_NX = torch.from_numpy(load_vectors(artifacts["text"], network.item_keys))
        network.text.vectors_VX[1:] = vectors_NX.to(network.text.vectors_VX.device)


FDSA_MODEL = SequenceModel("fdsa", FDSA, start=start)


def obstacle(config: FDSAConfig, dataset: Dataset) -> str | None:
    """Why the items do not have the features, where these are read."""
    return None if config.reads == "text" else obstacle_to_features(dataset, config.features)


def assumptions(config: FDSAConfig) -> list[str]:
    """What the paper leaves open, as one line each."""
    is_text = config.reads == "text"
    features = "the items' texts" if is_text else ", ".join(config.features) or "all of the metadata"
    return [
        f"FDSA: the paper gives only the item dimension (128); {config.num_layers} layers, {config.num_heads} heads, "
        f"dropout {config.dropout}, learning rate {config.learning_rate}, and the features "
        f"({features}) are assumed",
        *(text_assumptions(config.text_vectors) if is_text else []),
        *softmax_assumptions(config, "FDSA"),
    ]


METHOD = FDSA_MODEL.method(
    title="FDSA",
    groups=("paper",),
    inputs=("features",),
    inputs_of=lambda config: (config.reads,),
    needs=needs,
    obstacle=obstacle,
    place=160,
    config=FDSAConfig,
    lite=FDSAConfig(hidden_size=64, dropout=0.4, learning_rate=2e-3, batch_size=512, epochs=40, patience=4),
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "inner_size": 32, "num_layers": 1, "num_heads": 1},
    assumptions=assumptions,
    effort=lambda config: 1.2 * effort(config),  # two encoders; the softmax takes most of the time
)
