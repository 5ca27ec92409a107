"""Popularity. Oracle: counts by hand."""

from pathlib import Path

import numpy as np

from baselines.popularity import METHOD, PopularityConfig, fit_popularity, load_popularity
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext

CONTEXT = FitContext(0, Path("unused"))
# Item counts 1..5: 1, 3, 0, 3, 1. The validation targets, all of item 3, must not count.
ROWS = [[2, 4, 1], [4, 2], [2, 4, 5]]
TRAIN = Sequences.from_rows(ROWS)
CASES = EvalCases(TRAIN, np.array([3, 3, 3], dtype=np.int32))
DATASET = Dataset("hand", "0", Catalog(tuple("abcde")), TRAIN, CASES)


def test_items_are_ranked_by_training_count_then_id():
    recommender = fit_popularity(PopularityConfig(), DATASET, {}, CONTEXT)
    items, scores = recommender.recommend(Sequences.from_rows([[1], [2, 4]]), 5)
    assert items.tolist() == [[2, 4, 1, 5, 3]] * 2
    assert scores.tolist() == [[3, 3, 1, 1, 0]] * 2
    assert recommender.recommend(Sequences.from_rows([[1]]), 1).items.tolist() == [[2]]
    assert recommender.health() == {"items_without_interactions": 1}


def test_a_saved_recommender_recommends_the_same_after_loading(tmp_path):
    recommender = METHOD.fit(PopularityConfig(), DATASET, {}, CONTEXT)
    recommender.save(tmp_path / "saved")
    loaded = load_popularity(tmp_path / "saved", PopularityConfig(), DATASET, CONTEXT)
    for before, after in zip(recommender.recommend(DATASET.train, 4), loaded.recommend(DATASET.train, 4), strict=True):
        assert np.array_equal(before, after)
