"""Raw interactions → a prepared data set on disk: filters, order, leave-one-out split (METHODS A.3 to A.5).

A prepared folder holds

    sequences.parquet   user, items (x1..x(n-2)), valid (x(n-1)): one row per user
    items.parquet       key, text: row i is item i + 1
    test.parquet        target (x_n), in a file of its own, which only `load_test` opens
    meta.json           name, fingerprint, config, counts, statistics, and the SHA-256 of each file

Where the protocol keeps some users unseen (`harness.data.unseen_users`), `sequences.parquet` lacks them and two more
files stand beside it, which only `load_test` opens too.

Shape legend: T interactions, U users, N items. Everything is flat arrays: no Python per user or item.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import polars as pl
from pydantic import Field

from harness.config import Config
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.formats import RawInteractions
from harness.errors import DataError

LAYOUT = 1  # raised when the files of a prepared folder change their form
SEQUENCES, ITEMS, TEST, META = "sequences.parquet", "items.parquet", "test.parquet", "meta.json"
DATA_FILES = (SEQUENCES, ITEMS, TEST)
ALL_SEQUENCES = "all_sequences.parquet"  # where some users are unseen: the sequences of all
NEW_USERS = "new_users.parquet"  # the unseen ones: row (among all), user, interactions


class PrepareConfig(Config):
    """Which interactions stay, and how sequences are cut."""

    core: int = Field(0, ge=0)  # users and items keep at least this many interactions; 0 and 1: no filter
    repeats: Literal["keep", "drop"] = "keep"  # drop: only a user's earliest interaction with an item stays
    max_history: int = Field(50, ge=1)  # items of a history that a method sees
    min_interactions: int = Field(3, ge=3)  # per user: one to learn from, one to select by, one to test on
    short_users: Literal["error", "drop"] = "error"  # what becomes of users with fewer


@dataclass(frozen=True)
class Counts:
    """The size of a data set, as in the paper's Table 2."""

    users: int
    items: int
    interactions: int


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
    """(T,) int64 places of the keys in ascending order, equal keys in their own order; NaN comes last.

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
    user_keys: pl.Series  # (U,) String
    item_keys: pl.Series  # (N,) String
    texts: tuple[str | None, ...] | None


def prepared(raw: RawInteractions, config: PrepareConfig) -> Prepared:
    """Filtered and ordered sequences; `DataError` if a user is too short or nothing is left."""
    user_codes = raw.frame["user"].to_physical().to_numpy()
    item_codes = raw.frame["item"].to_physical().to_numpy()
    interactions = ordered(user_codes, item_codes, raw.frame["time"].to_numpy())
    if config.repeats == "drop":
        interactions = without_repeats(interactions)
    total = len(interactions)
    interactions = k_core(interactions, config.core)
    if not len(interactions):
        raise DataError(
            f"no interaction is left of {total:,} after the {config.core}-core filter; lower core, or give more data"
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
    return Prepared(Sequences(ids, offsets), user_keys, item_keys, texts)


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
        f"drop them with short_users=drop, or filter with core=5"
    )


def _item_ids(interactions: OrderedInteractions, raw: RawInteractions) -> tuple[np.ndarray, pl.Series]:
    """(T,) int32 ids 1..N by first appearance in the source (or in the source's given order), and the keys (N,)."""
    codes, first_rows = _codes_by_appearance(interactions.items, interactions.rows)
    keys = raw.frame["item"].gather(first_rows).cast(pl.String)
    if raw.item_order is not None:
        place = {key: place for place, key in enumerate(raw.item_order)}
        unknown = [key for key in keys.to_list() if key not in place]
        if unknown:
            raise DataError(f"item '{unknown[0]}' has interactions, but the item map does not name it; mend the map")
        order = np.argsort([place[key] for key in keys.to_list()])
        codes, keys = np.argsort(order)[codes], keys.gather(order)
    return (codes + 1).astype(np.int32), keys


def statistics(sequences: Sequences, num_items: int, texts: tuple[str | None, ...] | None) -> dict[str, float]:
    """Size, length and item statistics of full sequences x1..x_n; shares lie in [0, 1].

    `sparsity_percent` is Table 2's; `repeat_share` is the share of interactions with an item that the same
    user had before; `cold_items` never occur in a training sequence x1..x(n-2).
    """
    lengths, total = sequences.lengths, len(sequences.items)
    rows = np.repeat(np.arange(len(sequences)), lengths)
    pairs = rows * (num_items + 1) + sequences.items
    in_training = np.arange(total) < np.repeat(sequences.offsets[1:] - 2, lengths)
    warm = np.zeros(num_items + 1, bool)
    warm[sequences.items[in_training]] = True
    quantiles = np.quantile(lengths, [0.0, 0.25, 0.5, 0.75, 0.95, 1.0]).tolist()
    without_text = num_items if texts is None else sum(text is None for text in texts)
    return {
        "users": len(sequences),
        "items": num_items,
        "interactions": total,
        "sparsity_percent": 100 * (1 - total / (len(sequences) * num_items)),
        "mean_length": float(lengths.mean()),
        **dict(
            zip(
                ["min_length", "q25_length", "median_length", "q75_length", "q95_length", "max_length"],
                quantiles,
                strict=True,
            )
        ),
        "repeat_share": float(1 - pl.Series(pairs).n_unique() / total),
        "items_without_text_share": without_text / num_items,
        "cold_items": int(num_items - warm.sum()),
        "train_samples": int(total - 3 * len(sequences)),
    }


def fingerprint(content: Prepared, config: PrepareConfig) -> str:
    """16 hex digits of the SHA-256 of sequences, item keys, texts and config; no path and no date enters."""
    state = hashlib.sha256(config.digest().encode())
    state.update(content.sequences.items.astype("<i4").tobytes())
    state.update(content.sequences.offsets.astype("<i8").tobytes())
    state.update(json.dumps([content.item_keys.to_list(), content.texts]).encode())
    return state.hexdigest()[:16]


def prepare(
    raw: RawInteractions, config: PrepareConfig, folder: Path | str, name: str, *, expected: Counts | None = None
) -> Dataset:
    """The data set that was prepared from `raw` and written to `folder`, which it replaces as a whole.

    `expected` counts that differ are a `DataError` that prints both, and nothing is written.
    """
    content = prepared(raw, config)
    numbers = statistics(content.sequences, len(content.item_keys), content.texts)
    counts = Counts(int(numbers["users"]), int(numbers["items"]), int(numbers["interactions"]))
    if expected is not None and counts != expected:
        raise DataError(
            f"data set '{name}' must have {_told(expected)}, but after preparation it has {_told(counts)}; "
            f"the raw files are not the published ones"
        )
    folder = Path(folder)
    with replaced(folder) as unfinished:
        _write_tables(content, unfinished)
        meta = {
            "layout": LAYOUT,
            "name": name,
            "fingerprint": fingerprint(content, config),
            "synthetic": raw.synthetic,
            "config": config.model_dump(mode="json"),
            "counts": asdict(counts),
            "statistics": numbers,
        }
        write_meta(unfinished, meta)
    return load_dataset(folder)


def _told(counts: Counts) -> str:
    return f"{counts.users:,} users, {counts.items:,} items, {counts.interactions:,} interactions"


def _write_tables(content: Prepared, folder: Path) -> None:
    sequences = content.sequences
    last = sequences.offsets[1:] - 1
    flat = pl.DataFrame({"item": sequences.items, "row": np.repeat(np.arange(len(sequences)), sequences.lengths)})
    in_training = np.arange(len(flat)) < np.repeat(last - 1, sequences.lengths)
    training = flat.filter(pl.Series(in_training)).group_by("row", maintain_order=True).agg("item")["item"]
    pl.DataFrame({"user": content.user_keys, "items": training, "valid": sequences.items[last - 1]}).write_parquet(
        folder / SEQUENCES
    )
    pl.DataFrame({"target": sequences.items[last]}).write_parquet(folder / TEST)
    texts = pl.Series("text", content.texts or [None] * len(content.item_keys), dtype=pl.String)
    pl.DataFrame({"key": content.item_keys, "text": texts}).write_parquet(folder / ITEMS)


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Writes meta.json for the tables that the folder holds, with their checksums."""
    checksums = {path.name: sha256(path) for path in sorted(folder.glob("*.parquet"))}
    content = json.dumps({**meta, "sha256": checksums}, indent=1)
    (folder / META).write_text(content + "\n", encoding="utf-8")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and goes when it does not."""
    if folder.is_file() or (folder.is_dir() and not (folder / META).exists() and any(folder.iterdir())):
        raise DataError(f"{folder}: what is no prepared data set is not overwritten; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
    unfinished.mkdir()
    try:
        yield unfinished
        if folder.exists():
            old = unfinished.with_suffix(".old")
            os.rename(folder, old)
            os.rename(unfinished, folder)
            shutil.rmtree(old)
        else:
            os.rename(unfinished, folder)
    except OSError as error:
        raise DataError(f"{folder}: the prepared data could not be written ({error.strerror})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load_dataset(folder: Path | str) -> Dataset:
    """The prepared data set of a folder. The test file is never opened.

    `DataError` in one line when the folder is missing, incomplete, damaged, or of another layout.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    train, valid_targets = split_columns(read_table(folder, SEQUENCES, meta))
    items = read_table(folder, ITEMS, meta)
    texts = items["text"].to_list()
    return Dataset(
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        catalog=Catalog(tuple(items["key"].to_list()), tuple(texts) if any(texts) else None),
        train=train,
        valid_targets=valid_targets,
        max_history=meta["config"]["max_history"],
        synthetic=meta["synthetic"],
        original=meta.get("original"),
    )


def split_columns(table: pl.DataFrame) -> tuple[Sequences, np.ndarray]:
    """Training sequences x1..x(n-2) and (U,) int32 validation targets x(n-1) of a table of sequences."""
    lengths = table["items"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    items = table["items"].explode().to_numpy().astype(np.int32)
    return Sequences(items, offsets), table["valid"].to_numpy().astype(np.int32)


def load_test(folder: Path | str, dataset: Dataset) -> EvalCases:
    """The test cases: histories x1..x(n-1), their last `max_history` items, and targets x_n. For the last step only.

    They are those of all users, the unseen ones too.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    if meta["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{folder}: holds the data set {meta['fingerprint']}, but the test of {dataset.fingerprint} "
            f"('{dataset.name}') is asked for; name its own folder"
        )
    targets = read_table(folder, TEST, meta)["target"].to_numpy().astype(np.int32)
    known, valid_targets, new_users = dataset.train, dataset.valid_targets, None
    if NEW_USERS in meta["sha256"]:
        known, valid_targets = split_columns(read_table(folder, ALL_SEQUENCES, meta))
        new_users = np.zeros(len(known), dtype=bool)
        new_users[read_table(folder, NEW_USERS, meta)["row"].to_numpy()] = True
    histories = known.appended(valid_targets).last(dataset.max_history)
    assert len(histories) == len(targets)
    return EvalCases(histories, targets, new_users)


def describe(folder: Path | str) -> dict[str, Any]:
    """Name, fingerprint, synthetic flag and `statistics` of a prepared folder, read from meta.json alone."""
    meta = read_meta(Path(folder))
    return {key: meta[key] for key in ("name", "fingerprint", "synthetic")} | meta["statistics"]


def read_meta(folder: Path) -> dict[str, Any]:
    """What meta.json says; `DataError` when the folder holds none, or one that is damaged or of another layout."""
    path = folder / META
    if not path.exists():
        raise DataError(f"{folder}: not a prepared data set (no meta.json); run `harness prepare` first")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        layout = meta["layout"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: damaged; prepare the data set again") from None
    if layout != LAYOUT:
        raise DataError(f"{path}: of layout {layout}, but this version reads {LAYOUT}; prepare the data set again")
    return meta


def whole_file(folder: Path, file: str, meta: Mapping[str, Any]) -> Path:
    """The path of a file of the folder, whose content is what was written; else `DataError`."""
    path = folder / file
    if not path.exists():
        raise DataError(f"{path}: missing; prepare the data set again")
    if sha256(path) != meta["sha256"][file]:
        raise DataError(f"{path}: damaged, its content is not what was written; prepare the data set again")
    return path


def read_table(folder: Path, file: str, meta: Mapping[str, Any]) -> pl.DataFrame:
    """A table of the folder; `DataError` if it is missing or damaged."""
    return pl.read_parquet(whole_file(folder, file, meta))


def sha256(path: Path) -> str:
    """Hexadecimal digits of the file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
