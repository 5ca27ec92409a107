"""Lists and ranks of a method that scores most items alike for everyone, without writing a score of every item.

They are those of `harness.evaluation.ranking` to the bit: score descending, then item id ascending.

Shape legend: U users, B users of a chunk, N items (item i in column i - 1), T a user's own scores, k places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from scipy import sparse

from harness.data.dataset import EvalCases, Sequences
from harness.evaluation.ranking import RankedCases, best_items, seen_pairs
from harness.interfaces import Recommendations

CHUNK_USERS = 1_024  # whose own scores are in memory at a time


@runtime_checkable
class ScoresFew(Protocol):
    """A recommender whose items have the same score for everyone, but for few of each user's own."""

    def shared_scores(self) -> np.ndarray:
        """(N,) float64 the scores that all users share."""
        ...

    def own_scores(self, histories: Sequences) -> sparse.csr_array:
        """(U, N) float64 the scores that stand in their place for each history, none of them lower."""
        ...


class _Shared:
    """The order in which the shared scores put the items."""

    def __init__(self, scores_N: np.ndarray):
        self.scores_N = scores_N
        self.order_N = np.argsort(-scores_N, kind="stable")
        self.place_N = np.empty_like(self.order_N)  # 0-based
        self.place_N[self.order_N] = np.arange(len(scores_N))

    @cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        """The different scores, negated, ascending; and each item's level and id as one number, in order."""
        negated_V, level_N = np.unique(-self.scores_N, return_inverse=True)
        return negated_V, (level_N * len(self.scores_N) + np.arange(len(self.scores_N)))[self.order_N]

    def ahead(self, scores_B: np.ndarray, columns_B: np.ndarray) -> np.ndarray:
        """(B,) how many items the shared order puts before an item of such a score: the first ones of the order."""
        negated_V, keys_N = self._levels
        level_B = np.searchsorted(negated_V, -scores_B)
        is_level_B = negated_V[np.minimum(level_B, len(negated_V) - 1)] == -scores_B
        return np.searchsorted(keys_N, level_B * len(self.scores_N) + np.where(is_level_B, columns_B, 0))


class _Own(NamedTuple):
    """A chunk's own scores, in flat arrays by user and then by item."""

    rows_T: np.ndarray
    columns_T: np.ndarray
    scores_T: np.ndarray
    keys_T: np.ndarray  # row and column as one number, ascending

    def score_of(self, rows_M: np.ndarray, columns_M: np.ndarray, shared: _Shared) -> np.ndarray:
        """(M,) the scores of the given users for the given items."""
        scores_M = shared.scores_N[columns_M]
        if len(self.keys_T):
            keys_M = rows_M * len(shared.scores_N) + columns_M
            places_M = np.searchsorted(self.keys_T, keys_M).clip(max=len(self.keys_T) - 1)
            scores_M = np.where(self.keys_T[places_M] == keys_M, self.scores_T[places_M], scores_M)
        return scores_M


def _chunks(recommender: ScoresFew, histories: Sequences) -> Iterator[tuple[np.ndarray, _Own]]:
    """Users with histories of like length, and so with about as many scores of their own, and these."""
    by_length = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(by_length), CHUNK_USERS):
        users = by_length[start : start + CHUNK_USERS]
        own_BN = recommender.own_scores(histories.take(users))
        own_BN.sort_indices()
        rows_T = np.repeat(np.arange(len(users)), np.diff(own_BN.indptr))
        columns_T = own_BN.indices.astype(np.int64)
        yield users, _Own(rows_T, columns_T, own_BN.data, rows_T * own_BN.shape[1] + columns_T)


def sparse_ranked(recommender: ScoresFew, histories: Sequences, k: int) -> Recommendations:
    """The k best items of each history."""
    shared = _Shared(recommender.shared_scores())
    found = _empty_lists(len(histories), k)
    for users, own in _chunks(recommender, histories):
        for array, values in zip(found, _best(own, shared, len(users), k), strict=True):
            array[users] = values
    return found


def sparse_ranked_cases(recommender: ScoresFew, cases: EvalCases, k: int, popularity_N: np.ndarray) -> RankedCases:
    """The same with the targets' exact ranks, as `harness.evaluation.ranking.ranked_cases` gives them."""
    shared = _Shared(recommender.shared_scores())
    ranks = (np.empty(len(cases), dtype=dtype) for dtype in (np.int32, np.int32, np.float32))
    found = RankedCases(*_empty_lists(len(cases), k), *ranks)
    for users, own in _chunks(recommender, cases.histories):
        standings = _standings(own, shared, cases.histories.take(users), cases.targets[users], popularity_N)
        for array, values in zip(found, (*_best(own, shared, len(users), k), *standings), strict=True):
            array[users] = values
    return found


def _empty_lists(num_users: int, k: int) -> Recommendations:
    return Recommendations(np.empty((num_users, k), dtype=np.int64), np.empty((num_users, k), dtype=np.float32))


def _best(own: _Own, shared: _Shared, num_users: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, k) item ids, best first, and their scores: of the best own ones and of the first k in the shared order.

    No other item can be among the k best: those k stand before it, their own scores being no lower.
    """
    counts_B = np.bincount(own.rows_T, minlength=num_users)
    within_T = np.arange(len(own.rows_T)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    shape = (num_users, max(k, int(counts_B.max(initial=0))))
    columns_BT, scores_BT = np.zeros(shape, dtype=np.int64), np.full(shape, -np.inf)
    columns_BT[own.rows_T, within_T], scores_BT[own.rows_T, within_T] = own.columns_T, own.scores_T
    places_BK, own_BK = (found.numpy() for found in best_items(torch.from_numpy(scores_BT), k))
    first_BK = np.repeat(shared.order_N[None, :k], num_users, axis=0)
    shared_BK = shared.scores_N[first_BK]
    places_T = shared.place_N[own.columns_T]
    is_first_T = places_T < k
    shared_BK[own.rows_T[is_first_T], places_T[is_first_T]] = -np.inf  # they have an own score
    columns_BJ = np.concatenate([np.take_along_axis(columns_BT, places_BK - 1, axis=1), first_BK], axis=1)
    scores_BJ = np.concatenate([own_BK, shared_BK], axis=1)
    by_item_BJ = np.argsort(columns_BJ, axis=1)
    columns_BJ, scores_BJ = (np.take_along_axis(array, by_item_BJ, axis=1) for array in (columns_BJ, scores_BJ))
    best_BK = np.argsort(-scores_BJ, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(columns_BJ, best_BK, axis=1) + 1, np.take_along_axis(scores_BJ, best_BK, axis=1)


def _standings(
    own: _Own, shared: _Shared, histories: Sequences, targets_B: np.ndarray, popularity_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last three fields of `RankedCases`: counted in the shared order, and corrected where a score is another."""
    num_users, columns_B = len(targets_B), targets_B.astype(np.int64) - 1
    target_B = own.score_of(np.arange(num_users), columns_B, shared)
    ahead_B = shared.ahead(target_B, columns_B)
    popular_before = np.concatenate([[0], np.cumsum(popularity_N[shared.order_N])])

    def is_before(scores_M: np.ndarray, columns_M: np.ndarray, rows_M: np.ndarray) -> np.ndarray:
        level_M = (scores_M == target_B[rows_M]) & (columns_M < columns_B[rows_M])
        return (scores_M > target_B[rows_M]) | level_M

    def total(rows_M: np.ndarray, values_M: np.ndarray) -> np.ndarray:
        return np.bincount(rows_M, weights=values_M, minlength=num_users).astype(np.int64)

    rows_T, columns_T = own.rows_T, own.columns_T
    was_before_T = shared.place_N[columns_T] < ahead_B[rows_T]
    more_T = is_before(own.scores_T, columns_T, rows_T).astype(np.int64) - was_before_T
    items_B = ahead_B + total(rows_T, more_T)
    popular_B = popular_before[ahead_B] + total(rows_T, more_T * popularity_N[columns_T])
    rows_M, items_M = seen_pairs(histories, columns_B + 1)
    columns_M = items_M - 1
    seen_M = is_before(own.score_of(rows_M, columns_M, shared), columns_M, rows_M)
    unseen_popular_B = popular_B - total(rows_M, seen_M * popularity_N[columns_M])
    candidates_B = popularity_N.sum() - popularity_N[columns_B] - total(rows_M, popularity_N[columns_M])
    share_B = unseen_popular_B.astype(np.float32) / np.maximum(candidates_B, 1).astype(np.float32)
    return items_B + 1, items_B - total(rows_M, seen_M) + 1, share_B
