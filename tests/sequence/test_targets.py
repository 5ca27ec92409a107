"""Rows with targets, and drawn items. Oracles: PrefixSamples, a filter in plain Python, and frequencies."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.samples import PrefixSamples
from harness.errors import DataError
from harness.sequence.targets import ItemDraws, TrainingRows, UnseenItems

NUM_ITEMS = 9


def dataset_of(rows, max_history):
    catalog = Catalog(tuple(str(item) for item in range(1, NUM_ITEMS + 1)))
    train = Sequences.from_rows(rows)
    cases = EvalCases(train.last(max_history), np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", catalog, train, cases, max_history)


def samples_of(rows):
    """Each target with the history that a causal network sees before it."""
    chosen = np.arange(len(rows))
    histories = rows.histories(chosen)
    found = []
    for row, back, target in zip(*rows.next_items(chosen), strict=True):
        history = histories.row(row)
        found.append((tuple(history[: len(history) - back].tolist()), int(target)))
    return found


sequences = st.lists(st.lists(st.integers(1, NUM_ITEMS), min_size=1, max_size=12), min_size=1, max_size=6)


@given(sequences, st.integers(1, 6))
def test_rows_of_every_next_item_hold_exactly_the_prefix_samples(rows, max_history):
    dataset = dataset_of(rows, max_history)
    samples = PrefixSamples.of(dataset)
    histories, targets = samples.batch(np.arange(len(samples)))
    expected = [(tuple(histories.row(i).tolist()), int(target)) for i, target in enumerate(targets)]
    found = TrainingRows.every_next_item(dataset)
    assert Counter(samples_of(found)) == Counter(expected)
    assert found.targets.sum() == found.weights.sum() == len(samples)
    for row, user in enumerate(found.users):
        place = found.starts[row]
        assert dataset.train.offsets[user] <= place < dataset.train.offsets[user + 1]


@given(sequences, st.integers(1, 6), st.integers(1, 8))
def test_rows_with_a_stride_hold_every_target_once_and_shorten_only_histories_beyond_the_first(rows, longest, stride):
    """Oracle: a loop over users and positions. A later window ends at a multiple of the stride, or at the last item."""
    expected, step = Counter(), min(stride, longest)
    for user, row in enumerate(rows):
        for end in range(1, len(row)):
            window_end = end if end <= longest else min(longest + -(-(end - longest) // step) * step, len(row) - 1)
            expected[user, tuple(row[max(0, window_end - longest) : end]), row[end]] += 1
    dataset = dataset_of(rows, longest)
    found = TrainingRows.every_next_item(dataset, stride)
    users = np.repeat(found.users, found.targets)
    assert Counter((int(user), *sample) for user, sample in zip(users, samples_of(found), strict=True)) == expected
    assert found.targets.sum() == found.weights.sum() == len(PrefixSamples.of(dataset))
    assert found.lengths.max(initial=0) <= longest
    windows = found.targets[(dataset.train.lengths >= 2).sum() :]
    assert windows.max(initial=0) <= stride


@given(sequences, st.integers(1, 6))
def test_prefix_samples_are_rows_of_one_target_at_their_end(rows, max_history):
    dataset = dataset_of(rows, max_history)
    expected = [
        (user, tuple(row[max(0, end - max_history) : end]), row[end])
        for user, row in enumerate(rows)
        for end in range(1, len(row))
    ]
    found = TrainingRows.prefix_samples(dataset)
    assert [(int(user), *sample) for user, sample in zip(found.users, samples_of(found), strict=True)] == expected
    assert found.targets.tolist() == found.weights.tolist() == [1] * len(expected)
    assert not found.next_items(np.arange(len(found)))[1].any()


def test_a_sequence_that_fits_is_one_row_and_each_later_target_adds_one():
    rows = TrainingRows.every_next_item(dataset_of([[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [7]], 3))
    assert sorted(zip(rows.users.tolist(), rows.lengths.tolist(), rows.targets.tolist(), strict=True)) == [
        (0, 3, 3),
        (1, 3, 1),
        (1, 3, 1),
        (1, 3, 3),
    ]


def test_where_all_histories_fit_a_stride_changes_no_row():
    dataset = dataset_of([[1, 2, 3, 4], [7], [5, 6, 7], [1, 2]], 3)
    plain, strided = (TrainingRows.every_next_item(dataset, stride) for stride in (1, 25))
    for name in ("starts", "lengths", "targets", "users", "weights"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(strided, name))
        assert getattr(plain, name).dtype == getattr(strided, name).dtype == np.int64


def test_rows_of_the_latest_window_end_before_the_last_item_predict_at_each_position_and_count_as_users():
    rows = TrainingRows.latest_window(dataset_of([[1, 2, 3, 4, 5], [6], [7, 8]], 3))
    assert samples_of(rows) == [((2,), 3), ((2, 3), 4), ((2, 3, 4), 5), ((7,), 8)]
    assert rows.weights.tolist() == [1, 1]


@given(sequences, st.integers(0, 100))
def test_an_unseen_item_is_one_that_the_user_does_not_have(rows, seed):
    rows = [[item for item in row if item != 9] or [1] for row in rows]
    users = np.random.default_rng(seed).integers(0, len(rows), 50)
    (drawn,) = UnseenItems.of(Sequences.from_rows(rows), NUM_ITEMS).draw(users, np.random.default_rng(seed))
    assert all(1 <= item <= NUM_ITEMS and item not in rows[user] for user, item in zip(users, drawn, strict=True))


def test_unseen_items_are_drawn_uniformly():
    unseen = UnseenItems.of(Sequences.from_rows([[1, 2], [5, 1, 9, 5, 2]]), NUM_ITEMS)
    (drawn,) = unseen.draw(np.ones(60_000, dtype=np.int64), np.random.default_rng(0))
    counts = Counter(drawn.tolist())
    assert set(counts) == {3, 4, 6, 7, 8}
    # Five standard deviations of a binomial with n = 60,000 and p = 1/5.
    assert all(abs(count - 12_000) < 5 * (60_000 * 0.2 * 0.8) ** 0.5 for count in counts.values())


def test_a_user_with_every_item_is_refused_in_one_line():
    with pytest.raises(DataError, match="a user has seen all 9") as raised:
        UnseenItems.of(Sequences.from_rows([list(range(1, 10))]), NUM_ITEMS)
    assert "\n" not in str(raised.value)


def test_popular_items_are_drawn_by_their_interactions_and_one_more_and_told_how_often():
    dataset = dataset_of([[1, 2, 3, 2, 2], [4, 2, 9, 9]], 5)
    counts = np.bincount(dataset.train.items, minlength=NUM_ITEMS + 1)[1:] + 1
    items, log_expected = ItemDraws.of(dataset, "popularity", 100_000).draw(
        np.zeros(3, dtype=np.int64), np.random.default_rng(0)
    )
    shares = counts / counts.sum()
    assert np.bincount(items, minlength=NUM_ITEMS + 1)[1:] / 100_000 == pytest.approx(shares, abs=0.01)
    assert np.exp(log_expected) == pytest.approx(100_000 * shares[items - 1], rel=1e-5)
