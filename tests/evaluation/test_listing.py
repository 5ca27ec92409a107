"""What an evaluation keeps of each case. Oracles: Python's sort and loops over one user at a time, and small sums."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.evaluation.listing import code_places, listed_in_history, listing_of, outcomes_of
from harness.evaluation.outcomes import evaluate
from harness.evaluation.ranking import best_items
from harness.interfaces import Recommendations
from results.store.outcomes import OUTCOMES_SCHEMA

N = 7


class Scored:
    """Gives every item a score, two chunks of users at a time, in an order of its own."""

    def __init__(self, scores_UN):
        self.scores_UN = torch.tensor(scores_UN, dtype=torch.float32)

    def scores(self, histories):
        for rows in np.array_split(np.arange(len(histories) - 1, -1, -1), 2):
            yield rows, self.scores_UN[rows]

    def recommend(self, histories, k):
        items, scores = best_items(self.scores_UN, k)
        return Recommendations(items.numpy(), scores.numpy())


class Searched:
    """Finds the items of given lists, 0 where a sequence is no item's; `tuples` numbers each item's codes."""

    def __init__(self, lists, scores, tuples):
        self.lists, self.listed_scores, self.tuples = np.array(lists), np.array(scores, dtype=np.float32), tuples

    def found(self, histories, places):
        return Recommendations(self.lists[:, :places], self.listed_scores[:, :places])

    def item_tuples(self):
        return np.array(self.tuples)


def data_set(train=((1, 2), (2, 3, 3))):
    train = Sequences.from_rows([list(row) for row in train])
    return Dataset("made-up", "f00d", Catalog(tuple("abcdefg")), train, EvalCases(train, train.items[:2]))


def cases_of(histories, targets):
    return EvalCases(Sequences.from_rows(histories), np.array(targets, dtype=np.int32))


users = st.lists(
    st.tuples(
        st.lists(st.integers(-2, 2), min_size=N, max_size=N),
        st.lists(st.integers(1, N), max_size=4),
        st.integers(1, N),
    ),
    min_size=1,
    max_size=5,
)


@given(users)
def test_ranks_with_and_without_the_history_are_those_of_a_sorted_list(drawn):
    scores, histories, targets = zip(*drawn, strict=True)
    data, cases = data_set(), cases_of(list(histories), targets)
    counts = [data.train.items.tolist().count(item) for item in range(1, N + 1)]
    listing = listing_of(Scored(scores), data, cases, 3, 50)
    for user, (row, history, target) in enumerate(drawn):
        order = sorted(range(1, N + 1), key=lambda item: (-row[item - 1], item))
        left = [item for item in order if item == target or item not in history]
        assert listing.items[user].tolist() == order
        assert listing.ranks[user] == order.index(target) + 1
        assert listing.unseen_ranks[user] == left.index(target) + 1
        ahead = sum(counts[item - 1] for item in left[: left.index(target)])
        everything = sum(counts[item - 1] for item in left if item != target)
        assert listing.popular_ahead[user] == pytest.approx(ahead / everything if everything else 0)


@given(users)
def test_the_first_places_are_what_an_evaluation_ranks(drawn):
    scores, histories, targets = zip(*drawn, strict=True)
    recommender, cases = Scored(scores), cases_of(list(histories), targets)
    listing = listing_of(recommender, data_set(), cases, 3, 5)
    assert listing.items.shape == (len(drawn), 5)
    expected = evaluate(recommender, cases, 3)
    assert np.array_equal(listing.items[:, :3], expected.items)
    assert np.array_equal(np.where(listing.ranks <= 3, listing.ranks, 0), expected.ranks)


def test_the_outcomes_of_a_search_by_hand():
    """Items 2 and 3 share their codes, and so do 5 and 6; -inf: nothing more was found."""
    inf = np.inf
    lists = [[4, 2, 3, 0, 1], [0, 5, 6, 2, 3], [1, 4, 0, 0, 0]]
    scores = [[-1, -2, -2, -3, -4], [-1, -2, -2, -3, -3], [-1, -2, -inf, -inf, -inf]]
    recommender = Searched(lists, scores, [0, 1, 1, 2, 3, 3, 4])
    cases = cases_of([[4, 4, 7], [1], [7, 1]], [3, 2, 7])
    data = data_set()
    rows = outcomes_of(recommender, data, cases, listing_of(recommender, data, cases, 3, 50)).to_dicts()
    assert rows[0] == {
        "user": 0,
        "target": 3,
        "items": [4, 2, 3, 0, 1],
        "scores": [-1, -2, -2, -3, -4],
        "seen": [True, False, False, False, False],
        "sharers": [1, 2, 2, 0, 1],
        "target_sharers": 2,
        "target_seen": False,
        "rank": 3,
        "unseen_rank": 2,  # item 4 stands in the history
        "candidates": 7 - 2 - 1,
        "popular_ahead": None,
        "code_rank": 2,
        "code_ahead": 1,
    }
    second = {name: rows[1][name] for name in ("rank", "unseen_rank", "code_rank", "code_ahead", "target_sharers")}
    assert second == {"rank": 4, "unseen_rank": 4, "code_rank": 3, "code_ahead": 3, "target_sharers": 2}
    assert rows[2]["items"] == [1, 4]
    assert rows[2]["seen"] == [True, False]
    assert (rows[2]["rank"], rows[2]["code_rank"]) == (0, 0)
    assert (rows[2]["target_seen"], rows[2]["candidates"]) == (True, 5)


def test_a_method_of_scores_has_codes_of_no_one_and_ranks_beyond_its_list():
    scores = [[7, 6, 5, 4, 3, 2, 1]]
    recommender, data, cases = Scored(scores), data_set(), cases_of([[2]], [6])
    frame = outcomes_of(recommender, data, cases, listing_of(recommender, data, cases, 3, 4))
    assert frame.schema == OUTCOMES_SCHEMA
    (row,) = frame.to_dicts()
    assert (row["items"], row["sharers"], row["target_sharers"]) == ([1, 2, 3, 4], [1] * 4, 1)
    assert (row["rank"], row["unseen_rank"], row["code_rank"], row["code_ahead"]) == (6, 5, 6, 5)
    # Item 2 is in the history; of the training interactions of 1, 3, 4, 5 and 7 all three stand before item 6.
    assert row["popular_ahead"] == 1


def test_another_recommender_is_asked_for_no_more_than_its_list():
    class Plain:
        def recommend(self, histories, k):
            assert k == 2
            return Recommendations(np.array([[3, 1]]), np.array([[2.0, 1.0]], dtype=np.float32))

    listing = listing_of(Plain(), data_set(), cases_of([[3]], [1]), 2, 50)
    assert (listing.ranks.tolist(), listing.unseen_ranks.tolist()) == ([2], [1])
    assert np.isnan(listing.popular_ahead).all()


@given(st.lists(st.lists(st.integers(-1, 3), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_places_among_sequences_are_those_of_a_loop(rows, target):
    rows = [sorted(row, key=lambda sequence: (sequence * 2) % 5) for row in rows]  # equal ones side by side
    places, ahead = code_places(np.array(rows), np.full(len(rows), target))
    for row, place, before in zip(rows, places, ahead, strict=True):
        seen, expected, found = 0, 0, 0
        for index, sequence in enumerate(row):
            seen += index == 0 or sequence == -1 or sequence != row[index - 1]
            if sequence == target:
                expected, found = seen, index
                break
        assert (place, before) == (expected, found)


def test_no_history_holds_nothing():
    assert not listed_in_history(np.array([[1, 0], [2, 3]]), cases_of([[], []], [1, 1])).any()
    assert listed_in_history(np.array([[9, 2]]), cases_of([[2, 3]], [1])).tolist() == [[False, True]]
