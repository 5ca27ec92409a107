"""HSTU. Oracles: a padded network in plain loops, made from the formulas of METHODS B.7, with copied weights; published
numbers of parameters."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from baselines.hstu import HSTU_MODEL, METHOD, HSTUConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.sequence.losses import drawn_cross_entropy

CPU = torch.device("cpu")
LONGEST = 8
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 8, 7], [2, 7], [9, 8, 7]]
TIMES = [[10, 10, 4_000], [5], [0, 3, 9, 80, 81, 700, 701, 9_000_000_000], [2**40, 2**60], [7, 8, 100]]
SIZES = HSTUConfig(hidden_size=6, num_layers=2, num_heads=2, attention_size=3, value_size=2)


def sequences_of(rows, times=None):
    plain = Sequences.from_rows(rows)
    flat = None if times is None else np.array([time for row in times for time in row], dtype=np.int64)
    return Sequences(plain.items, plain.offsets, times=flat)


def dataset_of(rows=ROWS, num_items=9, longest=LONGEST):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences, np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple(map(str, range(num_items)))), sequences, cases, longest)


def network(config=SIZES):
    """The network in double precision with weights that make every part matter."""
    built = HSTU_MODEL.new(config, dataset_of(), FitContext(0, Path())).network.eval().double()
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    built.item_table.weight.data[0] = 0
    return built


@torch.no_grad()
def last_states(net, rows, times=None):
    packed = pack(sequences_of(rows, times), CPU)
    return net(packed, packed.ends_B)


def normed(x, norm):
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    return [
        (value - mean) / math.sqrt(variance + 1e-6) * float(scale) + float(shift)
        for value, scale, shift in zip(x, norm.weight, norm.bias, strict=True)
    ]


def silu(value):
    return value / (1 + math.exp(-value))


def slow_layer(layer, x, times, is_key):
    """One block over a row whose padding, if it has any, is in `x` too; `is_key` tells what may be attended to."""
    heads, n = SIZES.num_heads, LONGEST
    c, a = SIZES.value_size, SIZES.attention_size
    parts = [
        [silu(float(row @ torch.tensor(normed(each, layer.norm)).double())) for row in layer.input.weight] for each in x
    ]
    out = []
    for i, own in enumerate(parts):
        mixed = []
        for h in range(heads):
            total = [0.0] * c
            for j in range(i + 1):
                if not is_key[j]:
                    continue
                values = parts[j][heads * c + h * c : heads * c + (h + 1) * c]
                query = own[2 * heads * c + h * a : 2 * heads * c + (h + 1) * a]
                start = 2 * heads * c + heads * a + h * a
                score = sum(q * k for q, k in zip(query, parts[j][start : start + a], strict=True))
                score += float(layer.position_weights[j - i + n - 1])
                if times is not None:
                    after = times[min(i + 1, len(times) - 1)]
                    bucket = min(int(math.log(max(abs(after - times[j]), 1)) / 0.301), 128)
                    score += float(layer.time_weights[bucket])
                total = [t + silu(score) / n * v for t, v in zip(total, values, strict=True)]
            mixed += total
        gated = torch.tensor([m * u for m, u in zip(normed(mixed, layer.mixed_norm), own[: heads * c], strict=True)])
        out.append([v + float(w) for v, w in zip(x[i], layer.output(gated.double()), strict=True)])
    return out


@torch.no_grad()
def slow_state(net, row, times=None, *, pads=0, pads_are_keys=False):
    items = [0] * pads + row
    x = [
        [
            float(e) * math.sqrt(SIZES.hidden_size) + float(p)
            for e, p in zip(net.item_table.weight[item], place, strict=True)
        ]
        if item
        else [0.0] * SIZES.hidden_size
        for item, place in zip(items, net.position_table.weight, strict=False)
    ]
    if times is not None:
        times = [0] * pads + times
    for layer in net.layers:
        x = slow_layer(layer, x, times, [pads_are_keys or item > 0 for item in items])
    length = math.sqrt(sum(value**2 for value in x[-1]))
    return torch.tensor([value / length / SIZES.temperature for value in x[-1]], dtype=torch.float64)


@pytest.mark.parametrize("times", [None, TIMES], ids=["order", "times"])
def test_states_are_those_of_the_plain_loops(times):
    net = network()
    for index, state in enumerate(last_states(net, ROWS, times)):
        expected = slow_state(net, ROWS[index], None if times is None else times[index])
        torch.testing.assert_close(state, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("times", [None, TIMES], ids=["order", "times"])
def test_padding_keys_are_those_of_rows_padded_on_the_left(times):
    net = network(SIZES.replace(padding_keys=True))
    for index, state in enumerate(last_states(net, ROWS, times)):
        row, pads = ROWS[index], LONGEST - len(ROWS[index])
        expected = slow_state(net, row, None if times is None else times[index], pads=pads, pads_are_keys=True)
        torch.testing.assert_close(state, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_all_states_of_a_row_in_one_pass_are_those_of_its_prefixes_and_other_rows_change_none():
    net = network()
    packed = pack(Sequences.from_rows(ROWS), CPU)
    together = net(packed, torch.arange(len(packed.items_T)))
    prefixes = [row[: end + 1] for row in ROWS for end in range(len(row))]
    torch.testing.assert_close(together, torch.cat([last_states(net, [prefix]) for prefix in prefixes]))


def test_times_matter_only_where_they_are_told_and_asked_for():
    net, blind = network(), network(SIZES.replace(time_bias=False))
    assert not torch.equal(last_states(net, ROWS, TIMES), last_states(net, ROWS))
    assert torch.equal(last_states(blind, ROWS, TIMES), last_states(blind, ROWS))


def test_scores_are_cosines_over_the_temperature():
    net = network()
    assert torch.allclose(net.item_vectors_ND.norm(dim=1), torch.ones(9).double())
    assert torch.allclose(last_states(net, ROWS).norm(dim=1), torch.full((5,), 10.0).double())


@pytest.mark.parametrize(("time_bias", "parameters"), [(True, 789_712), (False, 789_712 - 4 * 129)])
def test_the_published_sizes_on_beauty_have_the_published_number_of_parameters(time_bias, parameters):
    config = METHOD.presets["paper"].replace(time_bias=time_bias)
    built = HSTU_MODEL.network(config, dataset_of(num_items=12_101, longest=50))
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters


def test_the_published_loss_draws_negatives_for_each_target_and_may_leave_hits_out():
    chosen = HSTU_MODEL.objective(SIZES.replace(num_negatives=5), dataset_of())
    (drawn,) = chosen.draws.draw(np.zeros(7, dtype=np.int64), np.random.default_rng(0))
    assert drawn.shape == (7, 5)
    assert drawn.min() >= 1
    assert drawn.max() <= 9
    states, table = torch.randn(2, 4).double(), torch.randn(10, 4).double()
    targets, negatives = torch.tensor([1, 2]), torch.tensor([[1, 3], [4, 5]])
    without = -math.log(1 / (1 + math.exp(float(states[0] @ (table[3] - table[1])))))
    second = float(drawn_cross_entropy(states[1:], table, targets[1:], negatives[1:]))
    found = drawn_cross_entropy(states, table, targets, negatives, keep_hits=False)
    assert found.item() == pytest.approx(without + second, rel=1e-9)


def test_sizes_are_those_of_the_fact_sheet_and_declared():
    paper = METHOD.presets["paper"]
    assert (paper.hidden_size, paper.num_layers, paper.num_heads, paper.attention_size, paper.value_size) == (
        64,
        4,
        2,
        4,
        4,
    )
    assert (paper.softmax, paper.num_negatives, paper.temperature, paper.batch_size, paper.epochs) == (
        "drawn", 512, 0.1, 256, 300,
    )  # fmt: skip
    assert (paper.embedding_dropout, paper.dropout, paper.learning_rate, paper.keep_hits) == (0.5, 0.1, 1e-3, True)
    assert len(METHOD.assumptions(paper)) == 1
    assert len(METHOD.assumptions(paper.replace(softmax="sampled"))) == 2
    with pytest.raises(ValidationError, match="legacy_pad"):
        paper.replace(legacy_pad=True)
