"""What a data set is like, in numbers, and how the command line shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from harness.data.filters import Prepared
from harness.data.splits.split import Parts


@dataclass(frozen=True)
class Counts:
    """The size of a data set, as in the paper's Table 2."""

    users: int
    items: int
    interactions: int

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions"


LABELS = {
    "users": "Users",
    "items": "Items",
    "interactions": "Interactions",
    "sparsity_percent": "Sparsity",
    "mean_length": "Mean length",
    "min_length": "Shortest",
    "q25_length": "25 % quantile",
    "median_length": "Median length",
    "q75_length": "75 % quantile",
    "q95_length": "95 % quantile",
    "max_length": "Longest",
    "repeat_share": "Repeats of an item",
    "items_without_text_share": "Items without text",
    "cold_items": "Cold items (never in training)",
    "train_samples": "Training samples",
    "validation_cases": "Validation cases",
    "test_cases": "Test cases",
    "tested_users": "Users with a test case",
    "new_users": "New users (unseen in training)",
}
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}


def statistics(content: Prepared, parts: Parts) -> dict[str, float]:
    """Size, length and item statistics of full sequences x1..x_n, in the order of `LABELS`; shares lie in [0, 1].

    `sparsity_percent` is Table 2's; `repeat_share` is the share of interactions with an item that the same
    user had before; `cold_items` never occur in a training sequence. `new_users` are tested and unseen in training.
    They stand there where there are any, the cases where they are not one of each user.
    """
    train, num_new = parts.train, len(np.setdiff1d(parts.test.users, parts.users))
    sequences, num_items, texts = content.sequences, len(content.item_keys), content.texts
    lengths, total = sequences.lengths, len(sequences.items)
    pairs = np.repeat(np.arange(len(sequences)), lengths) * (num_items + 1) + sequences.items
    is_usual = np.array_equal(parts.test.users, np.arange(len(sequences)))
    quantiles = np.quantile(lengths, list(QUANTILES.values())).tolist()
    return {
        "users": len(sequences),
        "items": num_items,
        "interactions": total,
        "sparsity_percent": 100 * (1 - total / (len(sequences) * num_items)),
        "mean_length": float(lengths.mean()),
        **{f"{name}_length": value for name, value in zip(QUANTILES, quantiles, strict=True)},
        "repeat_share": float(1 - pl.Series(pairs).n_unique() / total),
        "items_without_text_share": 1.0 if texts is None else sum(text is None for text in texts) / num_items,
        "cold_items": num_items - len(np.unique(train.items)),
        "train_samples": int(np.maximum(train.lengths - 1, 0).sum()),
        **({} if is_usual else _case_counts(parts)),
        **({"new_users": num_new} if num_new else {}),
    }


def _case_counts(parts: Parts) -> dict[str, float]:
    validation, test = (len(cases.targets) for cases in (parts.validation, parts.test))
    return {"validation_cases": validation, "test_cases": test, "tested_users": len(np.unique(parts.test.users))}


def shown(statistic: str, value: float) -> str:
    """The value as a person reads it."""
    if statistic.endswith("_share"):
        return f"{100 * value:.2f} %"
    if statistic.endswith("_percent"):
        return f"{value:.3f} %"
    return f"{value:.2f}" if statistic == "mean_length" else f"{value:,.0f}"
