"""Oracles: the plain formulas of one row and one head at a time under autograd, and finite differences."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.nn.kernels.blocks import attention_block, feed_forward_block
from harness.nn.kernels.dropout import keep_mask, quantised
from harness.nn.ragged import AttentionLayout, Ragged

LENGTHS = np.array([3, 7, 1, 7, 2, 5, 1, 12])
HEADS, WIDTH, MODEL = 2, 3, 5
INNER = HEADS * WIDTH
CPU = torch.device("cpu")


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def self_attention_inputs() -> dict[str, Tensor]:
    return {
        "x_ND": drawn(int(LENGTHS.sum()), MODEL, seed=1),
        "scale_D": drawn(MODEL, seed=2),
        "w_in": drawn(3 * INNER, MODEL, seed=3),
        "w_out_DI": drawn(MODEL, INNER, seed=4),
        "bias_HQS": drawn(HEADS, 12, 12, seed=5),
    }


def cross_attention_inputs() -> dict[str, Tensor]:
    return {
        "x_ND": drawn(8 * 4, MODEL, seed=1),
        "scale_D": drawn(MODEL, seed=2),
        "w_in": drawn(INNER, MODEL, seed=3),
        "w_out_DI": drawn(MODEL, INNER, seed=4),
        "memory_MI": drawn(int(LENGTHS.sum()), 2 * INNER, seed=5),
    }


def one_at_a_time(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, query_lengths, key_lengths):
    """Attention by the plain formula, for each row and each head."""
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


def assert_same_gradients(actual: Tensor, expected: Tensor, inputs: dict[str, Tensor]) -> None:
    torch.testing.assert_close(actual, expected)
    upstream = drawn(*actual.shape, seed=7).detach()
    found = torch.autograd.grad(actual, list(inputs.values()), upstream)
    for name, a, b in zip(inputs, found, torch.autograd.grad(expected, list(inputs.values()), upstream), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("order", [np.arange(8), np.array([5, 2, 7, 0, 1, 6, 3, 4])])
def test_self_attention_has_the_values_and_gradients_of_one_row_at_a_time(order):
    inputs, lengths = self_attention_inputs(), LENGTHS[order]
    rows = Ragged.of(lengths, CPU)
    x, scale, w_in, w_out, bias = inputs.values()
    normed = F.rms_norm(x, (MODEL,), scale, 1e-6)
    mixed = one_at_a_time(*F.linear(normed, w_in).chunk(3, dim=1), bias, lengths, lengths)
    actual = attention_block(**inputs, layout=AttentionLayout(rows, rows, HEADS))
    assert_same_gradients(actual, x + F.linear(mixed, w_out), inputs)


def test_cross_attention_has_the_values_and_gradients_of_one_row_at_a_time():
    inputs, key_rows = cross_attention_inputs(), Ragged.of(LENGTHS, CPU)
    query_rows = Ragged.uniform(8, 4, CPU).banded_as(key_rows)
    x, scale, w_in, w_out, memory = inputs.values()
    queries = F.linear(F.rms_norm(x, (MODEL,), scale, 1e-6), w_in)
    mixed = one_at_a_time(queries, *memory.chunk(2, dim=1), None, query_rows.lengths, LENGTHS)
    actual = attention_block(**inputs, layout=AttentionLayout(query_rows, key_rows, HEADS))
    assert_same_gradients(actual, x + F.linear(mixed, w_out), inputs)


@pytest.mark.parametrize("reads_a_memory", [False, True])
def test_gradients_with_dropout_are_those_of_finite_differences_under_the_same_masks(reads_a_memory):
    inputs = cross_attention_inputs() if reads_a_memory else self_attention_inputs()
    keys = Ragged.of(LENGTHS, CPU)
    queries = Ragged.uniform(8, 4, CPU).banded_as(keys) if reads_a_memory else keys

    def seeded(*values: Tensor) -> Tensor:
        torch.manual_seed(9)
        named = dict(zip(inputs, values, strict=True))
        return attention_block(**named, layout=AttentionLayout(queries, keys, HEADS), rate=0.3)

    assert torch.autograd.gradcheck(seeded, tuple(inputs.values()), fast_mode=True)


def test_dropout_keeps_the_mean_of_what_attention_adds():
    rows = Ragged.of(np.full(4000, 4), CPU)
    x = torch.ones(16_000, 1)  # normed: 1
    w_in = torch.tensor([[0.0], [0.0], [1.0]])  # all scores 0, all values 1: without dropout 1 is added
    torch.manual_seed(0)
    added = attention_block(x, torch.ones(1), w_in, torch.ones(1, 1), AttentionLayout(rows, rows, 1), rate=0.3) - x
    rate = quantised(0.3)
    # Of one mean of four draws, times an independent draw: E[a²] E[b²] - 1.
    variance = (1 + rate / (1 - rate) / 4) / (1 - rate) - 1
    assert added.mean().item() == pytest.approx(1.0, abs=4 * (variance / len(x)) ** 0.5)
    assert added.var().item() == pytest.approx(variance, rel=0.05)


def test_feed_forward_has_the_values_and_gradients_of_the_plain_formula_under_the_same_masks():
    inputs = {
        "x_ND": drawn(200, MODEL, seed=1),
        "scale_D": drawn(MODEL, seed=2),
        "wi_JD": drawn(30, MODEL, seed=3),
        "wo_DJ": drawn(MODEL, 30, seed=4),
    }
    x, scale, wi, wo = inputs.values()
    torch.manual_seed(1)
    actual = feed_forward_block(**inputs, rate=0.25)
    torch.manual_seed(1)
    hidden_kept = keep_mask(torch.Size([200, 30]), 0.25, CPU)
    kept = keep_mask(x.shape, 0.25, CPU)
    hidden = F.relu(F.linear(F.rms_norm(x, (MODEL,), scale, 1e-6), wi)) * hidden_kept / 0.75
    assert_same_gradients(actual, x + F.linear(hidden, wo) * kept / 0.75, inputs)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_blocks_under_autocast_return_full_precision_and_gradients_near_those_without(rate):
    rows = Ragged.of(LENGTHS, CPU)
    attention = {name: value.detach().float().requires_grad_() for name, value in self_attention_inputs().items()}
    feed_forward = {
        "x_ND": attention["x_ND"],
        "scale_D": attention["scale_D"],
        "wi_JD": torch.randn(30, MODEL, requires_grad=True),
        "wo_DJ": torch.randn(MODEL, 30, requires_grad=True),
    }
    for run, inputs in (
        (lambda: attention_block(**attention, layout=AttentionLayout(rows, rows, HEADS), rate=rate), attention),
        (lambda: feed_forward_block(**feed_forward, rate=rate), feed_forward),
    ):
        torch.manual_seed(2)
        exact = run()
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = run()
        assert rounded.dtype == torch.float32
        upstream = torch.randn(exact.shape, generator=torch.Generator().manual_seed(3))
        # The backward pass runs outside of autocast, as it does in the threads of a GPU's.
        found = torch.autograd.grad(rounded, list(inputs.values()), upstream)
        for name, a, b in zip(inputs, found, torch.autograd.grad(exact, list(inputs.values()), upstream), strict=True):
            assert a.dtype == torch.float32, name
            assert ((a - b).norm() / b.norm()).item() < 0.05, name
