"""Each kernel in both forms. Oracle: the plain form under autograd, in float64, with the same dropout masks."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.errors import UsageError
from harness.nn.kernels import switch
from harness.nn.kernels.attention import attention
from harness.nn.kernels.blocks import attention_block, feed_forward_block
from harness.nn.kernels.dropout import dropout
from harness.nn.kernels.gap_loss import gap_loss
from harness.nn.kernels.linear_relu import linear_relu
from harness.nn.kernels.rms import unit_rms
from harness.nn.kernels.switch import form_of_environment, form_on, native_kernels, plain_kernels
from harness.nn.ragged import AttentionLayout, Ragged
from harness.nn.sasrec import SelfAttention
from harness.sequence.losses import chunked_cross_entropy, linear_cross_entropy

CPU = torch.device("cpu")
LENGTHS = np.array([3, 7, 1, 7, 2, 5, 1, 12])
TOKENS, HEADS, INNER, MODEL = 38, 2, 6, 5
KEYS = Ragged.of(LENGTHS, CPU)
SELF = AttentionLayout(KEYS, KEYS, HEADS)
CROSS = AttentionLayout(Ragged.uniform(8, 4, CPU).banded_as(KEYS), KEYS, HEADS)


def self_block(x: Tensor, scale: Tensor, w_in: Tensor, w_out: Tensor, bias: Tensor, rate: float) -> Tensor:
    return attention_block(x, scale, w_in, w_out, SELF, bias_HQS=bias, rate=rate)


def cross_block(x: Tensor, scale: Tensor, w_in: Tensor, w_out: Tensor, memory: Tensor, rate: float) -> Tensor:
    return attention_block(x, scale, w_in, w_out, CROSS, memory_MI=memory, rate=rate)


KERNELS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "dropout": (partial(dropout, training=True), [(40, 7)]),
    "unit rms": (lambda x, rate: unit_rms(x), [(40, 7)]),
    "linear and relu": (lambda *x, rate: linear_relu(*x), [(20, 7), (6, 7), (6,), (5, 6), (5,)]),
    "gap loss": (
        lambda e0, e1, v0, v1, rate: gap_loss(0.7, 0.2, (e0, e1), (v0, v1)),
        [(9, 4), (9, 4), (9, 4), (9, 4)],
    ),
    "self-attention": (
        lambda x, bias, rate: attention(x, None, bias, SELF, rate),
        [(TOKENS, 3 * INNER), (HEADS, 12, 12)],
    ),
    "cross-attention": (
        lambda x, memory, rate: attention(x, memory, None, CROSS, rate),
        [(32, INNER), (TOKENS, 2 * INNER)],
    ),
    "self-attention block": (
        self_block,
        [(TOKENS, MODEL), (MODEL,), (3 * INNER, MODEL), (MODEL, INNER), (HEADS, 12, 12)],
    ),
    "cross-attention block": (
        cross_block,
        [(32, MODEL), (MODEL,), (INNER, MODEL), (MODEL, INNER), (TOKENS, 2 * INNER)],
    ),
    "feed-forward block": (feed_forward_block, [(TOKENS, MODEL), (MODEL,), (9, MODEL), (MODEL, 9)]),
    "chunked cross-entropy": (
        lambda states, table, rate: chunked_cross_entropy(states, table, torch.arange(100) % 13, classes_at_once=5),
        [(100, 7), (13, 7)],
    ),
    "cross-entropy": (
        lambda states, table, rate: linear_cross_entropy(states, table, torch.arange(100) % 13),
        [(100, 7), (13, 7)],
    ),
}


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("name", KERNELS)
def test_value_and_gradients_of_a_kernel_are_those_of_its_plain_form_under_the_same_masks(name, rate):
    kernel, shapes = KERNELS[name]
    stream = torch.Generator().manual_seed(1)
    inputs = [torch.randn(shape, generator=stream, dtype=torch.double).requires_grad_() for shape in shapes]

    def value_and_gradients() -> tuple[Tensor, ...]:
        torch.manual_seed(2)
        value = kernel(*inputs, rate=rate)
        upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=torch.double)
        return value, *torch.autograd.grad(value, inputs, upstream)

    fast = value_and_gradients()
    with plain_kernels():
        plain = value_and_gradients()
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_the_plain_form_has_no_gradient_by_hand():
    x = torch.randn(4, 3, requires_grad=True)
    assert unit_rms(x).grad_fn.name() == "_UnitRmsBackward"
    with plain_kernels():
        assert unit_rms(x).grad_fn.name() == "MulBackward0"


@pytest.fixture
def fresh_environment():
    form_of_environment.cache_clear()
    yield
    form_of_environment.cache_clear()


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS, np.array([4, 4, 4])])
def test_torchs_own_attention_has_the_value_and_gradients_of_the_plain_form(is_causal, lengths):
    torch.manual_seed(0)
    module = SelfAttention(8, HEADS, 0.0, is_causal).double()
    x = torch.randn(lengths.sum(), 8, dtype=torch.double, requires_grad=True)
    upstream = torch.randn(lengths.sum(), 8, dtype=torch.double)
    found = []
    for kernels in (plain_kernels, native_kernels):
        with kernels():
            value = module(x, x, Ragged.of(lengths, CPU))
        found.append((value, *torch.autograd.grad(value, [x, *module.parameters()], upstream)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_torchs_own_dropout_has_the_rate_as_given_and_is_off_in_evaluation():
    torch.manual_seed(0)
    x = torch.ones(100_000)
    with native_kernels():
        assert dropout(x, 0.1, training=False) is x
        found = dropout(x, 0.1, training=True)
    assert set(found.unique().tolist()) == {0.0, float(torch.tensor(1.0) / torch.tensor(0.9))}
    assert (found == 0).float().mean().item() == pytest.approx(0.1, abs=0.005)  # 5 standard errors


@pytest.mark.parametrize(("value", "form"), [("plain", "plain"), ("fast", "fast"), ("native", "native"), ("", "fast")])
def test_the_environment_chooses_the_form(monkeypatch, fresh_environment, value, form):
    monkeypatch.setenv(switch.VARIABLE, value)
    assert form_on(CPU) == form


def test_torchs_own_kernels_run_on_other_devices_unless_told_otherwise():
    assert form_on(torch.device("cuda")) == "native"
    with plain_kernels():
        assert form_on(torch.device("cuda")) == "plain"


def test_an_unknown_form_is_refused_in_one_line(monkeypatch, fresh_environment):
    monkeypatch.setenv(switch.VARIABLE, "slow")
    with pytest.raises(UsageError, match="HARNESS_KERNELS must be fast, plain or native, but got 'slow'"):
        form_on(CPU)
