"""The prepared data set: what every method learns from, and the cases on which it is judged.

Shape legend: U users, C cases, N items, T interactions, B rows, S positions. Item ids are 1..N, 0 is padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

PADDING = 0


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., start + length - 1 of each pair, one after another."""
    ends = np.cumsum(lengths)
    return np.arange(lengths.sum()) + np.repeat(starts - ends + lengths, lengths)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """(B + 1,) int64 where each of B rows of these lengths begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True)
class Sequences:
    """Ragged rows of item ids: row i is `items[offsets[i]:offsets[i + 1]]`, oldest first."""

    items: np.ndarray  # (T,) int32
    offsets: np.ndarray  # (B + 1,) int64
    times: np.ndarray | None = None  # (T,) int64 when, in the source's unit; None: only the order is known
    # (B,) int64: the row of `Dataset.train` that is of the same user, -1 where there is none; None: not told
    users: np.ndarray | None = None

    @classmethod
    def from_rows(cls, rows: list[list[int]]) -> Sequences:
        """Sequences from Python lists (tests, small inputs)."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        items = np.array([item for row in rows for item in row], dtype=np.int32)
        return cls(items, offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(B,) int64 number of items in each row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        """(S,) the items of one row."""
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def at(self, places: np.ndarray, offsets: np.ndarray, users: np.ndarray | None) -> Sequences:
        """Rows of what stands at the given places of the flat axis, of the given users."""
        return Sequences(self.items[places], offsets, None if self.times is None else self.times[places], users)

    def cut(self, starts: np.ndarray, lengths: np.ndarray, users: np.ndarray | None) -> Sequences:
        """Rows of so many items from the given places of the flat axis on, of the given users."""
        return self.at(ranges(starts, lengths), offsets_of(lengths), users)

    def take(self, rows: np.ndarray) -> Sequences:
        """The given rows, in the given order."""
        users = None if self.users is None else self.users[rows]
        return self.cut(self.offsets[:-1][rows], self.lengths[rows], users)

    def last(self, count: int) -> Sequences:
        """Each row's last `count` items (all of a shorter row)."""
        lengths = np.minimum(self.lengths, count)
        return self.cut(self.offsets[1:] - lengths, lengths, self.users)

    def without_last(self, count: int) -> Sequences:
        """Each row without its last `count` items (none of a shorter row)."""
        return self.cut(self.offsets[:-1], np.maximum(self.lengths - count, 0), self.users)

    def appended(self, items: np.ndarray) -> Sequences:
        """Each row with one more item at its end, without times; `items` is (B,)."""
        offsets = self.offsets + np.arange(len(self) + 1)
        return Sequences(np.insert(self.items, self.offsets[1:], items), offsets, users=self.users)

    def padded(self) -> np.ndarray:
        """(B, S) int64, right-padded with 0 to the longest row."""
        longest = int(self.lengths.max(initial=0))
        out = np.full((len(self), longest), PADDING, dtype=np.int64)
        out[np.arange(longest) < self.lengths[:, None]] = self.items
        return out


@dataclass(frozen=True)
class Catalog:
    """The item universe: `keys[i - 1]` is the raw key of item i, `texts[i - 1]` its text or None."""

    keys: tuple[str, ...]
    texts: tuple[str | None, ...] | None = None  # None: the data set carries no text at all
    features: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)  # field → each item's values

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class EvalCases:
    """Held-out items, any number of a user: rank `targets[c]` given `histories` row c."""

    histories: Sequences  # C rows, each its last `max_history` items; a row may be empty
    targets: np.ndarray  # (C,) int32
    new_users: np.ndarray | None = None  # (C,) bool: nothing was learnt of the case's user; None: so it is of no case
    owners: np.ndarray | None = None  # (C,) int64: the first case of the same user; None: each is of another user

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """What a method may see: training sequences and validation cases, never the test items.

    The test items live in a file of their own (`harness.data.prepare.load_test`), which only the final
    evaluation opens, so no fit and no selection can read them by accident.
    """

    name: str
    fingerprint: str
    catalog: Catalog
    train: Sequences  # U rows, not cut
    validation: EvalCases
    max_history: int = 50
    synthetic: bool = False
    original: str | None = None  # the name of the same data under leave-one-out; None: this is it
    split: str = "leave-one-out"
    whole: str = ""  # fingerprint of the same data before any split; empty: prepared by an earlier version

    @property
    def num_items(self) -> int:
        """N: ids run from 1 to N."""
        return len(self.catalog)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """(N,) int64 training interactions of each item; validation and test targets are not among them."""
        return np.bincount(self.train.items, minlength=self.num_items + 1)[PADDING + 1 :]

    @property
    def num_users(self) -> int:
        """U: users that are learnt from."""
        return len(self.train)

    @cached_property
    def times_digest(self) -> str | None:
        """16 hex digits of the SHA-256 of the training sequences' times; None where only their order is known."""
        times = self.train.times
        return None if times is None else hashlib.sha256(times.astype("<i8").tobytes()).hexdigest()[:16]
