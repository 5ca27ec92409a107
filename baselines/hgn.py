"""HGN as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: B rows, S places of a row, T items of all rows, M asked places, D width.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.sequence.model import SequenceModel
from harness.sequence.training import SequenceTraining, open_choices
from harness.sequence.users import UNSEEN_USERS, UserTable


class HGNConfig(SequenceTraining):
    """HGN's size and schedule; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""

    embedding_size: int = Field(128, ge=1, description="width of items and users")


class HGN(Encoder):
    """Items of a history, gated by feature and by place for its user: their weighted mean, their sum, and the user.

    A place's gates do not depend on other places, so the states of all prefixes of a row are running sums: it trains
    like a causal network. Padding has no part in the sums, where RecBole lets it in. The items' output rows are a table
    of their own; its row 0 is a class of the softmax with `legacy_pad`.
    """

    def __init__(self, config: HGNConfig, dataset: Dataset):
        super().__init__()
        self.max_history, width = dataset.max_history, config.embedding_size
        self.item_table = nn.Embedding(dataset.num_items + 1, width)
        self.output_table = nn.Embedding(dataset.num_items + 1, width)
        self.user_table = UserTable(dataset.num_users, width)
        self.feature_of_item = nn.Linear(width, width)
        self.feature_of_user = nn.Linear(width, width, bias=False)
        self.place_of_item = nn.Linear(width, 1, bias=False)
        self.place_of_user = nn.Linear(width, dataset.max_history, bias=False)
        self.reset_parameters(config.legacy_pad)

    @torch.no_grad()
    def reset_parameters(self, legacy_pad: bool = False) -> None:
        """Normal tables with standard deviation 1 / D; Glorot-uniform matrices; the bias 0 (RecBole)."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1 / module.embedding_dim)
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.feature_of_item.bias)
        self.item_table.weight[PADDING].zero_()
        if not legacy_pad:
            self.output_table.weight[PADDING].zero_()

    @property
    def item_rows_VD(self) -> Tensor:
        """(N + 1, D) the output table."""
        return self.output_table.weight

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D)."""
        users_BD, items_TD = self.user_table.of_rows(rows), self.item_table(rows.items_T)
        row_T = rows.row_T
        feature_TD = self.feature_of_item(items_TD) + self.feature_of_user(users_BD).index_select(0, row_T)
        gated_TD = items_TD * feature_TD.sigmoid()
        of_user_T = self.place_of_user(users_BD)[row_T, rows.from_start_T]
        gates_T1 = (self.place_of_item(gated_TD) + of_user_T[:, None]).sigmoid()
        summands_TX = torch.cat([gates_T1 * gated_TD, items_TD, gates_T1], dim=1)
        if places_M is rows.ends_B:  # as when items are ranked: no running sums are needed
            sums_MX = summands_TX.new_zeros(len(places_M), summands_TX.shape[1]).index_add_(0, row_T, summands_TX)
        else:
            sums_BSX = rows.padded(summands_TX).cumsum(dim=1)
            sums_MX = sums_BSX.flatten(0, 1).index_select(0, rows.slots_T[places_M])
        weighted_MD, items_MD, gates_M1 = sums_MX.split([items_TD.shape[1], items_TD.shape[1], 1], dim=1)
        return users_BD.index_select(0, row_T[places_M]) + weighted_MD / gates_M1 + items_MD


HGN_MODEL = SequenceModel("hgn", HGN)


METHOD = HGN_MODEL.method(
    title="HGN",
    groups=("paper",),
    place=120,
    config=HGNConfig,
    version=2,
    lite=HGNConfig(embedding_size=64, batch_size=512, epochs=40, patience=3),
    tiny={"embedding_size": 16, "learning_rate": 1e-2, "batch_size": 16, "epochs": 20, "patience": "none"},
    grid={"learning_rate": (1e-3, 5e-4, 1e-4)},  # METHODS B.5; it has no dropout
    assumptions=open_choices("HGN", "learning rate {learning_rate} and no regulariser", remark=f"; {UNSEEN_USERS}"),
)
