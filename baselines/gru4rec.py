"""GRU4Rec as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: T items of all rows, M asked places, D width of items.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.sequence.model import SequenceModel
from harness.sequence.training import TINY_SCHEDULE, SequenceTraining, open_choices


class GRU4RecConfig(SequenceTraining):
    """GRU4Rec's sizes and schedule; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""

    embedding_size: int = Field(128, ge=1, description="width of items and of what their rows are multiplied with")
    hidden_size: int = Field(128, ge=1, description="width of the GRU's state")
    num_layers: int = Field(1, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1, description="on the embeddings of a history's items")


class GRU4Rec(Encoder):
    """A GRU without biases over a history's items, and a linear map of its state to the items' width.

    The map has a bias. Row 0 of the table is padding: zero and never trained, or with `legacy_pad` drawn like an item's
    row and trained as a class of the softmax. Rows advance side by side, and a row that is over has no further step.
    """

    def __init__(self, config: GRU4RecConfig, dataset: Dataset):
        super().__init__()
        self.max_history = dataset.max_history
        self.item_table = nn.Embedding(dataset.num_items + 1, config.embedding_size)
        self.dropout = Dropout(config.dropout)
        self.gru = nn.GRU(config.embedding_size, config.hidden_size, config.num_layers, bias=False, batch_first=True)
        self.output = nn.Linear(config.hidden_size, config.embedding_size)
        self.reset_parameters(config.legacy_pad)

    @torch.no_grad()
    def reset_parameters(self, legacy_pad: bool = False) -> None:
        """Glorot-normal items; Glorot-uniform matrices of the first GRU layer; all else as torch draws it (RecBole)."""
        nn.init.xavier_normal_(self.item_table.weight)
        for matrix in self.gru.all_weights[0]:
            nn.init.xavier_uniform_(matrix)
        if not legacy_pad:
            self.item_table.weight[PADDING].zero_()

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D)."""
        items_TD = self.dropout(self.item_table(rows.items_T))
        hidden, _ = self.gru(PackedSequence(items_TD.index_select(0, rows.by_place.order_T), rows.by_place.counts_S))
        return self.output(hidden.data.index_select(0, rows.by_place.places_T[places_M]))


GRU4REC = SequenceModel("gru4rec", GRU4Rec)


METHOD = GRU4REC.method(
    title="GRU4Rec",
    groups=("paper",),
    place=110,
    config=GRU4RecConfig,
    version=2,
    lite=GRU4RecConfig(embedding_size=64, hidden_size=64, learning_rate=2e-3, batch_size=512, epochs=60, patience=5),
    tiny={**TINY_SCHEDULE, "embedding_size": 16, "hidden_size": 32},
    assumptions=open_choices(
        "GRU4Rec", "{num_layers} layer, state of width {hidden_size}, dropout {dropout}, learning rate {learning_rate}"
    ),
)
