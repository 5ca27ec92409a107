"""Files of train, valid and test rows → sequences whose interactions say which file they are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from harness.data.formats.format import Exported, RawInteractions
from harness.data.splits.split import Part


def in_parts(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of train, valid and test, in this order, with a column `part`."""
    return pl.concat(
        frame.with_columns(pl.lit(part, pl.UInt8).alias("part")) for part, frame in zip(Part, frames, strict=False)
    )


def joined(rows: pl.DataFrame, path: Path, *, is_first_learnt: bool) -> RawInteractions:
    """Sequences from rows that have a `history` (lists of items, oldest first) beside user, item, part and maybe time.

    Rows are a user's by time, else by place. An item that stands in a history alone is context; `is_first_learnt`:
    those before a user's first row of training are learnt, as that row learns from them. Histories may be cut at the
    length of the longest. One line of `path` says how many do not continue what is known of their user.
    """
    order = ["first", *(["time"] if "time" in rows.columns else [])]
    rows = rows.with_row_index("first").with_columns(pl.col("first").min().over("user"))
    rows = rows.sort(order, maintain_order=True).drop("first")
    users, items = rows["user"].to_physical().to_list(), rows["item"].cast(pl.String).to_list()
    parts, histories = rows["part"].to_list(), rows["history"].to_list()
    cut = max(map(len, histories), default=0)
    known: list[str] = []
    odd, told_in, told, told_for = [], [], [], []  # rows that do not fit; of each interaction its row, item and part
    for row, (item, part, history) in enumerate(zip(items, parts, histories, strict=True)):
        if row == 0 or users[row] != users[row - 1]:
            known = []
        before = _added(known, history, cut)
        if before is None:
            odd.append(row)
            before = []
        is_learnt = is_first_learnt and part == Part.TRAIN and not known
        told_for += [Part.TRAIN if is_learnt else Part.CONTEXT] * len(before) + [part]
        told_in += [row] * (len(before) + 1)
        told += [*before, item]
        known += [*before, item]
    frame = rows.drop("history", "item", "part")[told_in].with_columns(
        pl.Series("item", told, dtype=pl.Categorical), pl.Series("part", told_for, dtype=pl.UInt8)
    )
    if not odd:
        return RawInteractions(frame)
    user = rows["user"].gather(odd[:1]).cast(pl.String).item()
    return RawInteractions(
        frame,
        notes=(
            f"{path}: {len(odd):,} of {len(rows):,} histories are not what precedes their row (user '{user}', target "
            f"'{items[odd[0]]}'); there the order of the rows alone decides",
        ),
    )


def _added(known: list[str], history: list[str], cut: int) -> list[str] | None:
    """The items that a history has after those that are known of its user; None: it does not continue them."""
    size = len(history)
    if size <= len(known) and known[len(known) - size :] == history:
        return [] if size in (cut, len(known)) else None  # a history is short only where little precedes it
    if history[: len(known)] == known:
        return history[len(known) :]
    if size < cut:
        return None
    overlaps = (overlap for overlap in range(min(size, len(known)), 0, -1) if known[-overlap:] == history[:overlap])
    overlap = next(overlaps, None)
    return None if overlap is None else history[overlap:]


def earlier(exported: Exported, names: Sequence[str], separator: str) -> list[str]:
    """(T,) what precedes each interaction, whole, as one text of the items' names."""
    texts = []
    for row in range(len(exported.sequences)):
        known = ""
        for item in exported.sequences.row(row).tolist():
            texts.append(known)
            known += (separator if known else "") + names[item - 1]
    return texts


def write_parts(rows: pl.DataFrame, name: str, folder: Path) -> None:
    """`<name>.train.csv`, `<name>.valid.csv` and `<name>.test.csv`, by the column `part`, which is left out."""
    for part, ending in ((Part.TRAIN, "train"), (Part.VALIDATION, "valid"), (Part.TEST, "test")):
        rows.filter(pl.col("part") == part).drop("part").write_csv(folder / f"{name}.{ending}.csv")
