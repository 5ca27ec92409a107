"""Ranked lists and ranks from the scores of all items: score descending, then item id ascending.

`torch.topk` leaves open which of several equal scores it returns. Methods whose scores are counts tie often, so ties
are settled here, the same way on every machine.

Shape legend: B users, N items (item i has score i - 1), k places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import EvalCases, Sequences
from harness.distributed import ALONE, Group
from harness.interfaces import Recommendations
from harness.nn.moving import moved

BLOCK_ITEMS = 32  # neighbours whose greatest score is looked at first: as many as torch's maximum takes in vectors
NUMPY_DTYPES = (torch.float32, torch.float64)
CACHED_ROWS = 64  # users whose comparisons with all items are made at once: temporaries that stay in a CPU's cache

Scores = Iterator[tuple[np.ndarray, Tensor]]  # a chunk's rows among the histories (B,), scores_BN
Scorer = Callable[[Sequences], Scores]


@runtime_checkable
class ScoresWanted(Protocol):
    """A recommender that need not score all items to tell which are best, or where an item stands."""

    def wanted_scores(self, places: int, targets_U: np.ndarray) -> Scorer | None:
        """Scores that may be -inf for items behind both a history's `places` best and its target; None: it has none."""
        ...


def best_items(scores_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(B, k) int64 item ids, best first, and their scores; each item at most once. A NaN counts as the greatest."""
    num_items = scores_BN.shape[1]
    assert 1 <= k <= num_items, "k must lie between 1 and the number of items"
    if scores_BN.device.type == "cpu" and scores_BN.dtype in NUMPY_DTYPES and num_items >= 2 * k * BLOCK_ITEMS:
        found = _best_of_few(scores_BN, k)
        if found is not None:
            return found
    return _best_of_all(scores_BN, k)


def _best_of_few(scores_BN: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """`best_items` from those that reach a bound, the k-th greatest of the greatest scores of blocks; None: too many.

    At least k items reach it, and on average hardly more. NumPy partitions and finds several times as fast as torch.
    """
    num_users, num_items = scores_BN.shape
    blocks_BCI = scores_BN[:, : num_items // BLOCK_ITEMS * BLOCK_ITEMS].unflatten(1, (-1, BLOCK_ITEMS))
    bound_B1 = np.partition(blocks_BCI.amax(dim=2).numpy(), -k, axis=1)[:, -k, None]
    scores = scores_BN.numpy()
    below = np.less(scores, bound_B1)
    rows_M, places_M = np.divmod(np.flatnonzero(np.logical_not(below, out=below)), num_items)
    counts_B = np.bincount(rows_M, minlength=num_users)
    if counts_B.max() > num_items // BLOCK_ITEMS + k:
        return None
    within_M = np.arange(len(rows_M)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    places_BC = np.zeros((num_users, counts_B.max()), dtype=np.int64)
    scores_BC = np.full(places_BC.shape, -np.inf, dtype=scores.dtype)
    places_BC[rows_M, within_M], scores_BC[rows_M, within_M] = places_M, scores[rows_M, places_M]
    best_BC, order_BC = torch.from_numpy(scores_BC).sort(dim=1, descending=True, stable=True)
    return torch.from_numpy(places_BC).gather(1, order_BC[:, :k]) + 1, best_BC[:, :k].contiguous()


def _best_of_all(scores_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`best_items` by one selection among all items, whatever the device and the type."""
    scores_BK, places_BK = scores_BN.topk(min(k + 1, scores_BN.shape[1]), dim=1)
    if k < scores_BN.shape[1]:
        torn = (scores_BK[:, k] == scores_BK[:, k - 1]).nonzero()[:, 0]
        scores_BK, places_BK = scores_BK[:, :k].contiguous(), places_BK[:, :k].contiguous()
        if len(torn):
            places_BK[torn] = _lowest_places(scores_BN[torn], scores_BK[torn, -1:], k)
    places_BK = places_BK.sort(dim=1).values
    scores_BK, order_BK = scores_BN.gather(1, places_BK).sort(dim=1, descending=True, stable=True)
    return places_BK.gather(1, order_BK) + 1, scores_BK


def _lowest_places(scores_BN: Tensor, last_B1: Tensor, k: int) -> Tensor:
    """(B, k) places of all scores above the k-th best, NaN among them, then of the first ones equal to it."""
    above_BN = ~(scores_BN <= last_B1)
    equal_BN = scores_BN == last_B1
    room_B1 = k - above_BN.sum(dim=1, keepdim=True)
    chosen_BN = above_BN | (equal_BN & (equal_BN.cumsum(dim=1) <= room_B1))
    return chosen_BN.nonzero()[:, 1].view(len(scores_BN), k)


def target_places(scores_BN: Tensor, targets_B: Tensor) -> Tensor:
    """(B,) int64 1-based rank of each target item among all items; N + 1 where its score is not a number.

    Other items whose score is not a number count as ahead, so that they never help.
    """
    target_B1 = scores_BN.gather(1, targets_B[:, None] - 1)
    ahead_B = scores_BN.shape[1] - (scores_BN <= target_B1).sum(dim=1)
    if scores_BN.device.type != "cpu":  # to ask whether there are ties would wait for the device
        earlier_BN = torch.arange(1, scores_BN.shape[1] + 1, device=scores_BN.device) < targets_B[:, None]
        return ahead_B + ((scores_BN == target_B1) & earlier_BN).sum(dim=1) + 1
    level_B = (scores_BN == target_B1).sum(dim=1)
    tied = (level_B > 1).nonzero()[:, 0]
    if len(tied):
        before = torch.arange(1, scores_BN.shape[1] + 1, device=scores_BN.device) < targets_B[tied, None]
        ahead_B[tied] += ((scores_BN[tied] == target_B1[tied]) & before).sum(dim=1)
    return ahead_B + 1


def ranked(scorer: Scorer, histories: Sequences, k: int, group: Group = ALONE) -> Recommendations:
    """The k best items of each history; each process of a group scores its own chunks."""
    items_UK = np.empty((len(histories), k), dtype=np.int64)
    scores_UK = np.empty((len(histories), k), dtype=np.float32)
    own_rows = [np.empty(0, dtype=np.int64)]
    for rows, scores_BN in scorer(histories):
        own_rows.append(rows)
        items_BK, scores_BK = best_items(scores_BN, k)
        items_UK[rows] = items_BK.cpu().numpy()
        scores_UK[rows] = scores_BK.cpu().numpy()
    own = np.concatenate(own_rows)
    return Recommendations(group.gather_rows(own, items_UK), group.gather_rows(own, scores_UK))


class RankedCases(NamedTuple):
    """Ranked lists, and where each case's target stands among all items."""

    items: np.ndarray  # (U, k) int64
    scores: np.ndarray  # (U, k) float32
    ranks: np.ndarray  # (U,) int32, 1-based
    unseen_ranks: np.ndarray  # (U,) int32: among the items outside the history, and the target itself
    popular_ahead: np.ndarray  # (U,) float32: of those items' popularity without the target's, the share before it


def ranked_cases(
    scorer: Scorer, cases: EvalCases, k: int, popularity_N: np.ndarray, group: Group = ALONE
) -> RankedCases:
    """The k best items of each history as `ranked` gives them, and the targets' exact ranks, from one pass."""
    num_cases = len(cases)
    found = RankedCases(
        np.empty((num_cases, k), dtype=np.int64),
        np.empty((num_cases, k), dtype=np.float32),
        *(np.empty(num_cases, dtype=dtype) for dtype in (np.int32, np.int32, np.float32)),
    )
    own_rows = [np.empty(0, dtype=np.int64)]
    for rows, scores_BN in scorer(cases.histories):
        own_rows.append(rows)
        targets = cases.targets[rows].astype(np.int64)
        ranked_rows = _ranked_rows(scores_BN, targets, cases.histories.take(rows), k, popularity_N.astype(np.float32))
        for array, values in zip(found, ranked_rows, strict=True):
            array[rows] = values.cpu().numpy()
    own = np.concatenate(own_rows)
    return RankedCases(*(group.gather_rows(own, array) for array in found))


def _ranked_rows(
    scores_BN: Tensor, targets: np.ndarray, histories: Sequences, k: int, popularity_N: np.ndarray
) -> tuple[Tensor, ...]:
    """The fields of `RankedCases` for a chunk.

    Scores must be numbers; the lists of `best_items` begin with those that are not.
    """
    rows, items = seen_pairs(histories, targets)
    arrays = {"targets": targets, "rows": rows, "items": items, "popularity": popularity_N}
    targets_B, rows_M, items_M, popular_N = moved(arrays, scores_BN.device).values()
    target_B1 = scores_BN.gather(1, targets_B[:, None] - 1)
    rows_at_once = CACHED_ROWS if scores_BN.device.type == "cpu" else len(scores_BN)
    parts = [part.split(rows_at_once) for part in (scores_BN, target_B1, targets_B[:, None])]
    before_BN = scores_BN.new_empty(min(rows_at_once, len(scores_BN)), scores_BN.shape[1], dtype=torch.float32)
    # Both look at all scores of some users, and so do it one after the other while these are in the cache.
    found = [
        (*best_items(scores, k), _ahead(scores, target, ids, popular_N, before_BN))
        for scores, target, ids in zip(*parts, strict=True)
    ]
    items_BK, scores_BK, ahead_B2 = (torch.cat(blocks) for blocks in zip(*found, strict=True))
    scores_M, target_M = scores_BN[rows_M, items_M - 1], target_B1[rows_M, 0]
    first_M = (scores_M > target_M) | ((scores_M == target_M) & (items_M < targets_B[rows_M]))
    popular_M = popular_N[items_M - 1]
    seen_M2 = torch.stack([torch.ones_like(popular_M), popular_M], dim=1)
    unseen_B2 = ahead_B2.index_add(0, rows_M, seen_M2 * first_M[:, None], alpha=-1)
    candidates_B = popular_N.sum() - popular_N[targets_B - 1]
    candidates_B = candidates_B.index_add(0, rows_M, popular_M, alpha=-1)
    share_B = unseen_B2[:, 1] / candidates_B.clamp(min=1)
    return items_BK, scores_BK, ahead_B2[:, 0] + 1, unseen_B2[:, 0] + 1, share_B


def _ahead(scores_BN: Tensor, target_B1: Tensor, targets_B1: Tensor, popular_N: Tensor, before_BN: Tensor) -> Tensor:
    """(B, 2) float32 whole numbers: how many items rank before the target, and their popularity.

    Comparisons are written as numbers into `before_BN`, ready for products with vectors, which a CPU does faster than
    sums of booleans.
    """
    before_BN = torch.gt(scores_BN, target_B1, out=before_BN[: len(scores_BN)])
    ids_N = torch.arange(1, scores_BN.shape[1] + 1, device=scores_BN.device)
    if scores_BN.device.type != "cpu":  # to ask whether there are ties would wait for the device
        before_BN += (scores_BN == target_B1) & (ids_N < targets_B1)
    else:
        level_BN = scores_BN.numpy() == target_B1.numpy()  # NumPy compares and counts several times as fast as torch
        if np.count_nonzero(level_BN) > len(level_BN):
            tied = torch.from_numpy(np.flatnonzero(np.count_nonzero(level_BN, axis=1) > 1))
            before_BN[tied] += torch.from_numpy(level_BN)[tied] & (ids_N < targets_B1[tied])
    return torch.stack([before_BN @ torch.ones_like(popular_N), before_BN @ popular_N], dim=1)


def seen_pairs(histories: Sequences, targets_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and item (M,) int64 of each different item of each history, the row's target left out."""
    rows_M, items_M = different_items(histories)
    others = items_M != targets_B[rows_M]
    return rows_M[others], items_M[others]


def different_items(histories: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Row and item (M,) int64 of each different item of each history, in this order."""
    radix = int(histories.items.max(initial=0)) + 1
    keys_T = np.repeat(np.arange(len(histories)) * radix, histories.lengths) + histories.items
    keys_T.sort()  # and not `np.unique`, which hashes first and takes twenty times as long
    keys_M = keys_T[np.diff(keys_T, prepend=-1) > 0]
    rows_M = keys_M // radix
    return rows_M, keys_M - rows_M * radix


def all_ranks(scorer: Scorer, cases: EvalCases, group: Group = ALONE) -> np.ndarray:
    """(U,) int32 1-based rank of each case's target: what `evaluate` finds, for lists of any length.

    It needs no sorting, only counting, and so it is the cheap way to a validation score.
    """
    ranks_U = np.empty(len(cases), dtype=np.int32)
    own_rows = [np.empty(0, dtype=np.int64)]
    for rows, scores_BN in scorer(cases.histories):
        own_rows.append(rows)
        targets_B = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(scores_BN.device)
        ranks_U[rows] = target_places(scores_BN, targets_B).cpu().numpy()
    return group.gather_rows(np.concatenate(own_rows), ranks_U)
