"""Caser as a baseline of the paper's Table 3, in RecBole's form (METHODS B.5).

Shape legend: B rows, T items of all rows, L places of a window, M asked places, D width, V vertical filters, G
horizontal ones of all L heights, X items that have some before them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.kernels.precision import full_precision
from harness.nn.layers import Dropout
from harness.nn.moving import moved
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
        # Padding's row is subtracted from all, and added with the biases: only a history's own items are multiplied.
        padding_D = self.item_table.weight[PADDING].detach()
        items_TD = self.item_table(rows.items_T) - padding_D
        with full_precision(items_TD.device):  # rounding would let other places be the greatest, and other units be 0
            filtered = [self.vertically(items_TD, padding_D, rows), self.horizontally(items_TD, padding_D, rows)]
            hidden_BD = F.relu(self.of_filters(self.dropout(torch.cat(filtered, dim=1))))
            return F.relu(self.with_user(torch.cat([hidden_BD, self.user_table.of_rows(rows)], dim=1)))

    def vertically(self, items_TD: Tensor, padding_D: Tensor, rows: PackedRows) -> Tensor:
        """(B, V * D): weighted sums over the places, padding's among them."""
        weight_VL1, bias_V = self.vertical.parameters()
        weight_VL = weight_VL1[:, :, 0]
        base_VD = bias_V[:, None] + weight_VL.sum(dim=1, keepdim=True) * padding_D
        summands_TVD = weight_VL.T.index_select(0, rows.from_start_T)[:, :, None] * items_TD[:, None]
        base_BVD = base_VD.expand(len(rows.ends_B), -1, -1)
        return base_BVD.index_add(0, rows.row_T, summands_TVD).flatten(1)

    def horizontally(self, items_TD: Tensor, padding_D: Tensor, rows: PackedRows) -> Tensor:
        """(B, G): the greatest output of each filter, over the places where it fits into the window.

        An item j places behind a filter's start meets the filter's row j: a product for each j, of the items that have
        j items before them.
        """
        longest = self.max_history
        filters: list[Tensor] = list(self.horizontal.parameters())  # weight and bias of each height
        padded = [F.pad(weight, (0, longest - weight.shape[2])) for weight in filters[::2]]
        weight_LGD = torch.stack(padded).permute(3, 0, 1, 2).flatten(1, 2)  # by row; 0 beyond a filter's height
        bias_G = torch.cat(filters[1::2]) + weight_LGD.sum(dim=0) @ padding_D
        outputs_TG = bias_G.repeat(len(items_TD), 1)
        later = moved(_with_items_before(rows.layout.lengths), items_TD.device).values()
        for row, (weight_GD, later_X) in enumerate(zip(weight_LGD.unbind(0), later, strict=False)):
            outputs_TG.index_add_(0, later_X - row, items_TD.index_select(0, later_X) @ weight_GD.T)
        height_G = torch.arange(1, longest + 1, device=items_TD.device).repeat_interleave(len(bias_G) // longest)
        # Outputs are 0 at least, so 0 stands for places where a filter has none.
        outputs_TG = F.relu(outputs_TG) * (height_G <= longest - rows.from_start_T[:, None])
        lengths_B = rows.from_start_T.index_select(0, rows.ends_B) + 1
        of_padding_BG = F.relu(bias_G) * (height_G <= longest - lengths_B[:, None])
        return torch.maximum(rows.padded(outputs_TG).amax(dim=1), of_padding_BG)

    def penalty(self) -> Tensor:
        """The sum of the L2 norms of tables, filters and layers, without biases."""
        modules = (self.user_table, self.item_table, self.vertical, self.of_filters, self.with_user, *self.horizontal)
        return self.regularisation * torch.stack([module.weight.norm() for module in modules]).sum()


def objective(config: CaserConfig, dataset: Dataset) -> Objective:
    """Each prefix's next item under the config's softmax."""
    window = min(config.window, dataset.max_history)
    return softmax_objective(config, replace(dataset, max_history=window), TrainingRows.prefix_samples)


def _with_items_before(lengths: np.ndarray) -> dict[str, np.ndarray]:
    """For each j, which items of all rows have at least j items of their row before them."""
    starts = np.cumsum(lengths) - lengths
    place_T = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    return {str(before): np.flatnonzero(place_T >= before) for before in range(lengths.max())}


CASER = SequenceModel("caser", Caser, objective)


METHOD = CASER.method(
    title="Caser",
    groups=("paper",),
    place=100,
    config=CaserConfig,
    version=2,
    lite=CaserConfig(embedding_size=64, window=8, batch_size=512, epochs=40, patience=3),
    tiny={**TINY_SCHEDULE, "embedding_size": 16, "window": 4},
    assumptions=open_choices(
        "Caser",
        "windows of {window}, {vertical_filters} vertical and {horizontal_filters} horizontal filters of each height, "
        "dropout {dropout}, learning rate {learning_rate}",
        remark=f"; {UNSEEN_USERS}",
    ),
)
