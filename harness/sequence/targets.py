"""What an item-scoring network learns from: rows of items with targets, and drawn items to contrast these with.

Shape legend: R training rows, U users, M targets, N items, J draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from harness.data.dataset import Dataset, Sequences, ranges
from harness.data.samples import PrefixSamples
from harness.errors import DataError


class Rows(Protocol):
    """Rows of items with targets, as `Batches` takes them; fields and methods are those of `TrainingRows`."""

    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def targets(self) -> np.ndarray: ...
    @property
    def users(self) -> np.ndarray: ...
    @property
    def weights(self) -> np.ndarray: ...

    def __len__(self) -> int: ...
    def for_epoch(self, stream: np.random.Generator) -> Rows: ...
    def histories(self, rows: np.ndarray) -> Sequences: ...
    def next_items(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class TrainingRows:
    """Rows of items whose last positions each predict the item that comes next."""

    sequences: Sequences
    starts: np.ndarray  # (R,) int64 place of a row's first item in `sequences.items`
    lengths: np.ndarray  # (R,) int64 items of a row, at most `max_history`
    targets: np.ndarray  # (R,) int64 how many of its last positions have a target
    users: np.ndarray  # (R,) int64
    weights: np.ndarray  # (R,) int64 what a row counts for in the size of a batch

    @classmethod
    def every_next_item(cls, dataset: Dataset, stride: int = 1) -> TrainingRows:
        """Rows for a causal network that hold every target of `PrefixSamples` once; a batch counts these.

        A sequence's first items form one row in which every position has a target: each history of up to `max_history`
        items is a prefix of it, which a causal network sees as if it stood alone. A longer history is cut at its old
        end, so that its positions and context are no other's. Later targets stand in windows of `max_history` items,
        each at the last `stride` positions of one: with 1 each has its whole history, with more the earlier ones of a
        window see up to `stride - 1` items less. The last window holds what remains.
        """
        offsets, lengths = dataset.train.offsets, dataset.train.lengths
        longest = dataset.max_history
        stride = min(stride, longest)  # a target needs one item before it
        heads = np.flatnonzero(lengths >= 2)
        head_lengths = np.minimum(lengths[heads] - 1, longest)
        later_U = np.maximum(lengths - 1 - longest, 0)
        windows_U = -(-later_U // stride)
        window_users = np.repeat(np.arange(len(lengths)), windows_U)
        window_ends = np.minimum(ranges(np.ones_like(windows_U), windows_U) * stride, later_U[window_users])
        targets = np.concatenate([head_lengths, (window_ends - 1) % stride + 1])
        return cls(
            dataset.train,
            np.concatenate([offsets[heads], offsets[window_users] + window_ends]),
            np.concatenate([head_lengths, np.full(len(window_users), longest)]),
            targets,
            np.concatenate([heads, window_users]),
            weights=targets,
        )

    @classmethod
    def prefix_samples(cls, dataset: Dataset) -> TrainingRows:
        """Rows for a network that is not causal: the samples of `PrefixSamples`, each with its target at its end."""
        samples = PrefixSamples.of(dataset)
        users = np.repeat(np.arange(dataset.num_users), dataset.train.lengths)[samples.ends]
        ones = np.ones(len(samples), dtype=np.int64)
        return cls(dataset.train, samples.starts, samples.lengths, ones, users, weights=ones)

    @classmethod
    def latest_window(cls, dataset: Dataset) -> TrainingRows:
        """One row per user, which a batch counts: the last `max_history` items that have a next one, all with targets.

        It is for a causal network.
        """
        users = np.flatnonzero(dataset.train.lengths >= 2)
        lengths = np.minimum(dataset.train.lengths[users] - 1, dataset.max_history)
        starts = dataset.train.offsets[1:][users] - 1 - lengths
        return cls(dataset.train, starts, lengths, lengths, users, weights=np.ones_like(users))

    def __len__(self) -> int:
        return len(self.starts)

    def for_epoch(self, stream: np.random.Generator) -> TrainingRows:
        """The rows of one epoch: always these, without a draw."""
        return self

    def histories(self, rows: np.ndarray) -> Sequences:
        """The items of the given rows."""
        return self.sequences.cut(self.starts[rows], self.lengths[rows], self.users[rows])

    def next_items(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The given rows' targets, row by row: (M,) int64 each.

        Which of `rows` it belongs to; how many steps before the row's last position the one that predicts it stands;
        the item.
        """
        counts = self.targets[rows]
        row_M = np.repeat(np.arange(len(rows)), counts)
        ends = self.starts[rows] + self.lengths[rows]
        places_M = ranges(ends - counts + 1, counts)
        return row_M, ends[row_M] - places_M, self.sequences.items[places_M].astype(np.int64)


class Draws(Protocol):
    """Where the items that targets are contrasted with come from."""

    is_shared: ClassVar[bool]  # whether one draw serves all targets of a piece, or each has a row of its own

    def draw(self, users_M: np.ndarray, stream: np.random.Generator) -> tuple[np.ndarray, ...]:
        """What the loss takes after the targets of these users."""
        ...


@dataclass(frozen=True)
class UnseenItems:
    """Uniform draws of items that a user's sequence does not hold, without rejection.

    The r-th unseen item (r from 0) is r + 1 plus the number of seen items that have at most r unseen items below them.
    """

    is_shared: ClassVar[bool] = False
    num_items: int
    counts: np.ndarray  # (U,) int64 distinct items seen
    firsts: np.ndarray  # (U,) int64 where a user's entries begin in `keys`
    keys: np.ndarray  # int64, ascending: user · num_items + unseen items below one of the user's seen items

    @classmethod
    def of(cls, sequences: Sequences, num_items: int) -> UnseenItems:
        """Draws for each row of `sequences`; `DataError` where a row holds all items."""
        rows = np.repeat(np.arange(len(sequences)), sequences.lengths)
        seen = np.unique(rows * num_items + sequences.items - 1)
        rows = seen // num_items
        counts = np.bincount(rows, minlength=len(sequences))
        if counts.max(initial=0) >= num_items:
            raise DataError(
                f"negative sampling needs an item that the user has not seen, but a user has seen all {num_items}; "
                "choose a loss over all items (of SASRec: sasrec.style=recbole)"
            )
        firsts = np.cumsum(counts) - counts
        return cls(num_items, counts, firsts, seen - (np.arange(len(seen)) - firsts[rows]))

    def draw(self, users_M: np.ndarray, stream: np.random.Generator) -> tuple[np.ndarray]:
        """(M,) int64 one item for each of the given users."""
        ranks_M = stream.integers(0, self.num_items - self.counts[users_M])
        passed_M = np.searchsorted(self.keys, users_M * self.num_items + ranks_M, side="right")
        return (ranks_M + 1 + passed_M - self.firsts[users_M],)


@dataclass(frozen=True)
class ItemDraws:
    """Draws of items with replacement, the same ones for every target of a piece of a batch."""

    is_shared: ClassVar[bool] = True
    cumulative_N: np.ndarray  # (N,) float64, ascending to 1: probability of an item or one before it
    count: int  # J

    @classmethod
    def of(cls, dataset: Dataset, by: Literal["uniform", "popularity"], count: int) -> ItemDraws:
        """Draws from all items alike, or by training interactions and one more, so that every item can be drawn."""
        weights_N = np.ones(dataset.num_items) + (dataset.item_counts if by == "popularity" else 0)
        cumulative_N = np.cumsum(weights_N)
        return cls(cumulative_N / cumulative_N[-1], count)

    def draw(self, users_M: np.ndarray, stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(J,) int64 items, and (J,) float32 logarithms of how often each is expected among the J."""
        places_J = np.searchsorted(self.cumulative_N, stream.random(self.count), side="right")
        shares_J = np.diff(self.cumulative_N, prepend=0.0)[places_J]
        return places_J + 1, np.log(self.count * shares_J).astype(np.float32)


@dataclass(frozen=True)
class OwnDraws:
    """Uniform draws of items with replacement, each target's own, which may be the target."""

    is_shared: ClassVar[bool] = False
    num_items: int
    count: int  # K

    def draw(self, users_M: np.ndarray, stream: np.random.Generator) -> tuple[np.ndarray]:
        """(M, K) int64 items for each of the given users' targets."""
        return (stream.integers(1, self.num_items + 1, (len(users_M), self.count)),)
