"""Packed rows. Oracles: rows written out by hand."""

import torch

from harness.data.dataset import Sequences
from harness.nn.encoder import pack

CPU = torch.device("cpu")
ROWS = Sequences.from_rows([[7, 8], [3], [4, 5, 6]])


def test_pack_lays_rows_end_to_end_and_counts_places_from_both_ends():
    packed = pack(ROWS, CPU)
    assert packed.items_T.tolist() == [7, 8, 3, 4, 5, 6]
    assert packed.from_start_T.tolist() == [0, 1, 0, 0, 1, 2]
    assert packed.from_end_T.tolist() == [1, 0, 0, 2, 1, 0]
    assert packed.items_T[packed.ends_B].tolist() == [8, 3, 6]


def test_padded_rows_stand_side_by_side_with_zeros_at_their_right_and_pass_gradients_to_the_items_alone():
    packed = pack(ROWS, CPU)
    x = torch.tensor([[7.0], [8.0], [3.0], [4.0], [5.0], [6.0]], requires_grad=True)
    padded = packed.padded(x)
    assert padded[:, :, 0].tolist() == [[7, 8, 0], [3, 0, 0], [4, 5, 6]]
    assert torch.equal(padded.flatten(0, 1)[packed.slots_T], x)
    (padded * torch.arange(9.0).view(3, 3, 1)).sum().backward()
    assert x.grad[:, 0].tolist() == [0, 1, 3, 6, 7, 8]
