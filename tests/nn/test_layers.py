"""Oracles: binomial statistics, finite differences, torch's own RMS norm, masks read off the output."""

import pytest
import torch
from torch.nn import functional as F

from harness.nn.kernels.dropout import dropout, keep_mask, quantised
from harness.nn.kernels.rms import unit_rms
from harness.nn.layers import RMSNorm


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.004])
def test_keep_mask_keeps_the_quantised_share_within_four_standard_errors(rate):
    torch.manual_seed(0)
    count = 1_000_003  # not a multiple of the eight masks of a draw
    kept = keep_mask(torch.Size([count]), rate, torch.device("cpu")).double().mean().item()
    expected = 1 - quantised(rate)
    assert kept == pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5)


def test_the_eight_masks_of_one_draw_are_independent_of_their_place():
    torch.manual_seed(0)
    kept = keep_mask(torch.Size([100_000, 8]), 0.5, torch.device("cpu")).double()
    correlations = torch.corrcoef(kept.T) - torch.eye(8)
    assert kept.mean(0).sub(0.5).abs().max() < 4 * 0.5 / 100_000**0.5
    assert correlations.abs().max() < 4.5 / 100_000**0.5


def test_the_applied_rate_is_the_nearest_multiple_of_one_256th():
    assert quantised(0.1) == 26 / 256
    assert quantised(0.25) == 0.25
    assert quantised(0.0) == 0.0


def test_dropout_keeps_the_mean_and_sends_the_gradient_through_the_kept_elements_only():
    torch.manual_seed(0)
    x = torch.ones(1000, 1000, requires_grad=True)
    out = dropout(x, 0.1, training=True)
    scale = 256 / 230
    assert out.unique().tolist() == [0.0, pytest.approx(scale)]
    assert out.mean().item() == pytest.approx(1, abs=4 * (scale - 1) ** 0.5 / 1000)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad, out.detach())  # x is 1: both are mask times scale


def test_dropout_draws_from_torchs_default_generator():
    x = torch.ones(100)
    torch.manual_seed(3)
    first = dropout(x, 0.3, training=True)
    second = dropout(x, 0.3, training=True)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.3, training=True), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("rate", "training"), [(0.1, False), (0.0, True)])
def test_dropout_is_the_identity_in_eval_mode_and_at_rate_zero(rate, training):
    x = torch.randn(10, 10)
    assert dropout(x, rate, training) is x


def test_rms_norm_equals_torchs_and_folds_its_scale_into_the_next_linear_map():
    torch.manual_seed(0)
    norm, linear = RMSNorm(16).double(), torch.nn.Linear(16, 7, bias=False).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    x = torch.randn(3, 5, 16, dtype=torch.double)
    x[0, 0] = 0  # eps must keep this row finite
    expected = F.rms_norm(x, (16,), norm.weight, 1e-6)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.linear(x, linear), linear(expected))


def test_rms_norm_passes_finite_differences():
    torch.manual_seed(0)
    norm = RMSNorm(6).double()
    x = torch.randn(4, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: F.linear(unit_rms(x), weight * norm.weight),
        (x, torch.randn(3, 6, dtype=torch.double, requires_grad=True)),
    )
