"""The SASRec network. Oracles: torch's own TransformerEncoderLayer, a slow literal transcription of the original block,
gradcheck, and the property that padding and company change nothing."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from harness.data.dataset import Sequences
from harness.nn.encoder import pack
from harness.nn.ragged import Ragged
from harness.nn.sasrec import SASRec, SASRecSizes, SelfAttention

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
MAX_HISTORY = 12


def network(style="recbole"):
    torch.manual_seed(0)
    sizes = SASRecSizes(style=style, hidden_size=8, inner_size=12, num_layers=2, num_heads=2, dropout=0.0)
    built = SASRec(9, MAX_HISTORY, sizes).double().eval()
    for parameter in built.parameters():  # larger than at the start, so that every part matters
        nn.init.normal_(parameter, std=0.5)
    return built


def last_states(net, rows):
    packed = pack(Sequences.from_rows(rows), CPU)
    return net(packed, packed.ends_B)


def torch_encoder_states(net, row):
    """(S, D) by torch.nn.TransformerEncoderLayer with the same weights, one unpadded row, and the layers used."""
    items = torch.tensor(row)
    x = net.norm(net.item_table.weight[items] + net.position_table.weight[: len(row)])[None]
    mask = nn.Transformer.generate_square_subsequent_mask(len(row), dtype=torch.float64)
    peers = []
    for layer in net.layers:
        peer = nn.TransformerEncoderLayer(
            8, 2, dim_feedforward=12, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        ).double()
        attention = layer.attention
        with torch.no_grad():
            peer.self_attn.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
            peer.self_attn.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
        for ours, theirs in [
            (layer.output, peer.self_attn.out_proj),
            (layer.attention_norm, peer.norm1),
            (layer.inner, peer.linear1),
            (layer.outer, peer.linear2),
            (layer.feed_forward_norm, peer.norm2),
        ]:
            theirs.load_state_dict(ours.state_dict())
        x = peer(x, src_mask=mask)
        peers.append(peer)
    return x[0], peers


def test_recbole_form_equals_torchs_post_norm_encoder_with_copied_weights():
    net = network()
    with torch.no_grad():
        expected = torch.stack([torch_encoder_states(net, row)[0][-1] for row in ROWS])
        torch.testing.assert_close(last_states(net, ROWS), expected)


def test_gradients_equal_those_of_torchs_post_norm_encoder():
    net = network()
    packed = pack(Sequences.from_rows(ROWS), CPU)
    weights = torch.randn(len(packed.items_T), 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shared = [net.item_table.weight, net.position_table.weight]
    inner = [p for layer in net.layers for p in (*layer.attention.query.parameters(), layer.attention.key_value.weight)]
    ours = torch.autograd.grad((net(packed, torch.arange(len(packed.items_T))) * weights).sum(), shared + inner)
    expected = [torch.zeros_like(gradient) for gradient in ours]
    for row, weights_SD in zip(ROWS, weights.split([len(row) for row in ROWS]), strict=True):
        states_SD, peers = torch_encoder_states(net, row)
        joint = [p for peer in peers for p in (peer.self_attn.in_proj_weight, peer.self_attn.in_proj_bias)]
        of_shared = torch.autograd.grad((states_SD * weights_SD).sum(), shared, retain_graph=True)
        of_joint = torch.autograd.grad((states_SD * weights_SD).sum(), joint)
        split = [part for w, b in zip(of_joint[::2], of_joint[1::2], strict=True) for part in (w[:8], b[:8], w[8:])]
        for total, part in zip(expected, (*of_shared, *split), strict=True):
            total += part
    for got, want in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, want)


def test_dropped_attention_has_the_gradient_of_what_it_computed_and_scales_up_what_it_keeps():
    rows = Ragged.of(np.array([3, 1, 7, 2]), CPU)
    attention = SelfAttention(4, 2, 0.5).double().train()

    def mixed(queries, keys):
        torch.manual_seed(3)  # the same mask each time
        return attention(queries, keys, rows)

    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 13, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(mixed, tuple(x))
    # A row of one item reads itself alone, so that each head is dropped or doubled.
    single = 3
    value = attention.key_value(x[1])[single, 4:].view(2, 2)
    seen = {tuple((attention(*x, rows)[single].view(2, 2) / value).flatten().tolist()) for _ in range(40)}
    assert seen == {(a, a, b, b) for a in (0.0, 2.0) for b in (0.0, 2.0)}


@torch.no_grad()
def original_states(net, row):
    """(S, D) of one left-padded row, head by head and position by position, as METHODS B.1 words it."""
    width, heads = 8, 2
    x = net.item_table.weight[row] * math.sqrt(width) + net.position_table.weight[MAX_HISTORY - len(row) :]
    for layer in net.layers:
        normed = layer.attention_norm(x)
        queries = layer.attention.query(normed)
        keys, values = layer.attention.key_value(x).split(width, dim=1)
        mixed = torch.zeros_like(x)
        for position in range(len(row)):
            for head in range(heads):
                part = slice(head * width // heads, (head + 1) * width // heads)
                scores = torch.stack(
                    [queries[position, part] @ keys[j, part] / math.sqrt(width / heads) for j in range(position + 1)]
                )
                for weight, value in zip(scores.softmax(0), values[:, part], strict=False):
                    mixed[position, part] += weight * value
        normed = layer.feed_forward_norm(normed + mixed)
        x = normed + layer.outer(layer.inner(normed).relu())
    return net.norm(x)


def test_original_form_equals_a_literal_transcription_with_positions_counted_from_the_right():
    net = network("original")
    expected = torch.stack([original_states(net, row)[-1] for row in ROWS])
    torch.testing.assert_close(last_states(net, ROWS), expected)


@pytest.mark.parametrize("style", ["recbole", "original"])
def test_neither_the_other_rows_nor_their_order_nor_padding_change_a_state(style):
    net = network(style)
    together = last_states(net, ROWS)
    reversed_order = last_states(net, ROWS[::-1]).flip(0)
    alone = torch.cat([last_states(net, [row]) for row in ROWS])
    torch.testing.assert_close(together, reversed_order)
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("style", ["recbole", "original"])
def test_a_state_does_not_see_later_items(style):
    net = network(style)
    packed = [pack(Sequences.from_rows([[1, 2, 3, last]]), CPU) for last in (4, 5)]
    one, other = (net(rows, torch.arange(4)) for rows in packed)
    torch.testing.assert_close(one[:3], other[:3], rtol=0, atol=0)
    assert not torch.allclose(one[3], other[3])


@pytest.mark.parametrize("legacy_pad", [False, True])
def test_the_padding_row_is_zero_by_default_and_drawn_with_legacy_pad(legacy_pad):
    torch.manual_seed(0)
    net = SASRec(9, MAX_HISTORY, SASRecSizes(hidden_size=8), legacy_pad=legacy_pad)
    assert bool(net.item_rows_VD[0].any()) is legacy_pad


def test_weights_start_normal_with_standard_deviation_0_02_and_biases_zero():
    torch.manual_seed(0)
    net = SASRec(2000, 50, SASRecSizes(hidden_size=64))
    assert net.item_vectors_ND.std().item() == pytest.approx(0.02, rel=0.02)
    assert net.layers[0].inner.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(parameter.any() for name, parameter in net.named_parameters() if name.endswith("bias"))
