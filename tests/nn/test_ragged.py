"""Oracles: attention of one row and one head at a time, finite differences, hand-made layouts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.nn.layers import quantised
from harness.nn.ragged import LIKE, Ragged, attention

LENGTHS = np.array([3, 7, 1, 7, 2, 5, 1, 12])
HEADS, WIDTH = 2, 3
CPU = torch.device("cpu")


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def one_at_a_time(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, query_lengths, key_lengths):
    """The plain formula, for each row and each head."""
    rows = zip(
        queries.split(list(query_lengths)), keys.split(list(key_lengths)), values.split(list(key_lengths)), strict=True
    )
    out = []
    for q, k, v in rows:
        heads = []
        for head in range(HEADS):
            part = slice(head * WIDTH, (head + 1) * WIDTH)
            scores = q[:, part] @ k[:, part].T
            if bias is not None:
                scores = scores + bias[head, : len(q), : len(k)]
            heads.append(scores.softmax(-1) @ v[:, part])
        out.append(torch.cat(heads, dim=1))
    return torch.cat(out)


@pytest.mark.parametrize("order", [np.arange(8), np.array([5, 2, 7, 0, 1, 6, 3, 4])])
def test_self_attention_has_the_values_and_gradients_of_one_row_at_a_time(order):
    lengths = LENGTHS[order]
    projected = drawn(lengths.sum(), 3 * HEADS * WIDTH, seed=1)
    bias = drawn(HEADS, 12, 12, seed=2)
    rows = Ragged.of(lengths, CPU)
    actual = attention(projected, None, bias, queries=rows, keys=rows, num_heads=HEADS, rate=0.0)
    expected = one_at_a_time(*projected.chunk(3, dim=1), bias, lengths, lengths)
    torch.testing.assert_close(actual, expected)
    weights = drawn(*actual.shape, seed=3).detach()
    for a, b in zip(
        torch.autograd.grad((actual * weights).sum(), (projected, bias)),
        torch.autograd.grad((expected * weights).sum(), (projected, bias)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_cross_attention_has_the_values_and_gradients_of_one_row_at_a_time():
    queries, memory = drawn(8 * 4, HEADS * WIDTH, seed=4), drawn(LENGTHS.sum(), 2 * HEADS * WIDTH, seed=5)
    key_rows = Ragged.of(LENGTHS, CPU)
    query_rows = Ragged.of(np.full(8, 4), CPU).grouped_as(key_rows)
    actual = attention(queries, memory, None, queries=query_rows, keys=key_rows, num_heads=HEADS, rate=0.0)
    expected = one_at_a_time(queries, *memory.chunk(2, dim=1), None, query_rows.lengths, LENGTHS)
    torch.testing.assert_close(actual, expected)
    weights = drawn(*actual.shape, seed=6).detach()
    for a, b in zip(
        torch.autograd.grad((actual * weights).sum(), (queries, memory)),
        torch.autograd.grad((expected * weights).sum(), (queries, memory)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_gradients_with_dropout_are_those_of_finite_differences_under_the_same_masks():
    projected = drawn(LENGTHS.sum(), 3 * HEADS * WIDTH, seed=7)
    bias = drawn(HEADS, 12, 12, seed=8)
    rows = Ragged.of(LENGTHS, CPU)

    def seeded(projected: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(9)
        return attention(projected, None, bias, queries=rows, keys=rows, num_heads=HEADS, rate=0.3)

    assert torch.autograd.gradcheck(seeded, (projected, bias), fast_mode=True)


def test_dropout_keeps_the_mean_of_what_is_read():
    rows = Ragged.of(np.full(2000, 4), CPU)
    projected = torch.zeros(8000, 3 * HEADS * WIDTH)
    projected[:, 2 * HEADS * WIDTH :] = 1.0  # all values 1, all scores 0: without dropout every output is 1
    torch.manual_seed(0)
    out = attention(projected, None, None, queries=rows, keys=rows, num_heads=HEADS, rate=0.3)
    rate = quantised(0.3)
    standard_error = (rate / (1 - rate) / 4 / (8000 * HEADS)) ** 0.5  # of a mean of four draws at each token and head
    assert out.mean().item() == pytest.approx(1.0, abs=4 * standard_error)
    assert out.std() > 0.1


def test_groups_hold_every_row_once_and_rows_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 80, 500)
    groups = Ragged.of(lengths, CPU).groups
    assert sorted(np.concatenate([group.rows for group in groups]).tolist()) == list(range(500))
    for group in groups:
        assert group.width == lengths[group.rows].max()
        assert lengths[group.rows].min() >= LIKE * group.width
        assert (group.padding_bias is None) == (lengths[group.rows].min() == group.width)


def test_slots_of_a_layout_worked_out_by_hand():
    rows = Ragged(np.array([1, 2]), [np.array([1, 0])], CPU)  # one group, the longer row first
    gather = rows.gather(1, 1)
    assert gather.to_slots.tolist() == [1, 2, 0, 0]  # tokens 1 and 2, then token 0 and its repetition as padding
    assert gather.to_tokens.tolist() == [2, 0, 1]
    assert gather.padding.tolist() == [3]
