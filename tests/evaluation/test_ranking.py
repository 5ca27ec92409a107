"""Ranked lists from scores. Oracle: Python's sort by (score descending, id ascending)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.dataset import EvalCases, Sequences
from harness.errors import StageError
from harness.evaluation.outcomes import evaluate, target_ranks
from harness.evaluation.ranking import all_ranks, best_items, ranked, target_places


def sorted_items(scores):
    return sorted(range(1, len(scores) + 1), key=lambda item: (-scores[item - 1], item))


matrices = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.lists(st.integers(-2, 2), min_size=n, max_size=n), min_size=1, max_size=5)
)


@given(matrices, st.data())
def test_best_items_are_sorted_by_score_then_id_whatever_ties(scores, data):
    k = data.draw(st.integers(1, len(scores[0])))
    items, values = best_items(torch.tensor(scores, dtype=torch.float32), k)
    assert items.tolist() == [sorted_items(row)[:k] for row in scores]
    assert values.tolist() == [[row[item - 1] for item in sorted_items(row)[:k]] for row in scores]


@given(matrices, st.data())
def test_target_places_are_the_places_in_the_sorted_list(scores, data):
    targets = [data.draw(st.integers(1, len(row))) for row in scores]
    places = target_places(torch.tensor(scores, dtype=torch.float32), torch.tensor(targets))
    assert places.tolist() == [sorted_items(row).index(t) + 1 for row, t in zip(scores, targets, strict=True)]


def test_chunks_in_any_order_are_put_back_by_row_and_ranks_agree_with_the_lists():
    scores = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (7, 6)).astype(np.float32))

    def scorer(histories):
        for rows in ([6, 0, 3], [1, 2], [5, 4]):
            yield np.array(rows), scores[rows]

    histories = Sequences.from_rows([[1]] * 7)
    items, values = ranked(scorer, histories, 6)
    assert items.tolist() == [sorted_items(row) for row in scores.tolist()]
    assert np.array_equal(values, np.take_along_axis(scores.numpy(), items - 1, 1))
    targets = np.array([1, 2, 3, 4, 5, 6, 1], dtype=np.int32)
    assert np.array_equal(all_ranks(scorer, EvalCases(histories, targets)), target_ranks(items, targets))


def test_more_places_than_items_are_refused():
    with pytest.raises(AssertionError):
        best_items(torch.zeros(1, 3), 4)


NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "place"),
    [([0.1, NAN, 0.3], 4), ([NAN, 0.5, 0.3], 2), ([NAN, 0.5, NAN], 3), ([0.9, 0.5, 0.3], 2)],
)
def test_a_score_that_is_no_number_is_never_a_hit_and_never_helps(scores, place):
    """By hand: item 2 is the target; a NaN of its own puts it behind all, another's counts as ahead of it."""
    assert target_places(torch.tensor([scores]), torch.tensor([2])).tolist() == [place]


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_an_evaluation_with_a_score_that_is_not_finite_stops_with_one_line(value):
    class Broken:
        def recommend(self, histories, k):
            return np.array([[2, 1]]), np.array([[value, 0.5]], dtype=np.float32)

    cases = EvalCases(Sequences.from_rows([[1]]), np.array([2], dtype=np.int32))
    with pytest.raises(StageError, match=f"must be a finite number, but the fitted model gives {value}") as caught:
        evaluate(Broken(), cases, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", [3, 40, 10**6])
@pytest.mark.parametrize("k", [1, 10])
def test_the_best_of_many_items_are_those_of_a_sort(k: int, values: int, dtype: torch.dtype) -> None:
    """So many items that a bound is looked for; few and many equal scores, and a NaN, which counts as greatest."""
    stream = np.random.default_rng(values)
    scores = stream.integers(values, size=(4, 64 * k + 5)).astype(np.float64)
    scores[1, 3] = scores[2, -1] = np.inf
    scores[3, 7] = np.nan
    items, found = best_items(torch.from_numpy(scores).to(dtype), k)
    order = np.argsort(-np.nan_to_num(scores, nan=np.inf, posinf=1e9), axis=1, kind="stable")[:, :k]
    assert found.dtype == dtype
    np.testing.assert_array_equal(items, order + 1)
    np.testing.assert_array_equal(found, np.take_along_axis(scores, order, axis=1))
