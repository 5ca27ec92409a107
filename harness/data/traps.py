"""What in a data set can turn a comparison, counted when it is prepared; each count with what it does.

Shape legend: U users, T interactions, N items, C test cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from harness.data.dataset import PADDING, Sequences
from harness.data.filters import Prepared
from harness.data.splits.split import Cases

# Key → label, and what it does to a comparison. All are shares in [0, 1].
TRAPS = {
    "unseen_targets_share": (
        "Test targets that training never saw",
        "methods that know items by number cannot rank them, methods that read texts can",
    ),
    "targets_in_history_share": (
        "Test targets in the user's history",
        "lost by whoever removes the history from the lists, won by whoever repeats it",
    ),
    "twin_users_share": (
        "Users with another's exact sequence",
        "they weigh as many users, and a method that memorises is paid for them",
    ),
    "twin_items_share": (
        "Items with another's exact text",
        "text vectors cannot tell them apart, so their codes collide",
    ),
    "tied_targets_share": (
        "Users whose last two interactions have one time",
        "the order of the file decides which of the two is the test target",
    ),
    "one_step_share": (
        "Test cases solved by the last item's most frequent successor",
        "a table of transitions gets these right on rank 1; a model must beat it on the rest",
    ),
}


def traps(content: Prepared, train: Sequences, test: Cases) -> dict[str, float]:
    """The shares of `TRAPS`, without those that the data cannot have (no times, no texts)."""
    num_items = len(content.item_keys)
    unseen_N = np.bincount(train.items, minlength=num_items + 1) == 0
    found = {
        "unseen_targets_share": float(unseen_N[test.targets].mean()),
        "targets_in_history_share": float(stands_in_history(test).mean()),
        "twin_users_share": twin_share(_rows_as_bytes(content.sequences)),
        "one_step_share": float((successors(train, num_items)[last_items(test.histories)] == test.targets).mean()),
    }
    if content.texts is not None:
        found["twin_items_share"] = (
            twin_share([text for text in content.texts if text])
            * sum(bool(text) for text in content.texts)
            / len(content.texts)
        )
    if content.times is not None:
        found["tied_targets_share"] = float(ends_in_tie(content.sequences, content.times).mean())
    return {name: found[name] for name in TRAPS if name in found}


def stands_in_history(cases: Cases) -> np.ndarray:
    """(C,) bool: whether the target is among the history's items, however long ago."""
    is_target = cases.histories.items == np.repeat(cases.targets, cases.histories.lengths)
    rows = np.repeat(np.arange(len(cases.targets)), cases.histories.lengths)
    return np.bincount(rows[is_target], minlength=len(cases.targets)) > 0


def successors(train: Sequences, num_items: int) -> np.ndarray:
    """(N + 1,) int: the item that followed each item most often, the smallest of several, 0 where none followed."""
    ends = np.zeros(len(train.items), dtype=bool)
    ends[train.offsets[1:][train.lengths > 0] - 1] = True
    pairs = np.flatnonzero(~ends)
    steps = pl.DataFrame({"last": train.items[pairs], "next": train.items[np.minimum(pairs + 1, len(train.items) - 1)]})
    best = (
        steps.group_by("last", "next")
        .len()
        .sort(["last", "len", "next"], descending=[False, True, False])
        .unique("last", keep="first", maintain_order=True)
    )
    following = np.zeros(num_items + 1, dtype=np.int64)
    following[best["last"].to_numpy()] = best["next"].to_numpy()
    return following


def last_items(histories: Sequences) -> np.ndarray:
    """(C,) the last item of each history, 0 where it is empty."""
    return np.where(histories.lengths > 0, np.append(histories.items, PADDING)[histories.offsets[1:] - 1], PADDING)


def ends_in_tie(sequences: Sequences, times: np.ndarray) -> np.ndarray:
    """(U,) bool: whether the last two interactions of a user have one time."""
    last = sequences.offsets[1:] - 1
    return (times[last] == times[np.maximum(last - 1, 0)]) & (sequences.lengths > 1)


def twin_share(values: Sequence[str | bytes]) -> float:
    """The share of values that occur more than once."""
    return int(pl.Series(values).is_duplicated().sum()) / max(len(values), 1)


def _rows_as_bytes(sequences: Sequences) -> list[bytes]:
    return [sequences.row(index).tobytes() for index in range(len(sequences))]
