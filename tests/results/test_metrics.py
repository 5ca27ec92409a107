"""Oracles: scikit-learn's NDCG, hits counted one by one, arithmetic by hand."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score

from results.errors import ResultsError
from results.statistics.metrics.coverage import coverage
from results.statistics.metrics.kinds import RankMetric
from results.statistics.metrics.mrr import mrr
from results.statistics.metrics.ndcg import ndcg
from results.statistics.metrics.novelty import novelty
from results.statistics.metrics.recall import recall
from results.statistics.metrics.registry import (
    known_metrics,
    metric_named,
    metrics_from_lists,
    metrics_from_ranks,
    rank_metrics,
    user_values,
)

RANKS = np.array([1, 2, 0, 10, 5, 6, 0, 3])


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_ndcg_equals_scikit_learn_on_lists_with_one_relevant_item(k: int) -> None:
    hit = RANKS > 0
    relevance = np.zeros((len(RANKS), 12))
    # A target outside the list of 10 stands on place 12, beyond every k.
    relevance[np.arange(len(RANKS)), np.where(hit, RANKS - 1, 11)] = 1
    scores = np.tile(np.arange(12, 0, -1.0), (len(RANKS), 1))
    assert ndcg(RANKS, k).mean() == pytest.approx(ndcg_score(relevance, scores, k=k))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_equals_hits_counted_one_by_one(k: int) -> None:
    hits = sum(1 for rank in RANKS.tolist() if rank in range(1, k + 1))
    assert recall(RANKS, k).sum() == hits


def test_mrr_by_hand() -> None:
    assert mrr(np.array([1, 4, 0, 6]), 5).tolist() == [1.0, 0.25, 0.0, 0.0]


def test_coverage_and_novelty_by_hand() -> None:
    lists = np.array([[1, 2, 0], [2, 3, 4]])
    assert coverage(lists, 2, 8) == 3 / 8
    assert coverage(lists, 2, 0) is None
    counts = np.array([6, 2, 0, 0])  # with the ones: 7, 3, 1, 1 of 12
    expected = -(np.log2(7 / 12) + 2 * np.log2(3 / 12) + np.log2(1 / 12)) / 4
    assert novelty(lists, 2, counts) == pytest.approx(expected)
    assert novelty(np.zeros((1, 2), dtype=int), 2, counts) is None
    series = pl.Series(lists.tolist())
    with_counts = metrics_from_lists(series, (2, 3), num_items=8, item_counts=counts)
    assert [(v.metric, v.k) for v in with_counts] == [(m, k) for m in ("Coverage", "Novelty") for k in (2, 3)]
    assert {v.metric for v in metrics_from_lists(series, (2,), num_items=8)} == {"Coverage"}


def test_a_metric_is_known_by_its_aliases_in_any_case() -> None:
    assert [metric_named(text) for text in ("hr", "RECALL", "mrr")] == [
        ("Recall", "HR"),
        ("Recall", "Recall"),
        ("MRR",) * 2,
    ]
    with pytest.raises(ResultsError, match="unknown metric 'auc'; known: Recall, NDCG, MRR, Coverage, Novelty, HR"):
        metric_named("auc")


def test_unsigned_ranks_as_stored_give_the_same_values() -> None:
    of_ranks = [metric for metric in known_metrics().values() if isinstance(metric, RankMetric)]
    assert len(of_ranks) >= 3
    for metric in of_ranks:
        np.testing.assert_array_equal(metric.values(RANKS.astype(np.uint32), 10), metric.values(RANKS, 10))


def test_metrics_lie_between_0_and_1_grow_with_k_and_recall_bounds_the_others() -> None:
    values = {(v.metric, v.k): v.value for v in metrics_from_ranks(RANKS, (1, 5, 10), list_length=10)}
    for metric in rank_metrics():
        assert 0 <= values[metric, 1] <= values[metric, 5] <= values[metric, 10] <= values["Recall", 10] <= 1


def test_k_beyond_the_stored_lists_is_an_error_that_names_both() -> None:
    with pytest.raises(ResultsError, match="Recall@20 and stored lists of 10 items"):
        metrics_from_ranks(RANKS, (20,), list_length=10)


def test_unknown_metric_and_no_users_are_errors() -> None:
    with pytest.raises(ResultsError, match="known: Recall, NDCG, MRR"):
        user_values(RANKS, "AUC", 5, 10)
    with pytest.raises(ResultsError, match="at least one user"):
        metrics_from_ranks(np.array([], dtype=int), list_length=10)
