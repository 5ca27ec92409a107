"""What an evaluation keeps of each user beyond a rank, so that it can be read by other rules without a new run.

Shape legend: U users, P places of a ranked list.
"""

from typing import Any

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.store.schema import conform

LIST_PLACES = 50  # of a stored list, where the method has as many

OUTCOMES_SCHEMA = pl.Schema(
    {
        "user": pl.Int32(),
        "target": pl.Int32(),
        # Best first; 0: a generated sequence that is no item's. A list ends where the search found no more.
        "items": pl.List(pl.Int32()),
        "scores": pl.List(pl.Float32()),  # the method's own
        "seen": pl.List(pl.Boolean()),  # the item stands in the history that the method was given
        "sharers": pl.List(pl.UInt32()),  # items, itself included, with the item's codes as generated; 1: no codes
        "target_sharers": pl.UInt32(),
        "target_seen": pl.Boolean(),
        "rank": pl.UInt32(),  # of the target among all items, 1-based; 0: not found
        "unseen_rank": pl.UInt32(),  # among the items outside the history, and the target; 0: not found
        "candidates": pl.UInt32(),  # items that are neither in the history nor the target
        # Of the candidates' training interactions, the share of those that rank before the target. Null where only a
        # list is known: the ranks are then those of the list, else those of all items.
        "popular_ahead": pl.Float32(),
        "code_rank": pl.UInt32(),  # of the target's codes among the sequences of the list; 0: not found
        "code_ahead": pl.UInt32(),  # items of the better sequences; a sequence that is no item's counts as one
    }
)
_LISTS = ("items", "scores", "seen", "sharers")


def outcomes_frame(lengths_U: np.ndarray, **columns: Any) -> pl.DataFrame:
    """The outcomes of users 0..U-1: lists as (U, P) arrays of which the first `lengths_U` places count, others (U,).

    A `popular_ahead` that is not a number is stored as null.
    """
    series = {name: pl.Series(values) for name, values in columns.items()}
    lists = {name: series[name].arr.to_list() for name in _LISTS}
    length = pl.Series("length", lengths_U)
    frame = pl.DataFrame({"user": pl.Series(range(len(lengths_U)), dtype=pl.Int32), **(series | lists)})
    cut = frame.with_columns(length).with_columns(pl.col(_LISTS).list.head(pl.col("length")))
    return cut.with_columns(pl.col("popular_ahead").fill_nan(None)).select(list(OUTCOMES_SCHEMA)).cast(OUTCOMES_SCHEMA)


def checked_outcomes(outcomes: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """The outcomes in their schema; `ResultsError` unless they hold all users and targets of the ranks."""
    outcomes = conform(outcomes, OUTCOMES_SCHEMA, "outcomes")
    missing = ranks.join(outcomes, on=["user", "target"], how="anti")
    if len(missing):
        raise ResultsError(
            f"outcomes must hold the users and targets of the ranks, but lack {len(missing)}; evaluate again"
        )
    return outcomes
