"""Oracles: all ways to cut sorted rows into buckets, and loops over rows."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.nn.buckets import Bucket, Buckets, bucketed, placed

lengths_of_rows = st.lists(st.integers(1, 12), min_size=1, max_size=8).map(lambda x: np.array(sorted(x, reverse=True)))


@given(lengths_of_rows, st.integers(1, 4), st.integers(1, 3))
def test_buckets_hold_every_row_and_have_the_fewest_places_of_all_cuts(
    lengths: np.ndarray, most: int, step: int
) -> None:
    buckets = bucketed(lengths, most, step)
    assert len(buckets) <= most
    assert all(bucket.width % step == 0 for bucket in buckets)
    assert (np.repeat([bucket.width for bucket in buckets], [bucket.rows for bucket in buckets]) >= lengths).all()
    widths = -(-lengths // step) * step
    cuts = itertools.chain.from_iterable(itertools.combinations(range(1, len(lengths)), count) for count in range(most))
    fewest = min(
        sum((end - start) * widths[start] for start, end in itertools.pairwise((0, *cut, len(lengths)))) for cut in cuts
    )
    assert sum(bucket.rows * bucket.width for bucket in buckets) == fewest
    assert sum(bucket.rows for bucket in buckets) == len(lengths)


def test_rows_that_do_not_come_by_falling_length_are_refused() -> None:
    with pytest.raises(AssertionError, match="falling length"):
        bucketed(np.array([1, 2]), 2)


def test_items_stand_at_the_beginning_of_their_rows_and_padding_behind_them() -> None:
    lengths = np.array([3, 2, 1, 1])
    items = np.array([1, 2, 3, 4, 5, 6, 7])
    assert placed(items, lengths, [Bucket(2, 4), Bucket(2, 1)]).tolist() == [1, 2, 3, 0, 4, 5, 0, 0, 6, 7]


def test_means_and_padded_rows_leave_padding_out() -> None:
    lengths, buckets = np.array([3, 2, 1, 1]), [Bucket(2, 4), Bucket(2, 2)]
    is_token = torch.tensor([1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0], dtype=torch.bool)
    rows = Buckets(lengths, buckets, is_token)
    x = torch.randn(12, 5)
    firsts = (0, 4, 8, 10)
    expected = [x[first : first + length] for first, length in zip(firsts, lengths, strict=True)]
    torch.testing.assert_close(rows.pooled(x), torch.stack([row.mean(0) for row in expected]))
    padded, mask = rows.padded(x)
    assert padded.shape == (4, 4, 5)
    assert mask.sum(1).tolist() == lengths.tolist()
    for row, own, found in zip(expected, mask, padded, strict=True):
        assert torch.equal(found[own], row)
    biases = rows.padding_biases(torch.float32)
    assert [bias.shape for bias in biases] == [(2, 1, 1, 4), (2, 1, 1, 2)]
    assert torch.equal(torch.cat([bias.flatten() for bias in biases]) == 0, is_token)
