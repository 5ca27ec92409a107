"""Masked items as targets: rows whose masked positions predict what stood there.

Shape legend: R rows, T items of all rows, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.data.dataset import Dataset, Sequences


def windows_of(dataset: Dataset) -> tuple[Sequences, np.ndarray]:
    """All training items in rows of at most `max_history`, and each row's user, (R,) int64.

    A longer sequence is cut from its end. Rows of one item are left out: they hold nothing to predict it from.
    """
    windows_U = -(-dataset.train.lengths // dataset.max_history)
    users = np.repeat(np.arange(len(windows_U)), windows_U)
    windows_after = np.repeat(np.cumsum(windows_U), windows_U) - np.arange(len(users)) - 1
    ends = dataset.train.offsets[1:][users] - windows_after * dataset.max_history
    windows = Sequences(dataset.train.items, np.concatenate([[0], ends]))
    kept = np.flatnonzero(windows.lengths >= 2)
    return windows.take(kept), users[kept]


@dataclass(frozen=True)
class Masking:
    """How positions are drawn (METHODS B.5): each with `ratio`, or with `last_share` of the rows the last one alone."""

    mask: int  # id of the item that stands for a masked one
    ratio: float
    last_share: float
    most: int  # masked positions of a row at most


@dataclass(frozen=True)
class MaskedRows:
    """All training items in rows of at most `max_history`, with masks that are drawn anew for each epoch."""

    sequences: Sequences  # R rows
    users: np.ndarray  # (R,) int64
    masking: Masking
    is_masked_T: np.ndarray  # (T,) bool

    @classmethod
    def of(cls, dataset: Dataset, masking: Masking) -> MaskedRows:
        """Rows without masks: `windows_of` the training sequences."""
        sequences, users = windows_of(dataset)
        return cls(sequences, users, masking, np.zeros(len(sequences.items), dtype=bool))

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def lengths(self) -> np.ndarray:
        """(R,) int64 items of a row."""
        return self.sequences.lengths

    @cached_property
    def targets(self) -> np.ndarray:
        """(R,) int64 masked items of a row."""
        return np.bincount(self._row_T[self.is_masked_T], minlength=len(self))

    @property
    def weights(self) -> np.ndarray:
        """(R,) int64: a batch counts rows."""
        return np.ones(len(self), dtype=np.int64)

    @cached_property
    def _row_T(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), self.lengths)

    def for_epoch(self, stream: np.random.Generator) -> MaskedRows:
        """The rows with masks: each has one at least, and `Masking.most` at most."""
        draws_T = stream.random(len(self.sequences.items))
        is_last_only_R = stream.random(len(self)) < self.masking.last_share
        # Of a row's positions those with the lowest draws come first, so that the bounds favour no place.
        rank_T = np.empty(len(draws_T), dtype=np.int64)
        rank_T[np.lexsort((draws_T, self._row_T))] = np.arange(len(draws_T)) - self.sequences.offsets[:-1][self._row_T]
        is_drawn_T = ((draws_T < self.masking.ratio) & (rank_T < self.masking.most)) | (rank_T == 0)
        is_last_T = np.zeros(len(draws_T), dtype=bool)
        is_last_T[self.sequences.offsets[1:] - 1] = True
        return replace(self, is_masked_T=np.where(is_last_only_R[self._row_T], is_last_T, is_drawn_T))

    def histories(self, rows: np.ndarray) -> Sequences:
        """The given rows with the mask item at masked positions."""
        items_T = np.where(self.is_masked_T, np.int32(self.masking.mask), self.sequences.items)
        return Sequences(items_T, self.sequences.offsets).take(rows)

    def next_items(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The given rows' targets, row by row, as `TrainingRows.next_items`: the state at a mask predicts its item."""
        taken = self.sequences.take(rows)
        is_masked = Sequences(self.is_masked_T, self.sequences.offsets).take(rows).items
        places_M = np.flatnonzero(is_masked)
        row_M = np.searchsorted(taken.offsets, places_M, side="right") - 1
        return row_M, taken.offsets[1:][row_M] - 1 - places_M, taken.items[places_M].astype(np.int64)
