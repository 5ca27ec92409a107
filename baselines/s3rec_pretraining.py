"""S3-Rec's first stage: a bidirectional encoder learns from attributes, masked items and segments (METHODS B.5).

Shape legend: B rows, T items of all rows, M masked items, K attributes of an item, F attributes, N items, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config import Config
from harness.data.dataset import Dataset, Sequences, offsets_of
from harness.data.samples import shuffled_batches
from harness.nn.bert import BertEncoder, Positions
from harness.nn.encoder import PackedRows, pack
from harness.nn.sasrec import draw_normal
from harness.sequence.features import fields_of
from harness.sequence.targets import UnseenItems
from harness.training.loop import Losses

PIECE_SCORES = 2**22  # scores of attributes in memory at a time


class PretrainingConfig(Config):
    """The first stage's tasks and schedule."""

    features: tuple[str, ...] = Field((), description="fields whose values are attributes; none named: all there are")
    positions: Positions = Field(
        "start",
        description="start: counted from a row's first item, as in the second stage; end: up to the last place, as "
        "RecBole's left padding makes it, whose second stage reads other positions",
    )
    mask_ratio: float = Field(0.2, gt=0, lt=1, description="share of the items that are masked")
    aap_weight: float = Field(0.2, ge=0, description="of the attributes of items that are seen")
    mip_weight: float = Field(1.0, ge=0, description="of masked items against unseen ones")
    map_weight: float = Field(1.0, ge=0, description="of the attributes of masked items")
    sp_weight: float = Field(0.5, ge=0, description="of masked segments against segments of other rows")
    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(256, ge=1, description="rows of an optimiser step: training sequences")
    epochs: int = Field(300, ge=0, description="0: no first stage, and no item features are needed")


def attributes_of(dataset: Dataset, config: PretrainingConfig) -> tuple[np.ndarray, int]:
    """(N + 1, K) int64 attribute numbers from 1, 0 where there is none, of all fields together; and their count F."""
    columns, count = [], 0
    for field in fields_of(dataset, config.features):
        columns.append(np.where(field.of_items > 0, field.of_items + count, 0))
        count += len(field.values)
    return np.concatenate(columns, axis=1), count


class PretrainingBatch(NamedTuple):
    """Four versions of B rows: with masked items, with a masked segment, it alone, another one in its place."""

    rows: PackedRows  # 4 B rows of 4 T items
    items_T: Tensor  # int64 what stands in the rows
    is_masked_T: Tensor  # bool, in the first version
    negatives_M: Tensor  # int64 an unseen item for each masked one


class Heads(nn.Module):
    """The encoder with what only the first stage uses: vectors of attributes, and a linear map for each task."""

    def __init__(self, network: BertEncoder, attributes_NK: np.ndarray, count: int, width: int):
        super().__init__()
        self.attributes = nn.Embedding(count, width)
        self.aap, self.mip, self.map, self.sp = (nn.Linear(width, width) for _ in range(4))
        draw_normal(self)
        self.network = network
        self.register_buffer("attributes_NK", torch.from_numpy(attributes_NK), persistent=False)

    def attribute_loss(self, projected_TD: Tensor, items_T: Tensor) -> Tensor:
        """Summed binary cross-entropy of all attributes at each place; no matrix of zeros and ones is made."""
        scores_TF = projected_TD @ self.attributes.weight.T
        own_TK = self.get_buffer("attributes_NK")[items_T]
        own_scores_TK = scores_TF.gather(1, (own_TK - 1).clamp(min=0))
        return F.softplus(scores_TF).sum() - own_scores_TK[own_TK > 0].sum()


def _margin_loss(states: Tensor, better: Tensor, worse: Tensor) -> Tensor:
    """Summed -ln sigma(sigma(state · better) - sigma(state · worse))."""
    margin = (states * better).sum(dim=1).sigmoid() - (states * worse).sum(dim=1).sigmoid()
    return F.softplus(-margin).sum()


def pretraining_losses(heads: Heads, batch: PretrainingBatch, config: PretrainingConfig) -> Losses:
    """The four sums over the batch, in nats, and their weighted total (METHODS B.5)."""
    states_TD, count = heads.network.states(batch.rows, config.positions), len(batch.items_T)
    own_TD, is_masked_T = states_TD[:count], batch.is_masked_T
    seen_TD, masked_MD = own_TD[~is_masked_T], own_TD[is_masked_T]
    masked_M, table = batch.items_T[is_masked_T], heads.network.item_table
    context_BD, segment_BD, other_BD = states_TD.index_select(0, batch.rows.ends_B).chunk(4)[1:]
    losses = {
        "aap": heads.attribute_loss(heads.aap(seen_TD), batch.items_T[~is_masked_T]),
        "mip": _margin_loss(heads.mip(masked_MD), table(masked_M), table(batch.negatives_M)),
        "map": heads.attribute_loss(heads.map(masked_MD), masked_M),
        "sp": _margin_loss(heads.sp(context_BD), segment_BD, other_BD),
    }
    weights = {"aap": config.aap_weight, "mip": config.mip_weight, "map": config.map_weight, "sp": config.sp_weight}
    return {**losses, "total": sum((weights[name] * loss for name, loss in losses.items()), states_TD.new_zeros(()))}


@dataclass(frozen=True)
class PretrainingBatches:
    """An epoch's shuffled rows in batches, each in pieces with a bounded number of attribute scores."""

    sequences: Sequences
    users: np.ndarray  # of each row
    unseen: UnseenItems
    mask: int
    num_attributes: int
    config: PretrainingConfig
    device: torch.device

    def __call__(self, stream: np.random.Generator) -> Iterator[list[PretrainingBatch]]:
        """One epoch."""
        for batch in shuffled_batches(len(self.sequences), self.config.batch_size, stream):
            scores = np.cumsum(self.sequences.lengths[batch]) * self.num_attributes
            cuts = np.flatnonzero(np.diff((scores - 1) // PIECE_SCORES)) + 1
            yield [self.masked(rows, stream) for rows in np.split(batch, cuts)]

    def masked(self, chosen: np.ndarray, stream: np.random.Generator) -> PretrainingBatch:
        """The chosen rows (each of two items at least) with masks and segments drawn anew."""
        rows = self.sequences.take(chosen)
        row_T = np.repeat(np.arange(len(rows)), rows.lengths)
        is_masked_T = stream.random(len(row_T)) < self.config.mask_ratio
        lengths_B = stream.integers(1, rows.lengths // 2, endpoint=True)
        starts_B = stream.integers(0, rows.lengths - lengths_B, endpoint=True)
        other_starts_B = stream.integers(0, len(row_T) - lengths_B, endpoint=True)
        after_start_T = np.arange(len(row_T)) - (rows.offsets[:-1] + starts_B)[row_T]
        in_segment_T = (after_start_T >= 0) & (after_start_T < lengths_B[row_T])
        others_T = rows.items[np.where(in_segment_T, other_starts_B[row_T] + after_start_T, 0)]
        versions = (
            np.where(is_masked_T, self.mask, rows.items),
            np.where(in_segment_T, self.mask, rows.items),
            np.where(in_segment_T, rows.items, self.mask),
            np.where(in_segment_T, others_T, self.mask),
        )
        offsets = offsets_of(np.tile(rows.lengths, 4))
        (negatives_M,) = self.unseen.draw(self.users[chosen][row_T[is_masked_T]], stream)
        packed = pack(Sequences(np.concatenate(versions), offsets), self.device)
        tensors = (rows.items.astype(np.int64), is_masked_T, negatives_M)
        return PretrainingBatch(packed, *(torch.from_numpy(values).to(self.device) for values in tensors))
