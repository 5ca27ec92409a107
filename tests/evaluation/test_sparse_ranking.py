"""Lists and ranks from few scores of a user's own. Oracle: the ranking of all items' scores written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from harness.data.dataset import EvalCases, Sequences
from harness.evaluation import sparse_ranking
from harness.evaluation.ranking import ranked, ranked_cases
from harness.evaluation.sparse_ranking import sparse_ranked, sparse_ranked_cases

N = 9


class Few:
    """Shared scores, and higher ones for the last item of a history and those after it."""

    def __init__(self, shared, steps):
        self.shared, self.steps = np.array(shared, dtype=np.float64), steps

    def shared_scores(self):
        return self.shared

    def own_scores(self, histories):
        rows, columns, values = [], [], []
        for user in range(len(histories)):
            last = int(histories.row(user)[-1])
            for back, step in enumerate(self.steps[last % len(self.steps)]):
                column = (last + back) % N
                rows.append(user), columns.append(column), values.append(self.shared[column] + step)
        order = np.arange(len(rows))[::-1]  # not in the items' order
        cells = (np.array(rows, dtype=int)[order], np.array(columns, dtype=int)[order])
        return sparse.csr_array((np.array(values, dtype=float)[order], cells), shape=(len(histories), N))

    def scores(self, histories):
        own = self.own_scores(histories).tocoo()
        scores = np.tile(self.shared, (len(histories), 1))
        scores[own.row, own.col] = own.data
        yield np.arange(len(histories)), torch.from_numpy(scores)


users = st.lists(
    st.tuples(st.lists(st.integers(1, N), min_size=1, max_size=5), st.integers(1, N)), min_size=1, max_size=6
)
few = st.builds(
    Few,
    st.lists(st.integers(0, 3), min_size=N, max_size=N),
    st.lists(st.lists(st.sampled_from([0, 0.5, 1, 2]), max_size=N), min_size=1, max_size=3),
)


@given(few, users, st.integers(1, N), st.lists(st.integers(0, 4), min_size=N, max_size=N), st.sampled_from([2, 1024]))
def test_lists_and_ranks_are_those_of_all_scores_whatever_ties_and_chunks(recommender, drawn, k, counts, size):
    cases = EvalCases(
        Sequences.from_rows([history for history, _ in drawn]), np.array([target for _, target in drawn], np.int32)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_ranking, "CHUNK_USERS", size)
        patch.setattr(sparse_ranking, "BLOCK_USERS", min(size, 3))
        found = sparse_ranked_cases(recommender, cases, k, np.array(counts))
        lists = sparse_ranked(recommender, cases.histories, k)
    expected = ranked_cases(recommender.scores, cases, k, np.array(counts))
    for name, array, wanted in zip(expected._fields, found, expected, strict=True):
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted, err_msg=name)
    for array, wanted in zip(lists, ranked(recommender.scores, cases.histories, k), strict=True):
        np.testing.assert_array_equal(array, wanted)
