"""GRU4Rec. Oracles: the GRU's equations step by step; RecBole 1.2.1's model with copied weights, where
HARNESS_RECBOLE_PYTHON names a Python that has it; METHODS B.5's values; the same bits after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole_oracle import answers, needs_recbole, renamed

from baselines.gru4rec import GRU4REC, METHOD, GRU4RecConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
TARGETS = torch.tensor([1, 9, 3, 4, 2, 7])
SIZES = GRU4RecConfig(embedding_size=6, hidden_size=8, legacy_pad=True)
RECBOLE_NAMES = {"item_table": "item_embedding", "gru": "gru_layers", "output": "dense"}


def made_up_dataset(rows=ROWS):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences.last(12), np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple("abcdefghi")), sequences, cases, 12)


def network(config=SIZES):
    """The network with weights larger than at the start, so that every part matters."""
    built = GRU4REC.new(config, made_up_dataset(), FitContext(0, Path())).network.eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    return built


@torch.no_grad()
def last_states(net, rows):
    packed = pack(Sequences.from_rows(rows), CPU)
    return net(packed, packed.ends_B)


@torch.no_grad()
def test_states_are_those_of_the_grus_equations_step_by_step():
    net = network().double()
    w_reset, w_update, w_new = net.gru.weight_ih_l0.chunk(3)
    u_reset, u_update, u_new = net.gru.weight_hh_l0.chunk(3)
    for row, state in zip(ROWS, last_states(net, ROWS), strict=True):
        hidden = torch.zeros(8, dtype=torch.float64)
        for item in row:
            x = net.item_table.weight[item]
            reset = torch.sigmoid(w_reset @ x + u_reset @ hidden)
            update = torch.sigmoid(w_update @ x + u_update @ hidden)
            new = torch.tanh(w_new @ x + reset * (u_new @ hidden))
            hidden = (1 - update) * new + update * hidden
        torch.testing.assert_close(state, net.output.weight @ hidden + net.output.bias)


@torch.no_grad()
def test_all_states_of_a_row_in_one_pass_are_those_of_its_prefixes():
    net = network()
    packed = pack(Sequences.from_rows(ROWS), CPU)
    together = net(packed, torch.arange(len(packed.items_T)))
    prefixes = [row[: end + 1] for row in ROWS for end in range(len(row))]
    torch.testing.assert_close(together, last_states(net, prefixes))


@needs_recbole
def test_logits_and_loss_are_recboles_with_copied_weights(tmp_path):
    net = network()
    weights = renamed(net.state_dict(), RECBOLE_NAMES)
    sizes = {"embedding_size": 6, "hidden_size": 8, "num_layers": 1, "dropout_prob": 0.3, "MAX_ITEM_LIST_LENGTH": 12}
    found = answers(tmp_path, "GRU4Rec", sizes, weights, ROWS, TARGETS)
    states, rows = last_states(net, ROWS), net.item_rows_VD.detach()
    np.testing.assert_allclose(states @ rows.T, found["logits"], rtol=1e-5, atol=1e-5)
    loss = GRU4REC.objective(SIZES, made_up_dataset()).loss(states, rows, TARGETS) / len(ROWS)
    assert loss.item() == pytest.approx(float(found["loss"]), rel=1e-5)


def test_items_start_glorot_normal_matrices_glorot_uniform_and_padding_at_zero():
    dataset = made_up_dataset([[1, 2]])
    net = GRU4REC.new(GRU4RecConfig(), dataset, FitContext(0, Path())).network
    assert net.item_vectors_ND.std().item() == pytest.approx((2 / (10 + 128)) ** 0.5, rel=0.1)
    for matrix in (net.gru.weight_ih_l0, net.gru.weight_hh_l0):
        assert matrix.abs().max().item() == pytest.approx((6 / (3 * 128 + 128)) ** 0.5, rel=1e-3)
    assert not net.item_rows_VD[0].any()
    assert not any("bias" in name for name, _ in net.gru.named_parameters())


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    sizes = (paper.embedding_size, paper.hidden_size, paper.num_layers, paper.dropout)
    assert sizes == (128, 128, 1, 0.3)
    assert (paper.softmax, paper.learning_rate, paper.batch_size, paper.epochs) == ("full", 1e-3, 2048, 300)
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
    assert len(METHOD.assumptions(paper)) == 1
    assert len(METHOD.assumptions(paper.replace(softmax="sampled"))) == 2
