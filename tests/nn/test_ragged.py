"""Oracles: hand-made layouts, properties of the bands."""

import numpy as np
import torch

from harness.nn.ragged import LEAST_SHARE, Ragged

CPU = torch.device("cpu")


def test_bands_hold_every_row_once_and_rows_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 80, 500)
    bands = Ragged.of(lengths, CPU).bands
    assert sorted(np.concatenate([band.rows for band in bands]).tolist()) == list(range(500))
    for band in bands:
        assert band.width == lengths[band.rows].max()
        assert lengths[band.rows].min() >= LEAST_SHARE * band.width
        assert (band.padding_bias is None) == (lengths[band.rows].min() == band.width)


def test_slots_of_a_layout_worked_out_by_hand():
    rows = Ragged(np.array([1, 2]), [np.array([1, 0])], CPU)  # one band, the longer row first
    gather = rows.gather(1, 1)
    assert gather.to_slots.tolist() == [1, 2, 0, 0]  # tokens 1 and 2, then token 0 and its repetition as padding
    assert gather.to_tokens.tolist() == [2, 0, 1]
    assert gather.padding.tolist() == [3]


def test_padding_stands_behind_the_tokens_of_its_row_and_head():
    rows = Ragged(np.array([1, 2]), [np.array([1, 0])], CPU)
    gather = rows.gather(2, 2)  # two parts of two heads: a token holds part 0 head 0, 0 1, 1 0, 1 1
    assert gather.to_slots.tolist() == [4, 8, 5, 9, 0, 0, 1, 1, 6, 10, 7, 11, 2, 2, 3, 3]
    assert gather.to_tokens.tolist() == [4, 6, 12, 14, 0, 2, 8, 10, 1, 3, 9, 11]
    assert gather.padding.tolist() == [5, 7]


def test_tokens_come_back_from_their_slots():
    lengths = np.random.default_rng(1).integers(1, 30, 40)
    rows = Ragged.of(lengths, CPU)
    tokens = torch.randn(int(lengths.sum()), 3 * 2 * 5)
    gather = rows.gather(3, 2)
    assert torch.equal(gather.tokens(gather.slots(tokens)), tokens)
