"""FMLP-Rec. Oracles: the released code's blocks with filters as explicit circular convolutions, and its filters as
Fourier transforms; METHODS B.5's values; the same bits after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baselines.fmlprec import FMLPREC, METHOD, Filter, FMLPRecConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.sequence.losses import binary_cross_entropy

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
SIZES = FMLPRecConfig(hidden_size=4, window=7, legacy_pad=True)


def made_up_dataset(rows=ROWS):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences.last(12), np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple("abcdefghi")), sequences, cases, 12)


def network(config=SIZES):
    """The network with weights larger than at the start, so that every part matters."""
    built = FMLPREC.new(config, made_up_dataset(), FitContext(0, Path())).network.eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    return built.double()


def circular(kernel_L, signal_L):
    """Σ over s of kernel[(t - s) mod L] signal[s] for each t, one product at a time."""
    length = len(signal_L)
    return torch.stack([sum(kernel_L[(t - s) % length] * signal_L[s] for s in range(length)) for t in range(length)])


def slow_state(net, row):
    """The state of one history, as METHODS B.5 words it."""
    length = net.max_history
    padded = [0] * (length - len(row)) + row
    x_LD = F.layer_norm(net.item_table.weight[padded] + net.position_table.weight, (4,), *wb(net.norm), eps=1e-12)
    for block in net.blocks:
        weight = torch.complex(*block.filter.weight.unbind(-1))
        kernel_LD = torch.fft.irfft(weight, n=length, dim=0)
        filtered = torch.stack([circular(kernel_LD[:, d], x_LD[:, d]) for d in range(4)], dim=1)
        x_LD = F.layer_norm(filtered + x_LD, (4,), *wb(block.filter_norm), eps=1e-12)
        hidden = F.gelu(x_LD @ block.inner.weight.T + block.inner.bias) @ block.outer.weight.T + block.outer.bias
        x_LD = F.layer_norm(hidden + x_LD, (4,), *wb(block.feed_forward_norm), eps=1e-12)
    return x_LD[-1]


def wb(norm):
    return norm.weight, norm.bias


@torch.no_grad()
def test_states_are_those_of_explicit_circular_convolutions_over_left_padded_histories():
    net = network()
    rows = Sequences.from_rows(ROWS).last(7)
    packed = pack(rows, CPU)
    expected = torch.stack([slow_state(net, rows.row(i).tolist()) for i in range(len(rows))])
    torch.testing.assert_close(net(packed, packed.ends_B), expected)


@pytest.mark.parametrize("window", [6, 7])
def test_a_filter_and_its_gradients_are_those_of_fourier_transforms(window):
    ours, stream = Filter(window, 3).double(), torch.Generator().manual_seed(0)
    torch.nn.init.normal_(ours.weight, generator=stream)
    x = torch.randn(2, window, 3, generator=stream, dtype=torch.float64, requires_grad=True)
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho") * torch.view_as_complex(ours.weight)
    expected = torch.fft.irfft(spectrum, n=window, dim=1, norm="ortho")
    for places in (slice(None), slice(-1, None)):
        found = ours(x, places)
        torch.testing.assert_close(found, expected[:, places])
        gradients = [
            torch.autograd.grad(y.square().sum(), [x, ours.weight], retain_graph=True)
            for y in (found, expected[:, places])
        ]
        torch.testing.assert_close(*gradients)


def test_looked_up_padding_is_read_and_never_trained():
    net = network()
    packed = pack(Sequences.from_rows([[3, 1, 4]]), CPU)
    before = net(packed, packed.ends_B)
    before.square().sum().backward()
    assert not net.item_table.weight.grad[0].any()
    with torch.no_grad():
        net.item_table.weight[0, 0] += 1
    assert not torch.allclose(net(packed, packed.ends_B), before)


def test_bce_contrasts_each_prefix_with_an_item_that_the_user_has_not_seen():
    rows, loss, draws = FMLPREC.objective(SIZES.replace(loss="bce"), made_up_dataset([[1, 2, 3], [4, 5]]))
    assert loss is binary_cross_entropy
    assert rows.lengths.tolist() == [1, 2, 1]
    (drawn,) = draws.draw(np.array([0] * 50 + [1] * 50), np.random.default_rng(0))
    assert set(drawn[:50]) == {4, 5, 6, 7, 8, 9}
    assert set(drawn[50:]) == {1, 2, 3, 6, 7, 8, 9}


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    assert (paper.hidden_size, paper.num_layers, paper.dropout, paper.window) == (128, 2, 0.5, 50)
    assert (paper.softmax, paper.learning_rate, paper.batch_size, paper.epochs) == ("full", 1e-3, 2048, 300)
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
    assert len(METHOD.assumptions(paper)) == 1
    net = FMLPREC.new(paper, made_up_dataset(), FitContext(0, Path())).network
    assert net.blocks[0].filter.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert net.blocks[0].inner.weight.shape == (512, 128)
    assert not net.item_rows_VD[0].any()
