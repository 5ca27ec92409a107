"""What an evaluation keeps of each case: long ranked lists, and where the target stands under several rules.

Shape legend: U users, N items, P places of a ranked list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from harness.data.dataset import Dataset, EvalCases
from harness.distributed import ALONE
from harness.evaluation.outcomes import target_ranks
from harness.evaluation.ranking import ScoresWanted, different_items, ranked_cases
from harness.evaluation.sparse_ranking import ScoresFew, sparse_ranked_cases
from harness.interfaces import GeneratesCodes, Recommender
from results.store.outcomes import outcomes_frame

MARKS = 2**20  # bytes that hold which items stand in the histories of as many users as fit: they stay in a CPU's cache
LEAST_MARKED = 16  # but of so many users at least


class Listing(NamedTuple):
    """A recommender's lists for some cases, and the targets' ranks as far as it tells them."""

    items: np.ndarray  # (U, P) int64, best first; 0: a sequence that is no item's, or nothing
    scores: np.ndarray  # (U, P) float32; -inf where the search found no more
    ranks: np.ndarray  # (U,) of the target among all items; 0: not found
    unseen_ranks: np.ndarray  # (U,) among the items outside the history, and the target; 0: not found
    popular_ahead: np.ndarray  # (U,) float32, as `results.store.outcomes` has it; nan: not known


def listing_of(recommender: Recommender, dataset: Dataset, cases: EvalCases, k: int, places: int) -> Listing:
    """Lists of `places` (of N where there are fewer items), whose first `k` are what `recommend` gives for `k`.

    A recommender that gives the scores of all items tells exact ranks. One that generates codes lists what its search
    found. Of any other one only the `k` best are asked, as its interface promises no more.
    """
    popularity_N, at_most = dataset.item_counts, min(places, dataset.num_items)
    if isinstance(recommender, ScoresFew):
        return Listing(*sparse_ranked_cases(recommender, cases, at_most, popularity_N))
    scorer = getattr(recommender, "scores", None)
    if isinstance(recommender, ScoresWanted):
        scorer = recommender.wanted_scores(at_most, cases.targets)
    if scorer is not None:
        group = getattr(recommender, "group", ALONE)
        return Listing(*ranked_cases(scorer, cases, at_most, popularity_N, group))
    if isinstance(recommender, GeneratesCodes):
        items, scores = recommender.found(cases.histories, places)
    else:
        items, scores = recommender.recommend(cases.histories, k)
    ranks_U = target_ranks(items, cases.targets)
    places_P = np.arange(items.shape[1])
    seen_before_U = (listed_in_history(items, cases) & (places_P < ranks_U[:, None] - 1)).sum(axis=1)
    unknown_U = np.full(len(cases), np.nan, dtype=np.float32)
    return Listing(items, scores, ranks_U, ranks_U - seen_before_U, unknown_U)


def listed_in_history(items_UP: np.ndarray, cases: EvalCases) -> np.ndarray:
    """(U, P) bool: whether each listed item stands in its user's history, as the method was given it."""
    histories = cases.histories
    width = 1 + int(max(histories.items.max(initial=0), items_UP.max(initial=0)))
    users_at_once = max(LEAST_MARKED, MARKS // width)
    marks = np.zeros(users_at_once * width, dtype=bool)  # a row for each user, a column for each item
    found_UP = np.empty(items_UP.shape, dtype=bool)
    for start in range(0, len(items_UP), users_at_once):
        chunk = slice(start, min(start + users_at_once, len(items_UP)))
        firsts_B = np.arange(chunk.stop - start) * width
        history_items = histories.items[histories.offsets[start] : histories.offsets[chunk.stop]]
        in_history = np.repeat(firsts_B, histories.lengths[chunk]) + history_items
        marks[in_history] = True
        found_UP[chunk] = marks[firsts_B[:, None] + items_UP[chunk]]
        marks[in_history] = False
    return found_UP


def code_places(sequences_UP: np.ndarray, targets_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the target's sequence stands: its 1-based place among the sequences, and the items listed before it.

    `sequences_UP` numbers the sequences of each list; equal ones stand side by side, -1 is a sequence of its own. Both
    are 0 where the target's is not listed.
    """
    hits_UP = sequences_UP == targets_U[:, None]
    found_U, first_U = hits_UP.any(axis=1), hits_UP.argmax(axis=1)
    opens_UP = np.ones(sequences_UP.shape, dtype=bool)
    opens_UP[:, 1:] = (sequences_UP[:, 1:] != sequences_UP[:, :-1]) | (sequences_UP[:, 1:] == -1)
    opened_UP = opens_UP.cumsum(axis=1)
    places_U = np.take_along_axis(opened_UP, first_U[:, None], axis=1)[:, 0]
    return np.where(found_U, places_U, 0), np.where(found_U, first_U, 0)


def outcomes_of(recommender: Recommender, dataset: Dataset, cases: EvalCases, listing: Listing) -> pl.DataFrame:
    """The cases' outcomes (`results.store.outcomes.OUTCOMES_SCHEMA`)."""
    items_UP, targets_U = listing.items, cases.targets.astype(np.int64)
    tuples_N = np.arange(dataset.num_items)
    if isinstance(recommender, GeneratesCodes):
        tuples_N = recommender.item_tuples()
    sizes = np.bincount(tuples_N)
    tuples = np.concatenate([[-1], tuples_N])  # by item id
    sharers = np.concatenate([[0], sizes[tuples_N]])
    code_ranks_U, code_ahead_U = code_places(tuples[items_UP], tuples[targets_U])
    beyond_U = listing.ranks > items_UP.shape[1]  # known without a list: only where every item has codes of its own
    if beyond_U.any() and len(sizes) == dataset.num_items:
        code_ranks_U = np.where(beyond_U, listing.ranks, code_ranks_U)
        code_ahead_U = np.where(beyond_U, listing.ranks - 1, code_ahead_U)
    seen_UP = listed_in_history(np.column_stack([items_UP, targets_U]), cases)
    target_seen_U = seen_UP[:, -1]
    history_sizes_U = np.bincount(different_items(cases.histories)[0], minlength=len(cases))
    return outcomes_frame(
        (listing.scores > -np.inf).sum(axis=1),
        target=targets_U,
        items=items_UP.astype(np.int32),
        scores=listing.scores,
        seen=seen_UP[:, :-1],
        sharers=sharers[items_UP].astype(np.uint32),
        target_sharers=sharers[targets_U],
        target_seen=target_seen_U,
        rank=listing.ranks,
        unseen_rank=listing.unseen_ranks,
        candidates=dataset.num_items - 1 - history_sizes_U + target_seen_U,
        popular_ahead=listing.popular_ahead,
        code_rank=code_ranks_U,
        code_ahead=code_ahead_U,
    )
