"""BERT4Rec as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: B rows, T items of all rows, M asked places, V items with padding, D width of items.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import Dataset, Sequences
from harness.nn.bert import BertEncoder, Positions
from harness.nn.encoder import PackedRows
from harness.nn.sasrec import TransformerSizes, draw_normal
from harness.sequence.masking import MaskedRows, Masking
from harness.sequence.model import SequenceModel
from harness.sequence.training import (
    TINY_SCHEDULE,
    Objective,
    SequenceTraining,
    effort,
    open_choices,
    softmax_objective,
)


class BERT4RecConfig(SequenceTraining, TransformerSizes):
    """BERT4Rec's sizes and schedule; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""

    dropout: float = Field(0.2, ge=0, lt=1, description="on embeddings, attention weights and sub-layer outputs")
    mask_ratio: float = Field(0.2, gt=0, lt=1, description="share of a row's positions that are masked")
    last_share: float = Field(0.5, ge=0, le=1, description="share of the rows in which only the last item is masked")
    positions: Positions = Field(
        "start",
        description="start: counted from a row's first item, as in RecBole; end: from its last, so that the place of a "
        "recommendation's mask is known from training however long the history",
    )
    batch_size: int = Field(2048, ge=1, description="rows of an optimiser step")


class BERT4Rec(BertEncoder):
    """A bidirectional encoder; the state at a masked position predicts its item, with a bias for each item.

    The item table has a row more for the mask, which is no class of the softmax. Row 0 is padding: zero and never
    trained, or with `legacy_pad` drawn like an item's row and trained as a class. States end with a 1 and item rows
    with the item's bias, so that their product is the logit.
    """

    def __init__(self, config: BERT4RecConfig, dataset: Dataset):
        super().__init__(dataset.num_items + 2, dataset.max_history, config, is_causal=False)
        self.mask, self.positions, width = dataset.num_items + 1, config.positions, config.hidden_size
        self.output = nn.Linear(width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)
        self.output_bias = nn.Parameter(torch.zeros(dataset.num_items + 1))
        draw_normal(self, item_table=None if config.legacy_pad else self.item_table)

    def read_rows(self, histories: Sequences) -> Sequences:
        """The last items, as many as leave room for the mask that is appended to them."""
        histories = histories.last(self.max_history - 1)
        return histories.appended(np.full(len(histories), self.mask))

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D + 1) states of masked positions."""
        x_TD = self.states(rows, self.positions)
        states_MD = self.output_norm(F.gelu(self.output(x_TD.index_select(0, places_M))))
        return torch.cat([states_MD, states_MD.new_ones(len(states_MD), 1)], dim=1)

    @property
    def item_rows_VD(self) -> Tensor:
        """(V, D + 1) rows of padding and items, each with its bias behind it."""
        return torch.cat([self.item_table.weight[: self.mask], self.output_bias[:, None]], dim=1)


def objective(config: BERT4RecConfig, dataset: Dataset) -> Objective:
    """Masked items under the config's softmax."""
    most = max(1, int(config.mask_ratio * dataset.max_history))
    masking = Masking(dataset.num_items + 1, config.mask_ratio, config.last_share, most)
    return softmax_objective(config, dataset, lambda data: MaskedRows.of(data, masking))


BERT4REC = SequenceModel("bert4rec", BERT4Rec, objective)


METHOD = BERT4REC.method(
    title="BERT4Rec",
    groups=("paper",),
    place=140,
    config=BERT4RecConfig,
    lite=BERT4RecConfig(hidden_size=64, learning_rate=2e-3, batch_size=256, epochs=100, patience=8),
    tiny={
        **TINY_SCHEDULE,
        **{"hidden_size": 16, "inner_size": 32, "num_layers": 1, "num_heads": 1, "batch_size": 16, "epochs": 40},
        # The test's histories have one length: counted from the start, a recommendation's mask would stand at a place
        # that was never trained.
        "positions": "end",
    },
    assumptions=open_choices(
        "BERT4Rec",
        "{num_layers} layers, {num_heads} heads, dropout {dropout}, mask ratio {mask_ratio}, the last item alone in "
        "{last_share} of the rows, learning rate {learning_rate}",
    ),
    effort=lambda config: effort(config) / 3,  # its epochs have fewer targets
)
