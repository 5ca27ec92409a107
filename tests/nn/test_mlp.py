"""Oracles: the same layers one by one under autograd."""

import pytest
import torch
from torch import Tensor

from harness.nn.mlp import MLP, mlp


def one_by_one(layers: MLP, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def made() -> tuple[MLP, Tensor]:
    layers = mlp((7, 6, 5, 3), torch.Generator().manual_seed(0)).double()
    for name, parameter in layers.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return layers, torch.randn(20, 7, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("reaches_input", [True, False])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_values_and_gradients_are_those_of_the_layers_one_by_one(reaches_input, is_frozen):
    layers, x = made()
    layers.requires_grad_(not is_frozen)
    x.requires_grad_(reaches_input)
    wanted = [*([] if is_frozen else layers.parameters()), *([x] if reaches_input else [])]
    actual, expected = layers(x), one_by_one(layers, x)
    torch.testing.assert_close(actual, expected)
    assert actual.requires_grad == bool(wanted)
    if wanted:
        upstream = torch.randn_like(expected)
        found = torch.autograd.grad(actual, wanted, upstream)
        for a, b in zip(found, torch.autograd.grad(expected, wanted, upstream), strict=True):
            torch.testing.assert_close(a, b)


def test_one_of_several_layers_may_be_frozen():
    layers, x = made()
    layers[2].requires_grad_(False)
    wanted = [parameter for parameter in layers.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(layers(x).square().sum(), wanted)
    for a, b in zip(found, torch.autograd.grad(one_by_one(layers, x).square().sum(), wanted), strict=True):
        torch.testing.assert_close(a, b)


def test_input_and_upstream_gradient_are_not_written_over():
    layers, x = made()
    before, upstream = x.clone(), torch.ones(20, 3, dtype=torch.double)
    layers(x).backward(upstream)
    assert torch.equal(x, before)
    assert torch.equal(upstream, torch.ones_like(upstream))


def test_under_autocast_gradients_are_near_those_without():
    layers, x = made()
    layers, x = layers.float(), x.float()
    exact = torch.autograd.grad(layers(x).sum(), list(layers.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        out = layers(x)
    for a, b in zip(torch.autograd.grad(out.float().sum(), list(layers.parameters())), exact, strict=True):
        assert a.dtype == torch.float32
        assert ((a - b).norm() / b.norm()).item() < 0.05


def test_weights_are_xavier_normal_of_the_generator_and_the_global_one_is_left_alone() -> None:
    before = torch.get_rng_state()
    layers, stream = mlp((7, 6, 5), torch.Generator().manual_seed(3)), torch.Generator().manual_seed(3)
    assert torch.equal(torch.get_rng_state(), before)
    for place, (fan_in, fan_out) in ((0, (7, 6)), (2, (6, 5))):
        weight, bias = layers[place].parameters()
        expected = torch.nn.init.xavier_normal_(torch.empty(fan_out, fan_in), generator=stream)
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=0)
        assert not bias.any()
        assert weight.requires_grad
        assert bias.requires_grad
