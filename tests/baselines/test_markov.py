"""The Markov chain. Oracles: shares by hand, and a slow reference that walks through every pair in plain Python."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.markov import METHOD, MarkovConfig, fit_markov, load_markov, transitions
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext

CONTEXT = FitContext(0, Path("unused"))
NUM_ITEMS = 6


def dataset_of(rows, target=1):
    catalog = Catalog(tuple(str(item) for item in range(1, NUM_ITEMS + 1)))
    train = Sequences.from_rows(rows)
    return Dataset("made-up", "0", catalog, train, EvalCases(train, np.full(len(rows), target, dtype=np.int32)))


def dense(recommender, histories):
    """The score of every item for each history."""
    own = recommender.own_scores(histories)
    found = np.tile(recommender.shared_scores(), (len(histories), 1))
    rows = np.repeat(np.arange(len(histories)), np.diff(own.indptr))
    found[rows, own.indices] = own.data
    return found


def test_transitions_are_counted_within_users_and_fade_with_distance():
    counts = transitions(dataset_of([[1, 2, 3, 4], [2, 3]]), 2, 0.5).toarray()
    expected = np.zeros((NUM_ITEMS, NUM_ITEMS))
    expected[0, 1], expected[1, 2], expected[2, 3] = 1, 2, 1
    expected[0, 2], expected[1, 3] = 0.5, 0.5
    assert np.array_equal(counts, expected)


def test_scores_by_hand():
    config = MarkovConfig(window=2, distance_decay=0.5, recency_decay=0.5, shrinkage=1, popularity_weight=0.6)
    recommender = fit_markov(config, dataset_of([[1, 2, 3, 4], [2, 3]]), {}, CONTEXT)
    scores = dense(recommender, Sequences.from_rows([[3, 1, 2]]))
    # Item 2 (weight 1) led to 3 twice and to 4 half a time, of 2.5 + 1; item 1 (weight 0.5) to 2 once and to 3 half a
    # time, of 1.5 + 1; item 3 is out of the window. Interactions: 1, 2, 2, 1 of 6.
    np.testing.assert_allclose(scores[0], [0.1, 0.2 + 0.2, 0.2 + 2 / 3.5 + 0.1, 0.1 + 0.5 / 3.5, 0, 0])
    assert recommender.recommend(Sequences.from_rows([[3, 1, 2]]), 6).items.tolist() == [[3, 2, 4, 1, 5, 6]]
    assert recommender.health() == {"transitions": 5, "items_without_successor": 3}


def test_a_history_that_nothing_followed_falls_back_to_popularity_then_id():
    recommender = fit_markov(MarkovConfig(), dataset_of([[1, 2, 3, 4], [2, 3]]), {}, CONTEXT)
    assert recommender.recommend(Sequences.from_rows([[4], [6]]), 6).items.tolist() == [[2, 3, 1, 4, 5, 6]] * 2


def slow_scores(rows, history, config):
    counts = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for i, before in enumerate(row):
            for distance, after in enumerate(row[i + 1 : i + 1 + config.window], start=1):
                counts[before][after] += config.distance_decay ** (distance - 1)
    total = sum(map(len, rows))
    scores = [config.popularity_weight * sum(row.count(j) for row in rows) / total for j in range(1, NUM_ITEMS + 1)]
    for back, item in enumerate(history[::-1][: config.window]):
        for after, count in counts[item].items():
            share = count / (sum(counts[item].values()) + config.shrinkage)
            scores[after - 1] += config.recency_decay**back * share
    return scores


sequences = st.lists(st.lists(st.integers(1, NUM_ITEMS), min_size=1, max_size=8), min_size=1, max_size=5)
configs = st.builds(
    MarkovConfig,
    window=st.integers(1, 9),
    distance_decay=st.sampled_from([0.25, 0.5, 1.0]),
    recency_decay=st.sampled_from([0.25, 0.5, 1.0]),
    shrinkage=st.sampled_from([0.0, 2.0]),
    popularity_weight=st.sampled_from([0.0, 0.001, 1.0]),
)


@given(sequences, sequences, configs)
def test_sparse_scores_equal_the_slow_reference(rows, histories, config):
    recommender = fit_markov(config, dataset_of(rows), {}, CONTEXT)
    found = dense(recommender, Sequences.from_rows(histories))
    np.testing.assert_allclose(found, [slow_scores(rows, history, config) for history in histories], atol=1e-12)


@given(sequences, configs)
def test_each_item_is_recommended_once_best_first(rows, config):
    items, scores = fit_markov(config, dataset_of(rows), {}, CONTEXT).recommend(Sequences.from_rows(rows), NUM_ITEMS)
    assert np.array_equal(np.sort(items, axis=1), np.tile(np.arange(1, NUM_ITEMS + 1), (len(rows), 1)))
    assert (np.diff(scores, axis=1) <= 0).all()


def test_validation_targets_are_not_counted():
    one, other = (fit_markov(MarkovConfig(), dataset_of([[1, 2], [2, 3]], target), {}, CONTEXT) for target in (1, 6))
    assert (one.shares_NN != other.shares_NN).nnz == 0
    assert np.array_equal(one.popularity_N, other.popularity_N)


@pytest.mark.parametrize("rows", [[[1, 2, 3, 4], [2, 3]], [[1], [2]]], ids=["transitions", "none"])
def test_a_saved_recommender_recommends_the_same_after_loading(tmp_path, rows):
    dataset = dataset_of(rows)
    recommender = METHOD.fit(MarkovConfig(), dataset, {}, CONTEXT)
    recommender.save(tmp_path / "saved")
    loaded = load_markov(tmp_path / "saved", MarkovConfig(), dataset, CONTEXT)
    for before, after in zip(recommender.recommend(dataset.train, 6), loaded.recommend(dataset.train, 6), strict=True):
        assert np.array_equal(before, after)
