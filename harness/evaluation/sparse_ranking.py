"""Lists and ranks of a method that scores most items alike for everyone, without writing a score of every item.

They are those of `harness.evaluation.ranking` to the bit: score descending, then item id ascending.

Shape legend: U users, B users of a chunk, N items (item i in column i - 1), T a user's own scores, k places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from harness.data.dataset import EvalCases, Sequences
from harness.evaluation.ranking import RankedCases, seen_pairs
from harness.interfaces import Recommendations

CHUNK_USERS = 1_024  # whose own scores are in memory at a time,
BLOCK_USERS = 64  # and in a matrix as wide as the most that one of them has


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


class _Own:
    """A chunk's own scores, in flat arrays by user and then by item."""

    def __init__(self, own_BN: sparse.csr_array, shared: _Shared):
        self.shared = shared
        self.offsets = own_BN.indptr.astype(np.int64)
        self.counts_B = np.diff(self.offsets)
        self.columns_T, self.scores_T = own_BN.indices, own_BN.data
        self.places_T = shared.place_N[self.columns_T]

    @cached_property
    def _keys_T(self) -> np.ndarray:
        """Row and column as one number, ascending."""
        firsts_B = np.arange(len(self.counts_B)) * len(self.shared.scores_N)
        return np.repeat(firsts_B, self.counts_B) + self.columns_T

    def score_of(self, rows_M: np.ndarray, columns_M: np.ndarray) -> np.ndarray:
        """(M,) the scores of the given users for the given items."""
        scores_M = self.shared.scores_N[columns_M]
        if len(self._keys_T):
            keys_M = rows_M * len(self.shared.scores_N) + columns_M
            places_M = np.searchsorted(self._keys_T, keys_M).clip(max=len(self._keys_T) - 1)
            scores_M = np.where(self._keys_T[places_M] == keys_M, self.scores_T[places_M], scores_M)
        return scores_M

    def totals(self, values_T: np.ndarray) -> np.ndarray:
        """(B,) int64 the sums of whole numbers over each user's own scores."""
        return np.diff(np.concatenate([[0], np.cumsum(values_T, dtype=np.int64)])[self.offsets])


def _chunks(recommender: ScoresFew, histories: Sequences) -> Iterator[tuple[np.ndarray, _Own]]:
    """Users with histories of like length, those with few scores of their own first, and these scores."""
    shared = _Shared(recommender.shared_scores())
    by_length = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(by_length), CHUNK_USERS):
        users = by_length[start : start + CHUNK_USERS]
        own_BN = recommender.own_scores(histories.take(users))
        own_BN.sort_indices()
        by_count = np.argsort(np.diff(own_BN.indptr), kind="stable")
        yield users[by_count], _Own(own_BN[by_count], shared)


def sparse_ranked(recommender: ScoresFew, histories: Sequences, k: int) -> Recommendations:
    """The k best items of each history."""
    found = _empty_lists(len(histories), k)
    for users, own in _chunks(recommender, histories):
        for array, values in zip(found, _best(own, k), strict=True):
            array[users] = values
    return found


def sparse_ranked_cases(recommender: ScoresFew, cases: EvalCases, k: int, popularity_N: np.ndarray) -> RankedCases:
    """The same with the targets' exact ranks, as `harness.evaluation.ranking.ranked_cases` gives them."""
    ranks = (np.empty(len(cases), dtype=dtype) for dtype in (np.int32, np.int32, np.float32))
    found = RankedCases(*_empty_lists(len(cases), k), *ranks)
    for users, own in _chunks(recommender, cases.histories):
        standings = _standings(own, cases.histories.take(users), cases.targets[users], popularity_N)
        for array, values in zip(found, (*_best(own, k), *standings), strict=True):
            array[users] = values
    return found


def _empty_lists(num_users: int, k: int) -> Recommendations:
    return Recommendations(np.empty((num_users, k), dtype=np.int64), np.empty((num_users, k), dtype=np.float32))


def _best(own: _Own, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, k) item ids, best first, and their scores: of the own ones and of the first k in the shared order.

    No other item can be among the k best: those k stand before it, their own scores being no lower.
    """
    blocks = [_best_of_block(own, start, k) for start in range(0, len(own.counts_B), BLOCK_USERS)]
    items_BK, scores_BK = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return items_BK, scores_BK


def _best_of_block(own: _Own, start: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`_best` for some users from `start` on, who have about as many own scores."""
    counts_B, shared = own.counts_B[start : start + BLOCK_USERS], own.shared
    offsets = own.offsets[start : start + BLOCK_USERS + 1]
    width, block = int(counts_B.max()), slice(offsets[0], offsets[-1])
    scores_BC = np.full((len(counts_B), width + k), -np.inf)
    scores_BC[:, :width][np.arange(width) < counts_B[:, None]] = own.scores_T[block]
    scores_BC[:, width:] = shared.scores_N[shared.order_N[:k]]
    places_T = own.places_T[block]
    own_too = np.flatnonzero(places_T < k)  # of the first k in the shared order
    scores_BC[np.searchsorted(offsets, own_too + offsets[0], side="right") - 1, width + places_T[own_too]] = -np.inf
    bound_B1 = np.partition(scores_BC, -k, axis=1)[:, -k, None]
    rows_M, at_M = np.divmod(np.flatnonzero(~(scores_BC < bound_B1)), width + k)
    is_own_M = at_M < width
    columns_M = shared.order_N[np.where(is_own_M, 0, at_M - width)]
    columns_M[is_own_M] = own.columns_T[(offsets[rows_M] + at_M)[is_own_M]]
    reached_B = np.bincount(rows_M, minlength=len(counts_B))
    within_M = np.arange(len(rows_M)) - np.repeat(np.cumsum(reached_B) - reached_B, reached_B)
    columns_BJ = np.full((len(counts_B), reached_B.max()), len(shared.scores_N))
    scores_BJ = np.full(columns_BJ.shape, -np.inf)
    columns_BJ[rows_M, within_M], scores_BJ[rows_M, within_M] = columns_M, scores_BC[rows_M, at_M]
    by_item_BJ = np.argsort(columns_BJ, axis=1)
    columns_BJ, scores_BJ = (np.take_along_axis(array, by_item_BJ, axis=1) for array in (columns_BJ, scores_BJ))
    best_BK = np.argsort(-scores_BJ, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(columns_BJ, best_BK, axis=1) + 1, np.take_along_axis(scores_BJ, best_BK, axis=1)


def _standings(
    own: _Own, histories: Sequences, targets_B: np.ndarray, popularity_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last three fields of `RankedCases`: counted in the shared order, and corrected where a score is another."""
    num_users, columns_B, shared = len(targets_B), targets_B.astype(np.int64) - 1, own.shared
    target_B = own.score_of(np.arange(num_users), columns_B)
    ahead_B = shared.ahead(target_B, columns_B)
    popular_before = np.concatenate([[0], np.cumsum(popularity_N[shared.order_N])])

    def is_before(scores_M: np.ndarray, columns_M: np.ndarray, rows_M: np.ndarray) -> np.ndarray:
        level_M = (scores_M == target_B[rows_M]) & (columns_M < columns_B[rows_M])
        return (scores_M > target_B[rows_M]) | level_M

    def total(rows_M: np.ndarray, values_M: np.ndarray) -> np.ndarray:
        return np.bincount(rows_M, weights=values_M, minlength=num_users).astype(np.int64)

    target_T = np.repeat(target_B, own.counts_B)
    before_T = own.scores_T > target_T
    level = np.flatnonzero(own.scores_T == target_T)
    before_T[level] = own.columns_T[level] < columns_B[np.searchsorted(own.offsets, level, side="right") - 1]
    was_before_T = own.places_T < np.repeat(ahead_B, own.counts_B)
    more_T = before_T.view(np.int8) - was_before_T.view(np.int8)
    items_B = ahead_B + own.totals(more_T)
    popular_B = popular_before[ahead_B] + own.totals(more_T * popularity_N[own.columns_T])
    rows_M, items_M = seen_pairs(histories, columns_B + 1)
    columns_M = items_M - 1
    seen_M = is_before(own.score_of(rows_M, columns_M), columns_M, rows_M)
    unseen_popular_B = popular_B - total(rows_M, seen_M * popularity_N[columns_M])
    candidates_B = popularity_N.sum() - popularity_N[columns_B] - total(rows_M, popularity_N[columns_M])
    share_B = unseen_popular_B.astype(np.float32) / np.maximum(candidates_B, 1).astype(np.float32)
    return items_B + 1, items_B - total(rows_M, seen_M) + 1, share_B
