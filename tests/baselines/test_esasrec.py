"""eSASRec. Oracles: a padded network in plain loops, made from the formulas of METHODS B.9, with copied weights;
torch's own multi-head attention."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from baselines.esasrec import ESASREC, METHOD, ESASRecConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.sequence.losses import drawn_cross_entropy

CPU = torch.device("cpu")
LONGEST = 8
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 8, 7], [2, 7], [9, 8, 7]]
SIZES = ESASRecConfig(hidden_size=6, num_layers=2, num_heads=2, inner_factor=2)


def dataset_of(rows=ROWS, num_items=9, longest=LONGEST):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences, np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple(map(str, range(num_items)))), sequences, cases, longest)


def network(config=SIZES):
    """The network in double precision with weights that make every part matter."""
    built = ESASREC.new(config, dataset_of(), FitContext(0, Path())).network.eval().double()
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return built


@torch.no_grad()
def last_states(net, rows):
    packed = pack(Sequences.from_rows(rows), CPU)
    return net(packed, packed.ends_B)


def normed(x, norm):
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    parts = zip(x, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    return [(value - mean) / math.sqrt(variance + 1e-5) * scale + shift for value, scale, shift in parts]


def linear(x, weight, bias=None):
    shifts = [0.0] * len(weight) if bias is None else bias.tolist()
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight.tolist(), shifts, strict=True)]


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def gated(x, gate, added):
    shares = [sigmoid(value) for value in linear(x, gate.weight, gate.bias)]
    return [value + share * more for value, share, more in zip(x, shares, added, strict=True)]


def slow_layer(layer, x, is_padding):
    width = len(x[0])
    head = width // SIZES.num_heads
    z = [normed(each, layer.attention_norm) for each in x]
    attention = layer.attention
    q = [linear(each, attention.query.weight, attention.query.bias) for each in z]
    kv = [linear(each, attention.key_value.weight, attention.key_value.bias) for each in z]
    out = []
    for i, own in enumerate(x):
        mixed = []
        for start in range(0, width, head):
            seen = [j for j in range(i + 1) if not is_padding[j] or j == i]
            products = [sum(q[i][c] * kv[j][c] for c in range(start, start + head)) / math.sqrt(head) for j in seen]
            weights = [math.exp(value - max(products)) for value in products]
            shares = [weight / sum(weights) for weight in weights]
            values = range(width + start, width + start + head)
            mixed += [sum(share * kv[j][c] for share, j in zip(shares, seen, strict=True)) for c in values]
        middle = gated(own, layer.attention_gate, linear(mixed, layer.output.weight, layer.output.bias))
        inner = normed(middle, layer.feed_forward_norm)
        activated = [v * sigmoid(v) for v in linear(inner, layer.activated.weight)]
        hidden = [a * b for a, b in zip(activated, linear(inner, layer.factor.weight), strict=True)]
        out.append(gated(middle, layer.feed_forward_gate, linear(hidden, layer.outer.weight)))
    return out


def slow_state(net, row):
    items = [0] * (LONGEST - len(row)) + row
    places = reversed(net.position_table.weight.tolist())  # the last item has place 0
    x = [
        [e + p for e, p in zip(net.item_table.weight[item].tolist(), place, strict=True)]
        for item, place in zip(items, places, strict=True)
    ]
    for layer in net.layers:
        x = slow_layer(layer, x, [item == 0 for item in items])
    return torch.tensor(x[-1], dtype=torch.float64)


def test_states_are_those_of_the_padded_plain_loops():
    net = network()
    expected = torch.stack([slow_state(net, row) for row in ROWS])
    torch.testing.assert_close(last_states(net, ROWS), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_is_torchs_multi_head_attention():
    layer, x = network().layers[0], torch.randn(1, 5, 6, dtype=torch.float64)
    theirs = nn.MultiheadAttention(6, 2, batch_first=True).double()
    theirs.in_proj_weight.copy_(torch.cat([layer.attention.query.weight, layer.attention.key_value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([layer.attention.query.bias, layer.attention.key_value.bias]))
    theirs.out_proj.load_state_dict(layer.output.state_dict())
    is_later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected, _ = theirs(x, x, x, attn_mask=is_later, need_weights=False)
    layout = pack(Sequences.from_rows([[1, 2, 3, 4, 5]]), CPU).layout
    torch.testing.assert_close(layer.output(layer.attention(x[0], x[0], layout)), expected[0])


def test_other_rows_change_no_state():
    net = network()
    torch.testing.assert_close(last_states(net, ROWS), torch.cat([last_states(net, [row]) for row in ROWS]))


def test_the_loss_holds_each_target_against_256_items_of_its_own():
    chosen = ESASREC.objective(METHOD.presets["paper"], dataset_of())
    assert chosen.loss is drawn_cross_entropy
    (drawn,) = chosen.draws.draw(np.zeros(3, dtype=np.int64), np.random.default_rng(0))
    assert drawn.shape == (3, 256)
    assert not np.array_equal(drawn[0], drawn[1])
    assert set(np.unique(drawn)) == set(range(1, 10))
    assert chosen.rows.lengths.tolist() == [2, 7, 1, 2]  # a window for each user who has a next item


def test_matrices_start_xavier_normal_padding_too():
    net = ESASREC.new(METHOD.presets["paper"], dataset_of(num_items=3_000, longest=50), FitContext(0, Path())).network
    attention = net.layers[0].attention
    expected = {
        "items": (net.item_table.weight, 3_001 + 256),
        "queries": (attention.query.weight, 4 * 256),
        "keys": (attention.key_value.weight, 4 * 256),
        "inner": (net.layers[0].activated.weight, 5 * 256),
    }
    for name, (matrix, fans) in expected.items():
        assert matrix.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.02), name
    assert net.item_table.weight[0].any()
    assert not attention.query.bias.any()
    assert net.layers[0].attention_gate.bias.any()


def test_table_dropout_drops_inputs_and_candidates_alike_and_in_training_alone():
    net = network(SIZES.replace(table_dropout=True, dropout=0.5)).train()
    packed = pack(Sequences.from_rows(ROWS), CPU)
    net(packed, packed.ends_B).sum().backward()
    first = net.item_rows_VD
    assert 0.2 < (first == 0).double().mean().item() < 0.8
    grad = net.item_table.weight.grad
    assert not grad[(first == 0)].any()  # what is dropped takes no part as an input
    net(packed, packed.ends_B)
    assert not torch.equal(net.item_rows_VD, first)
    assert net.eval().item_rows_VD is net.item_table.weight
    assert network().train().item_rows_VD.all()


def test_sizes_are_those_of_the_fact_sheet_and_declared():
    paper = METHOD.presets["paper"]
    assert (paper.hidden_size, paper.num_layers, paper.num_heads, paper.inner_factor) == (256, 1, 1, 4)
    assert (paper.learning_rate, paper.beta2, paper.batch_size, paper.epochs, paper.patience) == (
        1e-3,
        0.98,
        128,
        200,
        50,
    )
    assert (paper.dropout, paper.num_negatives, paper.table_dropout) == (0.2, 256, False)
    assert len(METHOD.assumptions(paper)) == 1
    assert len(METHOD.assumptions(paper.replace(softmax="sampled"))) == 2
