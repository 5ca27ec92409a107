"""Training samples, and batches of them, cut from flat arrays by vectorised indexing: no Python per sample.

Shape legend: B samples of a batch, S positions, G samples of a length group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.data.dataset import Dataset, Sequences, offsets_of, ranges


@dataclass(frozen=True)
class PrefixSamples:
    """Every prefix of every training sequence as one sample: its last `max_history` items, and the next item.

    METHODS A.5: for t = 2..n-2 one sample (x1..x(t-1) -> xt).
    """

    sequences: Sequences
    starts: np.ndarray  # (M,) int64: where the history begins in `sequences.items`
    ends: np.ndarray  # (M,) int64: where it ends; the target stands at this place

    @classmethod
    def of(cls, dataset: Dataset) -> PrefixSamples:
        """All samples of the data set's training sequences, by user and time."""
        offsets, lengths = dataset.train.offsets, dataset.train.lengths
        positions = np.arange(offsets[-1])
        row_start = np.repeat(offsets[:-1], lengths)
        ends = positions[positions > row_start]
        return cls(dataset.train, np.maximum(row_start[ends], ends - dataset.max_history), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        """(M,) number of history items of each sample."""
        return self.ends - self.starts

    def batch(self, samples: np.ndarray) -> tuple[Sequences, np.ndarray]:
        """Histories (B rows) and targets (B,) int64 of the given samples."""
        starts, ends = self.starts[samples], self.ends[samples]
        lengths = ends - starts
        histories = Sequences(self.sequences.items[ranges(starts, lengths)], offsets_of(lengths))
        return histories, self.sequences.items[ends].astype(np.int64)


def shuffled_batches(count: int, size: int, stream: np.random.Generator) -> Iterator[np.ndarray]:
    """The numbers 0..count-1 in a random order, cut into batches of `size` (the last may be smaller)."""
    order = stream.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]
