"""Where items lie in the graph of direct transitions, and how the places of a list are shared among rings.

Ring r of an item holds the items that are exactly r steps away from it.

Shape legend: B sources, V items with padding in place 0, K places of a quota, Q places of a queue.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from baselines.markov import transitions
from harness.data.dataset import Dataset, Sequences
from harness.evaluation.ranking import best_items


def transition_counts(dataset: Dataset) -> sparse.csr_array:
    """(V, V) float64: how often column's item came directly after row's item in the training sequences."""
    return sparse.block_diag([sparse.csr_array((1, 1)), transitions(dataset, 1, 1.0)], format="csr")


def rings_of(edges_VV: sparse.csr_array, sources_B: np.ndarray, depth: int) -> Tensor:
    """(B, V) int8: in which ring of its source an item lies, 0 where in none of the first `depth`."""
    ring_BV = np.zeros((len(sources_B), edges_VV.shape[0]), dtype=np.int8)
    outside_BV = np.ones_like(ring_BV, dtype=bool)
    outside_BV[np.arange(len(sources_B)), sources_B] = False
    reached = edges_VV[sources_B]
    for ring in range(1, depth + 1):
        new_BV = (reached.toarray() > 0) & outside_BV
        ring_BV[new_BV] = ring
        outside_BV &= ~new_BV
        if ring < depth:
            reached = sparse.csr_array(new_BV.astype(np.float32)) @ edges_VV
    return torch.from_numpy(ring_BV)


def quota(ring_BV: Tensor, score_BV: Tensor, budgets: tuple[int, ...]) -> Tensor:
    """(B, K) items by ring and score, K places in all; 0 where the rings hold too few.

    A ring that holds fewer items than its budget leaves places to what nearer rings hold beyond theirs, which come
    before its own items; places that are left at the end go to what is left of all rings, the nearest first.
    """
    total = min(sum(budgets), ring_BV.shape[1] - 1)
    chosen_BK = torch.zeros(len(ring_BV), total + 1, dtype=torch.int64)  # the last place of both takes what has none
    queue_BQ = torch.zeros(len(ring_BV), (len(budgets) + 1) * total + 1, dtype=torch.int64)
    placed_B1, queued_B1, used_B1 = torch.zeros(3, len(ring_BV), 1, dtype=torch.int64)
    for ring, budget in enumerate(budgets, start=1):
        in_ring_BV = ring_BV == ring
        count_B1 = in_ring_BV.sum(1, keepdim=True).clamp(max=total)
        best_BK, _ = best_items(score_BV.masked_fill(~in_ring_BV, -torch.inf)[:, 1:], total)
        lent_B1 = (budget - count_B1).clamp(0).minimum(queued_B1 - used_B1)
        _put(chosen_BK, placed_B1, queue_BQ.gather(1, used_B1 + torch.arange(total)), lent_B1)
        _put(chosen_BK, placed_B1 + lent_B1, best_BK, count_B1.clamp(max=budget))
        placed_B1, used_B1 = placed_B1 + lent_B1 + count_B1.clamp(max=budget), used_B1 + lent_B1
        surplus_B1 = (count_B1 - budget).clamp(0)
        _put(queue_BQ, queued_B1, best_BK[:, budget:], surplus_B1)
        queued_B1 = queued_B1 + surplus_B1
    _put(chosen_BK, placed_B1, queue_BQ.gather(1, used_B1 + torch.arange(total)), queued_B1 - used_B1)
    return chosen_BK[:, :total]


def _put(table_BX: Tensor, start_B1: Tensor, items_BK: Tensor, count_B1: Tensor) -> None:
    """Writes each row's first `count` items into the table from place `start` on; the last place takes the others."""
    places_K = torch.arange(items_BK.shape[1])
    last = table_BX.shape[1] - 1
    table_BX.scatter_(1, torch.where(places_K < count_B1, start_B1 + places_K, last).clamp(max=last), items_BK)


def last_items(histories: Sequences, count: int) -> np.ndarray:
    """(B, count) int64 items, the last one in the last column; 0 before a shorter history."""
    recent = histories.last(count)
    items_BL = np.zeros((len(recent), count), dtype=np.int64)
    items_BL[np.arange(count) >= count - recent.lengths[:, None]] = recent.items
    return items_BL


def filled(picks_BK: Tensor, pad_BV: Tensor) -> Tensor:
    """The picks, with the best padding in the places that are free."""
    best_BK, _ = best_items(pad_BV[:, 1:], picks_BK.shape[1])
    free_BK = (picks_BK == 0).cumsum(1) - 1
    return torch.where(picks_BK > 0, picks_BK, best_BK.gather(1, free_BK.clamp(min=0)))
