"""Raw interactions → a prepared data set on disk: filters, order, split (METHODS A.3 to A.5).

A prepared folder holds

    train.parquet        user, items, times: one row per training sequence
    validation.parquet   user, history, times, target: one row per case
    items.parquet        key, text, and a column for each field of features: row i is item i + 1
    test.parquet         user, history, times, target, new_user: one row per case, in a file of its own
    meta.json            name, fingerprint, source, split, config, counts, statistics, traps, notes of the reading (what
                         could not be read as it was meant), SHA-256 of each file

Histories hold their last `max_history` items. `times` are those of the items, null where the source tells only their
order.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences, offsets_of
from harness.data.filters import PrepareConfig, Prepared, prepared
from harness.data.formats.format import RawInteractions
from harness.data.item_features import COLUMN, features_of
from harness.data.splits import leave_one_out
from harness.data.splits.split import LEAVE_ONE_OUT, Cases, Parts, Split, arrays_of
from harness.data.statistics import Counts, statistics
from harness.data.text.metadata import text_facts
from harness.data.times import times_facts
from harness.data.traps import traps
from harness.errors import DataError

LAYOUT = 7  # raised when the files of a prepared folder change their form, or what is read into them
TRAIN, VALIDATION, ITEMS, TEST = "train.parquet", "validation.parquet", "items.parquet", "test.parquet"
META = "meta.json"


def prepare(
    raw: RawInteractions,
    config: PrepareConfig,
    folder: Path | str,
    name: str,
    *,
    split: Split = leave_one_out.SPLIT,
    expected: Counts | None = None,
) -> Dataset:
    """The data set that was prepared from `raw` and written to `folder`, which it replaces as a whole.

    `expected` counts that differ are a `DataError` that prints both, and nothing is written.
    """
    content = prepared(raw, config)
    counts = Counts(len(content.sequences), len(content.item_keys), len(content.sequences.items))
    if expected is not None and counts != expected:
        raise DataError(
            f"data set '{name}' must have {expected}, but after preparation it has {counts}; "
            f"the raw files are not the published ones"
        )
    meta = {"name": name, "fingerprint": content.fingerprint(config), "synthetic": raw.synthetic}
    meta |= {"config": config.model_dump(mode="json"), "counts": asdict(counts), "source": _source(raw, content)}
    meta |= {"notes": list(raw.notes)}
    return _write(content, split, Path(folder), meta)


def _source(raw: RawInteractions, content: Prepared) -> dict[str, Any]:
    """Where the data come from and what they are: format, columns, kinds of times and texts."""
    columns = raw.columns
    return {
        "format": raw.format or "generated",
        "columns": asdict(columns) if columns else None,
        "told": str(columns) if columns else None,
        "times": times_facts(content.sequences, content.times),
        "texts": text_facts(content.texts),
    }


def split_again(original: Path, split: Split, folder: Path) -> Dataset:
    """The data set of a folder that is prepared under leave-one-out, under another split, written to `folder`."""
    content, meta = read_whole(original)
    return _write(content, split, folder, meta)


def read_whole(original: Path) -> tuple[Prepared, dict[str, Any]]:
    """The whole sequences of a folder that is prepared under leave-one-out, without times, and its meta.json."""
    meta = read_meta(original)
    if meta["split"]["name"] != LEAVE_ONE_OUT:
        raise DataError(f"{original}: split by {meta['split']['name']} already; name the original data set")
    train, test, items = (read_table(original, file, meta) for file in (TRAIN, TEST, ITEMS))
    validation = read_table(original, VALIDATION, meta)
    sequences = _sequences(train, "items")
    for cases in (validation, test):
        sequences = sequences.appended(cases["target"].to_numpy())
    texts = tuple(items["text"].to_list())
    features = items.select(name for name in items.columns if name.startswith(COLUMN))
    return Prepared(sequences, None, train["user"], items["key"], texts if any(texts) else None, features), meta


def _write(content: Prepared, split: Split, folder: Path, meta: Mapping[str, Any]) -> Dataset:
    """The whole data set, taken apart and written; `meta` is what meta.json says of the whole."""
    parts = split.cut(content.whole, split.config)
    for what, cases in (("validation", parts.validation), ("test", parts.test)):
        if not len(cases.targets):
            raise DataError(f"split '{split.name}' leaves '{meta['name']}' no {what} case; take another split")
    if not len(parts.train.items):
        raise DataError(f"split '{split.name}' leaves '{meta['name']}' nothing to learn from; take another split")
    is_new_C = ~np.isin(parts.test.users, parts.users)
    with replaced(folder) as unfinished:
        _write_tables(content, parts, meta["config"]["max_history"], is_new_C, unfinished)
        split_meta = {
            "layout": LAYOUT,
            "name": split.dataset_name(meta["name"]),
            "fingerprint": meta["fingerprint"]
            if split.name == LEAVE_ONE_OUT
            else _fingerprint(content, parts, is_new_C, meta),
            "original": None if split.name == LEAVE_ONE_OUT else meta["name"],
            "whole": meta["fingerprint"],
            "split": split.record(),
            "statistics": statistics(content, parts),
            # What a split of a prepared folder cannot count, having no times, it takes from the original.
            "traps": {**meta.get("traps", {}), **traps(content, parts.train, parts.test)},
            "sha256": {path.name: sha256(path) for path in sorted(unfinished.glob("*.parquet"))},
        }
        (unfinished / META).write_text(json.dumps({**meta, **split_meta}, indent=1) + "\n", encoding="utf-8")
    return load_dataset(folder)


def _fingerprint(content: Prepared, parts: Parts, is_new_C: np.ndarray, meta: Mapping[str, Any]) -> str:
    """16 hex digits that name the data set as it is split: equal content has equal ones, whoever split it.

    Of parts that are leave-one-out's it is the whole's, which was so before there were other splits.
    """
    max_history = meta["config"]["max_history"]
    if content.sequences.lengths.min() >= leave_one_out.SPLIT.min_interactions:
        usual = leave_one_out.cut(content.whole, leave_one_out.SPLIT.config)
        if all(map(np.array_equal, arrays_of(usual), arrays_of(parts))):
            return meta["fingerprint"]
    state = hashlib.sha256(json.dumps([max_history, content.item_keys.to_list(), content.texts]).encode())
    seen = Parts(
        parts.users,
        parts.train,
        *(cases._replace(histories=cases.histories.last(max_history)) for cases in (parts.validation, parts.test)),
    )
    for array in (*arrays_of(seen), is_new_C):
        state.update(array.astype("<i8").tobytes())
    return state.hexdigest()[:16]


def _write_tables(content: Prepared, parts: Parts, max_history: int, is_new_C: np.ndarray, folder: Path) -> None:
    keys = content.user_keys

    def table(cases: Cases) -> pl.DataFrame:
        lists = _lists(cases.histories.last(max_history), "history")
        return pl.DataFrame({"user": keys.gather(cases.users), **lists, "target": cases.targets})

    train = pl.DataFrame({"user": keys.gather(parts.users), **_lists(parts.train, "items")})
    train.write_parquet(folder / TRAIN)
    table(parts.validation).write_parquet(folder / VALIDATION)
    table(parts.test).with_columns(pl.Series("new_user", is_new_C)).write_parquet(folder / TEST)
    texts = pl.Series("text", content.texts or [None] * len(content.item_keys), dtype=pl.String)
    items = pl.DataFrame({"key": content.item_keys, "text": texts})
    features = [] if content.features is None else content.features.get_columns()
    items.with_columns(features).write_parquet(folder / ITEMS)


def _lists(sequences: Sequences, name: str) -> dict[str, pl.Series]:
    """A list of items per row under the name, and one of their times."""
    rows = pl.DataFrame({"row": np.arange(len(sequences))})
    times = pl.Series([None] * len(sequences.items), dtype=pl.Int64) if sequences.times is None else sequences.times
    row = np.repeat(rows["row"].to_numpy(), sequences.lengths)
    flat = pl.DataFrame({"row": row, name: sequences.items, "times": times})
    lists = flat.group_by("row", maintain_order=True).agg(name, "times")
    joined = rows.join(lists, on="row", how="left", maintain_order="left")
    return {column: joined[column].fill_null([]) for column in (name, "times")}


def _sequences(table: pl.DataFrame, name: str) -> Sequences:
    """What `_lists` was made from."""
    lists = table[name]
    has_item = lists.list.len() > 0
    times = table["times"].filter(has_item).explode()
    return Sequences(
        lists.explode().drop_nulls().to_numpy().astype(np.int32),
        offsets_of(lists.list.len().to_numpy()),
        None if times.null_count() else times.to_numpy().astype(np.int64),
    )


def _cases(table: pl.DataFrame, users: pl.Series) -> EvalCases:
    """The cases; `users` are those of the training sequences, in their order."""
    known = pl.DataFrame({"user": users, "row": np.arange(len(users))})
    rows_C = table.select("user").join(known, on="user", how="left", maintain_order="left")["row"].fill_null(-1)
    is_new_C = table["new_user"].to_numpy() if "new_user" in table.columns and table["new_user"].any() else None
    histories = replace(_sequences(table, "history"), users=rows_C.to_numpy())
    targets = table["target"].to_numpy().astype(np.int32)
    first_C = table.with_row_index("case").select(pl.col("case").first().over("user").cast(pl.Int64))
    owners_C = first_C.to_series().to_numpy()
    several = (owners_C != np.arange(len(table))).any()
    return EvalCases(histories, targets, is_new_C, owners_C if several else None)


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
    items = read_table(folder, ITEMS, meta)
    texts = items["text"].to_list()
    train = read_table(folder, TRAIN, meta)
    return Dataset(
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        catalog=Catalog(tuple(items["key"].to_list()), tuple(texts) if any(texts) else None, features_of(items)),
        train=replace(_sequences(train, "items"), users=np.arange(len(train))),
        validation=_cases(read_table(folder, VALIDATION, meta), train["user"]),
        max_history=meta["config"]["max_history"],
        synthetic=meta["synthetic"],
        original=meta["original"],
        split=meta["split"]["name"],
        whole=meta["fingerprint"] if meta["original"] is None else meta.get("whole", ""),
    )


def load_test(folder: Path | str, dataset: Dataset) -> EvalCases:
    """The test cases, those of unseen users too. For the last step only."""
    folder = Path(folder)
    meta = read_meta(folder)
    if meta["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{folder}: holds the data set {meta['fingerprint']}, but the test of {dataset.fingerprint} "
            f"('{dataset.name}') is asked for; name its own folder"
        )
    return _cases(read_table(folder, TEST, meta), read_table(folder, TRAIN, meta)["user"])


def test_users(folder: Path | str) -> list[str]:
    """The raw keys of the test cases' users, in the order of `load_test`."""
    folder = Path(folder)
    return read_table(folder, TEST, read_meta(folder))["user"].to_list()


def describe(folder: Path | str) -> dict[str, Any]:
    """Name, fingerprint, synthetic flag, notes, statistics, traps and source of a prepared folder, from meta.json."""
    meta = read_meta(Path(folder))
    told = {key: meta[key] for key in ("name", "fingerprint", "synthetic", "notes")}
    return told | meta["statistics"] | {"traps": meta["traps"], "source": meta["source"]}


class LayoutError(DataError):
    """A prepared data set of another version's layout."""


def read_meta(folder: Path) -> dict[str, Any]:
    """What meta.json says; `DataError` when the folder holds none, or one that is damaged or of another layout."""
    path = folder / META
    if not path.exists():
        raise DataError(f"{folder}: not a prepared data set (no meta.json); run `harness data prepare` first")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        layout = meta["layout"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: damaged; prepare the data set again") from None
    if layout != LAYOUT:
        raise LayoutError(f"{path}: of layout {layout}, but this version reads {LAYOUT}; prepare the data set again")
    return meta


def read_table(folder: Path, file: str, meta: Mapping[str, Any]) -> pl.DataFrame:
    """A table of the folder; `DataError` if it is missing, or not what was written."""
    path = folder / file
    if not path.exists():
        raise DataError(f"{path}: missing; prepare the data set again")
    if sha256(path) != meta["sha256"][file]:
        raise DataError(f"{path}: damaged, its content is not what was written; prepare the data set again")
    return pl.read_parquet(path)


def sha256(path: Path) -> str:
    """Hexadecimal digits of the file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
