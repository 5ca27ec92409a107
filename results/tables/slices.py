"""Slices: the users of an evaluation cut by what is known of their case, each user in one slice at most.

Edges are fixed numbers, not quantiles of a data set, so that a slice means the same in every table. They are close
together where most items and users of such data lie: few interactions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from results.errors import ResultsError

Labels = Callable[[pl.DataFrame], pl.Series]  # cases (`CASES_SCHEMA`) → a slice's heading per user; null: in none


@dataclass(frozen=True)
class Slicing:
    """A way to cut the users into slices."""

    name: str  # as given on the command line
    title: str  # what the users are cut by, as a caption says it
    headings: tuple[str, ...]  # of the slices, in their order
    labels: Labels
    by_codes: bool = (
        False  # whether a method's own codes decide, so that each method and seed has other users in a slice
    )


def slicing_named(name: str) -> Slicing:
    """The slicing of that name; `ResultsError` for an unknown one."""
    if name not in SLICINGS:
        raise ResultsError(f"unknown slice '{name}'; known: {', '.join(SLICINGS)}")
    return SLICINGS[name]


def _buckets(name: str, title: str, column: str, edges: tuple[int, ...], headings: tuple[str, ...]) -> Slicing:
    """Slices of a count: the first up to and with the first edge, the last above the last edge."""

    def labels(cases: pl.DataFrame) -> pl.Series:
        return cases[column].cut(edges, labels=headings).cast(pl.String)

    return Slicing(name, title, headings, labels)


def _halves(name: str, title: str, is_first: pl.Expr, headings: tuple[str, str], *, by_codes: bool = False) -> Slicing:
    """Two slices: where the expression holds, and where it does not; a user of whom it is null is in neither."""

    def labels(cases: pl.DataFrame) -> pl.Series:
        first, second = map(pl.lit, headings)
        return cases.select(pl.when(is_first).then(first).when(~is_first).then(second)).to_series()

    return Slicing(name, title, headings, labels, by_codes)


SLICINGS = {
    slicing.name: slicing
    for slicing in (
        _buckets(
            "item-popularity",
            "how often training has the target",
            "target_count",
            (0, 5, 20, 100),
            (
                "Target: never",
                "Target: 1–5 times",
                "Target: 6–20 times",
                "Target: 21–100 times",
                "Target: over 100 times",
            ),
        ),
        _buckets(
            "user-length",
            "length of the history",
            "history_length",
            (5, 10, 20),
            (
                "History: 1–5 items",
                "History: 6–10 items",
                "History: 11–20 items",
                "History: over 20 items",
            ),
        ),
        _halves(
            "unseen-item",
            "whether training has the target",
            pl.col("target_count") == 0,
            ("Target: unseen", "Target: seen"),
        ),
        _halves(
            "collision",
            "whether other items share the target's codes",
            pl.col("target_sharers") > 1,
            ("Codes: shared", "Codes: not shared"),
            by_codes=True,
        ),
        _halves(
            "new-user",
            "whether training has the user",
            pl.col("new_user"),
            ("Users: new", "Users: known"),
        ),
    )
}
