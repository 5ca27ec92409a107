"""One evaluation for every method: the target's rank for every user, under one contract.

Shape legend: U users, k places of a ranked list.
"""

from typing import NamedTuple

import numpy as np

from harness.data.dataset import PADDING, Dataset, EvalCases
from harness.errors import StageError
from harness.interfaces import Recommender
from results.statistics.inference import error_over_users
from results.statistics.metrics.ndcg import ndcg
from results.statistics.metrics.recall import recall

SELECTION_K = 10  # models are selected by validation NDCG@10


class Evaluation(NamedTuple):
    """What an evaluation stores; every metric is computed from it later."""

    ranks: np.ndarray  # (U,) int32, 1-based; 0: the target is not among the k best
    items: np.ndarray  # (U, k) int32, best first; 0: a generated sequence that decodes to no item
    invalid: np.ndarray  # (U,) int32: generated sequences among the k best that decode to no item


def target_ranks(items_UK: np.ndarray, targets_U: np.ndarray) -> np.ndarray:
    """(U,) int32 1-based place of each target in its list, 0 where it is absent."""
    hits = items_UK == targets_U[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int32)


def evaluate(recommender: Recommender, cases: EvalCases, k: int) -> Evaluation:
    """Ranks of the cases' targets in the recommender's lists of length `k`.

    An item may be recommended at most once (an `assert`: a method that repeats one is broken, not unlucky).
    """
    return evaluation_of(*recommender.recommend(cases.histories, k), cases.targets)


def evaluation_of(items: np.ndarray, scores: np.ndarray, targets_U: np.ndarray) -> Evaluation:
    """The evaluation of (U, k) listed items with their scores; an `assert` as in `evaluate`."""
    valid = items != PADDING
    refuse_unreal(scores[valid])
    hidden = np.where(valid, items, -1 - np.arange(items.shape[1]))
    in_order = np.sort(hidden, axis=1)
    assert (in_order[:, 1:] != in_order[:, :-1]).all(), "an item was recommended twice in one list"
    return Evaluation(target_ranks(items, targets_U), items.astype(np.int32), (~valid).sum(axis=1).astype(np.int32))


def refuse_unreal(scores: np.ndarray) -> None:
    """`StageError` for a score of a listed item that is not a finite number: it would rank first and count as a hit."""
    if not np.isfinite(scores).all():
        value = scores[~np.isfinite(scores)][0]
        raise StageError(
            f"every score must be a finite number, but the fitted model gives {value}; lower its learning rate, and "
            "run it again"
        )


def validation_score(recommender: Recommender, dataset: Dataset) -> float:
    """NDCG@10 on the validation targets: what models are selected by."""
    return validation_scores(recommender, dataset)["NDCG@10"]


def validation_scores(recommender: Recommender, dataset: Dataset) -> dict[str, float]:
    """NDCG@10 and Recall@10 on the validation targets, averaged over all users that have one.

    `NDCG@10 error` and `Recall@10 error` are the standard errors of these means over users.
    """
    k = min(SELECTION_K, dataset.num_items)
    ranks_U = evaluate(recommender, dataset.validation, k).ranks
    values = {"NDCG@10": ndcg(ranks_U, k), "Recall@10": recall(ranks_U, k)}
    means = {name: float(values_U.mean()) for name, values_U in values.items()}
    owners = dataset.validation.owners
    return means | {f"{name} error": error_over_users(values_U, owners) for name, values_U in values.items()}
