"""Ranked lists that another program made: checked against the test users and the catalog, then put into arrays.

Shape legend: U test users, P places of a ranked list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from harness.data.dataset import PADDING, Sequences
from harness.interfaces import Recommendations

MISSING_USERS, UNKNOWN_USERS, UNKNOWN_ITEMS, SHORT_LISTS = ALLOWED = (
    "missing-users",
    "unknown-users",
    "unknown-items",
    "short-lists",
)
MEANING = {  # of a fault that is allowed, as an assumption of the row
    MISSING_USERS: "users without a list count as misses",
    UNKNOWN_USERS: "lists of users outside the test are left out",
    UNKNOWN_ITEMS: "items outside the catalog keep their places, as misses",
    SHORT_LISTS: "short lists end early",
}


class Fault(NamedTuple):
    """What is wrong with lists, by count and example; one of `ALLOWED` may be let pass."""

    kind: str
    text: str


class GivenLists(NamedTuple):
    """Lists of the test users, served as a recommender's; of other histories they know nothing."""

    items: np.ndarray  # (U, P) int64, best first; 0: no item of the catalog
    scores: np.ndarray  # (U, P) float32; -inf where a list has ended

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The first k of each list; the histories are the test's."""
        assert len(histories) == len(self.items), "lists are known for the test users alone"
        return Recommendations(self.items[:, :k], self.scores[:, :k])

    def save(self, folder: Any) -> None:
        """Nothing: the run's own tables hold the lists."""

    def health(self) -> dict[str, Any]:
        """Nothing is known of the model."""
        return {}


def faults_of(lists: pl.DataFrame, users: Sequence[str], keys: Sequence[str], k: int) -> list[Fault]:
    """Everything that is wrong with lists (`read_lists`) of test users and item keys from which k places are read."""
    known = lists.filter(pl.col("user").is_in(pl.Series(users).implode()))
    lengths = known.group_by("user", maintain_order=True).len()
    short = lengths.filter(pl.col("len") < k)
    of_items = lists.group_by("user", "item", maintain_order=True).len().filter(pl.col("len") > 1)
    empty = lists.filter(pl.any_horizontal(pl.col("user", "item").is_null() | (pl.col("user", "item") == "")))
    unknown_users = lists.filter(~pl.col("user").is_in(pl.Series(users).implode()))["user"].unique(maintain_order=True)
    unknown_items = lists.filter(~pl.col("item").is_in(pl.Series(keys).implode()))["item"].unique(maintain_order=True)
    missing = pl.Series("user", users).filter(~pl.Series(users).is_in(lists["user"].implode()))
    candidates = [
        ("empty", empty["item"], "rows have no user or no item", "item"),
        (UNKNOWN_USERS, unknown_users, "users are not in the test", "user"),
        (MISSING_USERS, missing, "test users have no list", "user"),
        (UNKNOWN_ITEMS, unknown_items, "items are not in the catalog", "item"),
        ("repeats", of_items["user"], "items stand twice in a list", "one in the list of user"),
        (SHORT_LISTS, short["user"], f"lists have fewer than {k} items", "that of user"),
        *_order_faults(lists),
    ]
    return [
        Fault(kind, f"{len(found):,} {text}, such as {example} '{found[0]}'")
        for kind, found, text, example in candidates
        if len(found)
    ]


def _order_faults(lists: pl.DataFrame) -> list[tuple[str, pl.Series, str, str]]:
    """What is wrong with ranks and scores."""
    found = []
    if lists["rank"].null_count() == 0 and len(lists):
        base = min(int(lists["rank"].min()), 1)  # type: ignore[arg-type]
        twice = lists.group_by("user", "rank", maintain_order=True).len().filter(pl.col("len") > 1)
        ends = lists.group_by("user", maintain_order=True).agg(
            (pl.col("rank").max() - base + 1 != pl.col("rank").n_unique()).alias("gap")
        )
        below = lists.filter(pl.col("rank") < 0)
        found = [
            ("ranks", twice["user"], "ranks stand twice in a list", "one in the list of user"),
            ("ranks", below["user"], "ranks lie below 0", "one of user"),
            ("ranks", ends.filter("gap")["user"], "lists leave out a rank", "that of user"),
        ]
    if lists["score"].null_count() == 0 and len(lists):
        unreal = lists.filter(~pl.col("score").is_finite())
        found.append(("scores", unreal["user"], "scores are not finite numbers", "one of user"))
        if lists["rank"].null_count() == 0:
            ordered = lists.sort("user", "rank", maintain_order=True)
            rises = ordered.filter((pl.col("score").diff() > 0) & (pl.col("user") == pl.col("user").shift()))
            found.append(("scores", rises["user"], "scores rise where the rank falls", "one of user"))
    return found


def arranged(lists: pl.DataFrame, users: Sequence[str], keys: Sequence[str], places: int) -> GivenLists:
    """The lists of the test users in their order, at most `places` long; what is not in the catalog becomes no item.

    By rank where there are ranks, else by score, equal scores by item id, as everywhere here. Without scores, the
    negative rank stands for one.
    """
    of_users = pl.DataFrame({"user": users, "row": np.arange(len(users))})
    of_items = pl.DataFrame({"item": keys, "id": np.arange(PADDING + 1, len(keys) + PADDING + 1)})
    joined = (
        lists.join(of_users, on="user").join(of_items, on="item", how="left").with_columns(pl.col("id").fill_null(0))
    )
    has_ranks = lists["rank"].null_count() == 0
    order = ["rank"] if has_ranks else [-pl.col("score"), pl.col("id")]
    placed = joined.sort("row", *order, maintain_order=True).with_columns(place=pl.int_range(pl.len()).over("row"))
    placed = placed.with_columns(pl.col("score").fill_null(-(pl.col("place") + 1.0))).filter(pl.col("place") < places)
    items = np.zeros((len(users), places), dtype=np.int64)
    scores = np.full((len(users), places), -np.inf, dtype=np.float32)
    row, place = placed["row"].to_numpy(), placed["place"].to_numpy()
    items[row, place] = placed["id"].to_numpy()
    scores[row, place] = placed["score"].to_numpy()
    return GivenLists(items, scores)
