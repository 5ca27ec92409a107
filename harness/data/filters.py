"""Which interactions stay, and in which order: repeats, k-core, short users, item ids (METHODS A.3, A.4).

Shape legend: T interactions, U users, N items. Everything is flat arrays: no Python per user or item.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from harness.config import Config
from harness.data.dataset import Sequences
from harness.data.formats.format import RawInteractions
from harness.data.item_features import feature_columns
from harness.data.splits.split import Whole
from harness.errors import DataError


class PrepareConfig(Config):
    """Which interactions stay, and how much of a history is seen."""

    core: int = Field(0, ge=0)  # users and items keep at least this many interactions; 0 and 1: no filter
    repeats: Literal["keep", "drop"] = "keep"  # drop: only a user's earliest interaction with an item stays
    max_history: int = Field(50, ge=1)  # items of a history that a method sees
    min_interactions: int = Field(3, ge=1)  # per user: what the split needs (`Split.min_interactions`)
    short_users: Literal["error", "drop"] = "error"  # what becomes of users with fewer


@dataclass(frozen=True)
class OrderedInteractions:
    """Interactions by user (in order of first appearance) and time; ties keep the source's order."""

    users: np.ndarray  # (T,) int64 codes of users, sorted
    items: np.ndarray  # (T,) int64 codes of items
    rows: np.ndarray  # (T,) int64: the place in the source

    def where(self, kept: np.ndarray) -> OrderedInteractions:
        """The interactions whose flag is set."""
        places = np.flatnonzero(kept)  # found once for three arrays
        return OrderedInteractions(self.users.take(places), self.items.take(places), self.rows.take(places))

    def __len__(self) -> int:
        return len(self.users)


def first_appearance_codes(values: np.ndarray) -> np.ndarray:
    """(T,) int64: each value's rank by first appearance, from 0. `values` are small non-negative integers."""
    codes, _ = _codes_by_appearance(values, np.arange(len(values)))
    return codes


def _codes_by_appearance(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) int64 rank of each value by its least place, and (distinct values,) int64 those places, ascending."""
    never = int(places.max(initial=0)) + 1
    first = np.full(int(values.max(initial=0)) + 1, never, dtype=np.int64)
    np.minimum.at(first, values, places)
    by_appearance = np.argsort(first)[: np.count_nonzero(first < never)]
    rank = np.empty_like(first)
    rank[by_appearance] = np.arange(len(by_appearance))
    return rank[values], first[by_appearance]


def ordered(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> OrderedInteractions:
    """All interactions by user and time; a stable sort, so ties keep the source's order (METHODS A.4)."""
    users = first_appearance_codes(users)
    same_user = users[1:] == users[:-1]
    is_ordered = (users[1:] >= users[:-1]).all() and (times[1:] >= times[:-1])[same_user].all()
    if is_ordered:
        return OrderedInteractions(users, items.astype(np.int64), np.arange(len(users)))
    by_time = _stable_order(times)
    rows = by_time.take(_stable_order(users.take(by_time)))
    return OrderedInteractions(users.take(rows), items.take(rows).astype(np.int64), rows)


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """(T,) int64 places of the keys in ascending order, equal keys in their own order.

    Polars sorts one key several times faster than numpy's stable sorts do.
    """
    places = pl.DataFrame({"key": keys}).select(pl.arg_sort_by("key", maintain_order=True)).to_series()
    return places.to_numpy().astype(np.int64)


def without_repeats(interactions: OrderedInteractions) -> OrderedInteractions:
    """Each user's earliest interaction with each item (METHODS A.3, step 2)."""
    pairs = interactions.users * (int(interactions.items.max(initial=0)) + 1) + interactions.items
    order = np.argsort(pairs, kind="stable")  # users are in order, so pairs move within a user only, which is fast
    sorted_pairs = pairs[order]
    is_earliest = np.ones(len(pairs), dtype=bool)
    is_earliest[order[1:]] = sorted_pairs[1:] != sorted_pairs[:-1]
    return interactions.where(is_earliest)


def k_core(interactions: OrderedInteractions, core: int) -> OrderedInteractions:
    """The largest subset in which every user and every item has `core` interactions (METHODS A.3, step 3).

    Each round counts users and items on the same current set, then drops the rows that fail either test.
    """
    while core > 1 and len(interactions):
        per_user = np.bincount(interactions.users)[interactions.users]
        per_item = np.bincount(interactions.items)[interactions.items]
        kept = (per_user >= core) & (per_item >= core)
        if kept.all():
            break
        interactions = interactions.where(kept)
    return interactions


@dataclass(frozen=True)
class Prepared:
    """A data set in memory, before it is written: full sequences x1..x_n of item ids 1..N."""

    sequences: Sequences
    times: np.ndarray | None  # (T,) of each interaction in `sequences`; None: the source tells only their order
    user_keys: pl.Series  # (U,) String
    item_keys: pl.Series  # (N,) String
    texts: tuple[str | None, ...] | None
    features: pl.DataFrame | None = None  # N rows, as `feature_columns` makes them; None: no item has any
    parts: np.ndarray | None = None  # (T,) uint8 of `Part`, as the source's files are split; None: they are not

    @property
    def whole(self) -> Whole:
        """What a split gets."""
        return Whole(self.sequences, self.times, self.parts)

    def fingerprint(self, config: PrepareConfig) -> str:
        """16 hex digits of the SHA-256 of sequences, item keys, texts and config; no path and no date enters.

        How short users may be counts only where it let in users that are shorter than the default has them.
        """
        least = PrepareConfig().min_interactions
        if self.sequences.lengths.min() >= least:
            config = config.replace(min_interactions=least)
        state = hashlib.sha256(config.digest().encode())
        state.update(self.sequences.items.astype("<i4").tobytes())
        state.update(self.sequences.offsets.astype("<i8").tobytes())
        state.update(json.dumps([self.item_keys.to_list(), self.texts]).encode())
        return state.hexdigest()[:16]


def prepared(raw: RawInteractions, config: PrepareConfig) -> Prepared:
    """Filtered and ordered sequences; `DataError` if a user is too short or nothing is left."""
    user_codes = raw.frame["user"].to_physical().to_numpy()
    item_codes = raw.frame["item"].to_physical().to_numpy()
    times = raw.frame["time"].to_numpy() if "time" in raw.frame.columns else None
    interactions = ordered(user_codes, item_codes, np.arange(len(user_codes)) if times is None else times)
    if config.repeats == "drop":
        interactions = without_repeats(interactions)
    total = len(interactions)
    interactions = k_core(interactions, config.core)
    if not len(interactions):
        raise DataError(
            f"no interaction is left of {total:,} after the {config.core}-core filter; lower --core, or give more data"
        )
    interactions = _long_enough(interactions, raw, config)

    starts = np.flatnonzero(np.diff(interactions.users, prepend=-1))
    offsets = np.append(starts, len(interactions)).astype(np.int64)
    user_keys = raw.frame["user"].gather(interactions.rows[starts]).cast(pl.String)
    ids, item_keys = _item_ids(interactions, raw)
    texts = None
    if raw.texts is not None:
        texts = tuple(raw.texts.get(key) or None for key in item_keys.to_list())
        texts = texts if any(texts) else None
    parts = raw.frame["part"].to_numpy() if "part" in raw.frame.columns else None
    own_times, parts = (None if values is None else values[interactions.rows] for values in (times, parts))
    whole_times = None if own_times is None else np.floor(own_times).astype(np.int64)
    features = feature_columns(raw.features, item_keys)
    return Prepared(Sequences(ids, offsets, whole_times), own_times, user_keys, item_keys, texts, features, parts)


def _long_enough(interactions: OrderedInteractions, raw: RawInteractions, config: PrepareConfig) -> OrderedInteractions:
    per_user = np.bincount(interactions.users)[interactions.users]
    short = per_user < config.min_interactions
    if not short.any():
        return interactions
    if config.short_users == "drop":
        if short.all():
            raise DataError(f"no user has {config.min_interactions} interactions; give more data")
        return interactions.where(~short)
    at = int(short.argmax())
    user = raw.frame["user"].gather([int(interactions.rows[at])]).cast(pl.String).item()
    affected = len(np.unique(interactions.users[short]))
    raise DataError(
        f"every user needs {config.min_interactions} interactions (to learn, to select, to test), but "
        f"user '{user}' has {per_user[at]}, as one of {affected:,} such users; "
        f"leave them out with --short-users drop, or filter with --core 5"
    )


def _item_ids(interactions: OrderedInteractions, raw: RawInteractions) -> tuple[np.ndarray, pl.Series]:
    """(T,) int32 ids 1..N, and the keys (N,): of the items that are left by first appearance in the source.

    Of a source that lists its items, all of them in that order: an item that nobody has, or that a filter took away,
    keeps its number, so that row i of vectors that were made for the list is item i (METHODS A.5).
    """
    codes, first_rows = _codes_by_appearance(interactions.items, interactions.rows)
    keys = raw.frame["item"].gather(first_rows).cast(pl.String)
    if raw.item_order is not None:
        place = {key: place for place, key in enumerate(raw.item_order)}
        unknown = [key for key in keys.to_list() if key not in place]
        if unknown:
            raise DataError(f"item '{unknown[0]}' has interactions, but the item map does not name it; mend the map")
        codes = np.array([place[key] for key in keys.to_list()], dtype=np.int64)[codes]
        keys = pl.Series(raw.item_order, dtype=pl.String)
    return (codes + 1).astype(np.int32), keys
