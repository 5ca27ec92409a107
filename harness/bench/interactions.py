"""Made-up rating files of any length, to measure how preparation scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

CHUNK = 3_000_000
SEED = 7
USERS, ITEMS = 10, 60  # interactions to a user, to an item


def write_interactions(path: Path, rows: int) -> None:
    """A csv file in the form of an Amazon 2023 rating file, whose users are interleaved and whose times have no order.

    There are a tenth as many users and a sixtieth as many items as rows, both long-tailed, so that every step of the
    preparation has its full work.
    """
    stream = np.random.default_rng(SEED)
    num_users, num_items = max(rows // USERS, 10), max(rows // ITEMS, 10)
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            users = (num_users * stream.random(count) ** 1.3).astype(np.int64)
            items = (num_items * stream.random(count) ** 2.0).astype(np.int64)
            chunk = pl.DataFrame({"user": users, "item": items}).select(
                pl.format("A{}", pl.col("user").cast(pl.String).str.zfill(27)).alias("user_id"),
                pl.format("B{}", pl.col("item").cast(pl.String).str.zfill(9)).alias("parent_asin"),
                pl.Series("rating", stream.integers(1, 6, count).astype(np.float64)),
                pl.Series("timestamp", stream.integers(1_262_304_000_000, 1_693_526_400_000, count)),
            )
            chunk.write_csv(file, include_header=start == 0)
