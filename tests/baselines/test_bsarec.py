"""BSARec. Oracles: a padded network in plain loops, made from the formulas of METHODS B.8, with copied weights; sums of
sines and cosines; the published number of parameters."""

import cmath
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.bsarec import BSAREC, METHOD, BSARecConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.bsarec import low_pass
from harness.nn.encoder import pack

CPU = torch.device("cpu")
LONGEST = 8
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 8, 7], [2, 7], [9, 8, 7]]
SIZES = BSARecConfig(hidden_size=6, num_heads=2, cutoff=3, alpha=0.3, legacy_pad=True)


def dataset_of(rows=ROWS, num_items=9, longest=LONGEST):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences, np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple(map(str, range(num_items)))), sequences, cases, longest)


def network(config=SIZES):
    """The network in double precision with weights that make every part matter."""
    built = BSAREC.new(config, dataset_of(), FitContext(0, Path())).network.eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=generator)
    return built.double()


@torch.no_grad()
def last_states(net, rows):
    packed = pack(Sequences.from_rows(rows), CPU)
    return net(packed, packed.ends_B)


def normed(x, norm):
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    parts = zip(x, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    return [(value - mean) / math.sqrt(variance + 1e-12) * scale + shift for value, scale, shift in parts]


def linear(x, layer):
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(w * value for w, value in zip(row, x, strict=True)) + bias for row, bias in rows]


def slow_low(series, cutoff):
    """The low frequencies of a real series: bins 0 to cutoff // 2 of its discrete Fourier transform, and back."""
    size = len(series)
    kept = [k for k in range(size) if min(k, size - k) <= cutoff // 2]
    spectrum = {k: sum(x * cmath.exp(-2j * math.pi * k * t / size) for t, x in enumerate(series)) for k in kept}
    return [
        sum(value * cmath.exp(2j * math.pi * k * t / size) for k, value in spectrum.items()).real / size
        for t in range(size)
    ]


def slow_attention(layer, x, is_padding):
    width = len(x[0]) // SIZES.num_heads
    q, k, v = ([linear(each, part) for each in x] for part in (layer.query, layer.key, layer.value))
    out = []
    for i in range(len(x)):
        mixed = []
        for head in range(SIZES.num_heads):
            own = slice(head * width, (head + 1) * width)
            scores = [
                sum(a * b for a, b in zip(q[i][own], k[j][own], strict=True)) / math.sqrt(width)
                - 1e4 * (j > i or is_padding[j])
                for j in range(len(x))
            ]
            weights = [math.exp(score - max(scores)) for score in scores]
            total = sum(weights)
            mixed += [
                sum(w * each[c] for w, each in zip(weights, v, strict=True)) / total for c in range(own.start, own.stop)
            ]
        out.append(linear(mixed, layer.output))
    return out


def slow_layer(layer, x, is_padding):
    low = list(zip(*(slow_low(channel, SIZES.cutoff) for channel in zip(*x, strict=True)), strict=True))
    beta, out = layer.beta.tolist(), []
    for own, own_low, mixed in zip(x, low, slow_attention(layer, x, is_padding), strict=True):
        filtered = [value + lo + b**2 * (value - lo) for value, lo, b in zip(own, own_low, beta, strict=True)]
        attended = [value + m for value, m in zip(own, mixed, strict=True)]
        pairs = zip(normed(filtered, layer.filter_norm), normed(attended, layer.attention_norm), strict=True)
        hidden = [SIZES.alpha * f + (1 - SIZES.alpha) * g for f, g in pairs]
        inner = [value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in linear(hidden, layer.inner)]
        out.append(normed([h + o for h, o in zip(hidden, linear(inner, layer.outer), strict=True)], layer.norm))
    return out


def slow_state(net, row, pads):
    items = [0] * pads + row
    places = net.position_table.weight[-len(items) :].tolist()
    x = [
        normed([e + p for e, p in zip(net.item_table.weight[item].tolist(), place, strict=True)], net.norm)
        for item, place in zip(items, places, strict=True)
    ]
    for layer in net.layers:
        x = slow_layer(layer, x, [item == 0 for item in items])
    return torch.tensor(x[-1], dtype=torch.float64)


def test_states_and_logits_are_those_of_the_padded_plain_loops():
    net = network()
    expected = torch.stack([slow_state(net, row, LONGEST - len(row)) for row in ROWS])
    states = last_states(net, ROWS)
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(states @ net.item_rows_VD.T, expected @ net.item_table.weight.T, rtol=1e-5, atol=1e-5)


def test_without_padding_states_are_those_of_rows_that_stand_alone():
    net = network(SIZES.replace(padded=False))
    expected = torch.stack([slow_state(net, row, 0) for row in ROWS])
    torch.testing.assert_close(last_states(net, ROWS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
def test_other_rows_change_no_state_and_places_may_come_in_any_order(padded):
    net = network(SIZES.replace(padded=padded))
    torch.testing.assert_close(last_states(net, ROWS), torch.cat([last_states(net, [row]) for row in ROWS]))
    packed = pack(Sequences.from_rows(ROWS), CPU)
    with torch.no_grad():
        chosen = net(packed, packed.ends_B[[3, 0, 3]])
    torch.testing.assert_close(chosen, last_states(net, ROWS)[[3, 0, 3]])


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_the_filter_keeps_low_frequencies_of_a_rows_places_and_nothing_of_padding(size):
    series = torch.randn(LONGEST, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    low = low_pass(LONGEST, 3).double()[size] @ series
    torch.testing.assert_close(
        low[-size:], torch.tensor(slow_low(series[-size:].tolist(), 3)).double(), rtol=1e-5, atol=1e-6
    )
    assert not low[: LONGEST - size].any()


@torch.no_grad()
def test_low_and_high_add_up_and_equal_weights_of_both_leave_the_series():
    layer, x = network().layers[0], torch.randn(2, LONGEST, 6, dtype=torch.float64)
    low = low_pass(LONGEST, 3).double()[-1:]
    layer.beta.fill_(1.0)
    torch.testing.assert_close(layer.filtered(x, x, low), x)
    layer.beta.zero_()
    torch.testing.assert_close(layer.filtered(x, x, low), low @ x)
    torch.testing.assert_close(low @ (low @ x), low @ x, rtol=1e-5, atol=1e-6)  # a projector


def test_samples_are_prefixes_with_one_target_each():
    rows = BSAREC.objective(SIZES, dataset_of()).rows
    assert len(rows) == sum(len(row) - 1 for row in ROWS)
    assert set(rows.targets.tolist()) == {1}


def test_the_published_sizes_on_beauty_have_the_published_number_of_parameters_and_start():
    net = BSAREC.new(METHOD.presets["paper"], dataset_of(num_items=12_101, longest=50), FitContext(0, Path())).network
    assert sum(parameter.numel() for parameter in net.parameters()) == 878_208
    assert net.item_vectors_ND.std().item() == pytest.approx(0.02, rel=0.01)
    assert torch.equal(net.layers[0].beta, net.layers[1].beta)
    assert net.layers[0].beta.std().item() == pytest.approx(1, rel=0.3)
    assert not net.item_rows_VD[0].any()


def test_padding_is_no_class_and_not_trained_unless_it_is_asked_for():
    for legacy_pad in (False, True):
        config = SIZES.replace(legacy_pad=legacy_pad)
        net = BSAREC.new(config, dataset_of(), FitContext(0, Path())).network
        packed = pack(Sequences.from_rows(ROWS), CPU)
        loss = BSAREC.objective(config, dataset_of()).loss
        loss(net(packed, packed.ends_B), net.item_rows_VD, torch.tensor([1, 2, 3, 4, 5])).backward()
        assert bool(net.item_table.weight.grad[0].any()) is legacy_pad


def test_sizes_are_those_of_the_fact_sheet_and_departures_are_declared():
    paper, lite = METHOD.presets["paper"], METHOD.presets["lite"]
    assert (paper.hidden_size, paper.num_layers, paper.num_heads, paper.alpha, paper.cutoff) == (64, 2, 1, 0.7, 5)
    assert (paper.learning_rate, paper.batch_size, paper.epochs, paper.patience) == (5e-4, 256, 200, 10)
    assert (paper.dropout, paper.attention_dropout, paper.padded) == (0.5, 0.5, True)
    assert METHOD.assumptions(paper) == []
    assert len(METHOD.assumptions(lite)) == 1
