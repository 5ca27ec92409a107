"""What a set of item codes is like, and how like two of them are.

Shape legend: N items, L levels, P pairs of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from harness.data.dataset import PADDING, Dataset, Sequences
from harness.generative.tokenizer.codes import CodeTable, code_health, tuple_keys


def code_facts(table: CodeTable, dataset: Dataset) -> dict[str, Any]:
    """Use, collisions and neighbourhood of a data set's codes, as plain JSON.

    `colliding_items` is the share of items whose tuple another item has too, `collision_rate` the share
    of items without which all tuples would be unique (METHODS B.2). `followers`: how many times as often as by chance
    an item and the next one of a training sequence have the same first code.
    """
    codes_NL = table.codes[PADDING + 1 :]
    return {
        "items": table.num_items,
        "levels": table.num_levels,
        "sizes": list(table.sizes),
        **code_health(codes_NL, max(table.sizes)),
        "followers": follower_lift(codes_NL[:, 0].numpy(), dataset.train),
    }


def follower_lift(first_codes_N: np.ndarray, train: Sequences) -> float:
    """Share of neighbours in training sequences with equal first codes, over the share if places were shuffled."""
    codes_T = first_codes_N[train.items - 1]
    is_last_T = np.zeros(len(codes_T), dtype=bool)
    is_last_T[train.offsets[1:] - 1] = True
    before_P, after_P = codes_T[:-1][~is_last_T[:-1]], codes_T[1:][~is_last_T[:-1]]
    if not len(before_P):
        return float("nan")
    size = int(first_codes_N.max()) + 1
    by_chance = np.bincount(before_P, minlength=size) @ np.bincount(after_P, minlength=size) / len(before_P)
    return float((before_P == after_P).sum() / by_chance)


def agreements(tables: Sequence[CodeTable]) -> list[dict[str, Any]]:
    """Of each two tables: the share of items with the same tuple, and how much their levels say of each other.

    `level_agreement`: adjusted mutual information of the items' prefixes of 1, 2, ... levels; 0 by chance, 1 where they
    make the same groups, whatever the numbers are called.
    """
    found = []
    for one, first in enumerate(tables):
        for other in range(one + 1, len(tables)):
            second = tables[other]
            depth = min(first.num_levels, second.num_levels)
            codes = [table.codes[PADDING + 1 :] for table in (first, second)]
            same = first.num_levels == second.num_levels and float((codes[0] == codes[1]).all(dim=1).float().mean())
            found.append(
                {
                    "first": one,
                    "second": other,
                    "same_tuples": float(same),
                    "level_agreement": [
                        float(adjusted_mutual_info_score(*(tuple_keys(each[:, :level]).numpy() for each in codes)))
                        for level in range(1, depth + 1)
                    ],
                }
            )
    return found
