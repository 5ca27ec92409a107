"""Caser as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: B rows, L places of a window, M asked places, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.sequence.model import SequenceModel
from harness.sequence.targets import TrainingRows
from harness.sequence.training import (
    TINY_SCHEDULE,
    Objective,
    SequenceTraining,
    open_choices,
    softmax_objective,
)
from harness.sequence.users import UNSEEN_USERS, UserTable


class CaserConfig(SequenceTraining):
    """Caser's sizes and schedule; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""

    embedding_size: int = Field(128, ge=1, description="width of items and users")
    window: int = Field(50, ge=1, description="last items of a history that are read; filters are 1 to so many high")
    vertical_filters: int = Field(4, ge=1)
    horizontal_filters: int = Field(8, ge=1, description="of each height")
    dropout: float = Field(0.4, ge=0, lt=1, description="on the filters' outputs")
    regularisation: float = Field(1e-4, ge=0, description="weight of the sum of the weights' L2 norms, not squared")


class Caser(Encoder):
    """Convolutions over the matrix of a history's last items, followed by padding; then two layers, one with the user.

    Row 0 of the item table is padding: zero and never trained, or with `legacy_pad` drawn like an item's row and
    trained as a class of the softmax.
    """

    def __init__(self, config: CaserConfig, dataset: Dataset):
        super().__init__()
        self.max_history, width = min(config.window, dataset.max_history), config.embedding_size
        self.regularisation = config.regularisation
        self.item_table = nn.Embedding(dataset.num_items + 1, width, padding_idx=PADDING)
        self.user_table = UserTable(dataset.num_users, width)
        self.vertical = nn.Conv1d(self.max_history, config.vertical_filters, 1)  # places are its channels
        heights = range(1, self.max_history + 1)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, config.horizontal_filters, height) for height in heights)
        filtered = config.vertical_filters * width + config.horizontal_filters * len(heights)
        self.dropout = Dropout(config.dropout)
        self.of_filters = nn.Linear(filtered, width)
        self.with_user = nn.Linear(2 * width, width)
        self.reset_parameters(config.legacy_pad)

    @torch.no_grad()
    def reset_parameters(self, legacy_pad: bool = False) -> None:
        """Normal tables with standard deviation 1 / D; Glorot-normal layers with biases 0; filters as torch's."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1 / module.embedding_dim)
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        if not legacy_pad:
            self.item_table.weight[PADDING].zero_()

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D), M = B: it is asked at the end of each row, in order."""
        assert len(places_M) == len(rows.ends_B), "one state is made for each row"
        items_BLD = self.item_table(rows.windows(self.max_history, at_end=False))
        items_BDL = items_BLD.transpose(1, 2)
        highest = [F.relu(filters(items_BDL)).amax(dim=2) for filters in self.horizontal]
        filtered = self.dropout(torch.cat([self.vertical(items_BLD).flatten(1), *highest], dim=1))
        hidden_BD = F.relu(self.of_filters(filtered))
        return F.relu(self.with_user(torch.cat([hidden_BD, self.user_table.of_rows(rows)], dim=1)))

    def penalty(self) -> Tensor:
        """The sum of the L2 norms of tables, filters and layers, without biases."""
        modules = (self.user_table, self.item_table, self.vertical, self.of_filters, self.with_user, *self.horizontal)
        return self.regularisation * torch.stack([module.weight.norm() for module in modules]).sum()


def objective(config: CaserConfig, dataset: Dataset) -> Objective:
    """Each prefix's next item under the config's softmax."""
    window = min(config.window, dataset.max_history)
    return softmax_objective(config, replace(dataset, max_history=window), TrainingRows.prefix_samples)


CASER = SequenceModel("caser", Caser, objective)


METHOD = CASER.method(
    title="Caser",
    groups=("paper",),
    place=100,
    config=CaserConfig,
    lite=CaserConfig(embedding_size=64, window=8, batch_size=512, epochs=40, patience=3),
    tiny={**TINY_SCHEDULE, "embedding_size": 16, "window": 4},
    assumptions=open_choices(
        "Caser",
        "windows of {window}, {vertical_filters} vertical and {horizontal_filters} horizontal filters of each height, "
        "dropout {dropout}, learning rate {learning_rate}",
        remark=f"; {UNSEEN_USERS}",
    ),
)
