"""HGN. Oracles: RecBole 1.2.1's model with copied weights; METHODS B.5's equations, one place after another, and
its values; the same bits after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole_oracle import answers, needs_recbole

from baselines.hgn import HGN_MODEL, METHOD, HGNConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack

CPU = torch.device("cpu")
ROWS = [[3, 1, 4, 1, 5, 9, 2], [1, 2, 3, 4, 5, 6, 7], [5, 9, 2, 6, 5, 3, 5], [2, 7, 9, 8, 7, 6, 5]]
USERS = np.array([2, 0, 3, 3])
TARGETS = torch.tensor([1, 9, 3, 4])
SIZES = HGNConfig(embedding_size=6, legacy_pad=True)


def made_up_dataset(num_users=4):
    sequences = Sequences.from_rows(ROWS[:num_users])
    cases = EvalCases(sequences, np.ones(num_users, dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple("abcdefghi")), sequences, cases, 7)


def network():
    """The network with weights larger than at the start, so that every part matters."""
    built = HGN_MODEL.new(SIZES, made_up_dataset(), FitContext(0, Path())).network.eval()
    stream = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=stream)
    return built


@torch.no_grad()
def last_states(net, rows, users):
    packed = pack(replace(Sequences.from_rows(rows), users=users), CPU)
    return net(packed, packed.ends_B)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 3, 7])
def test_states_are_those_of_the_gates_one_place_after_another(length):
    net = network().double()
    for row, user, state in zip(ROWS, USERS, last_states(net, [row[:length] for row in ROWS], USERS), strict=True):
        u = net.user_table.weight[user]
        weighted, total, items = torch.zeros(6, dtype=torch.float64), 0.0, torch.zeros(6, dtype=torch.float64)
        for place, item in enumerate(row[:length]):
            e = net.item_table.weight[item]
            feature = net.feature_of_item.weight @ e + net.feature_of_user.weight @ u + net.feature_of_item.bias
            gated = e * torch.sigmoid(feature)
            gate = torch.sigmoid(net.place_of_item.weight[0] @ gated + net.place_of_user.weight[place] @ u)
            weighted, total, items = weighted + gate * gated, total + gate, items + e
        torch.testing.assert_close(state, u + weighted / total + items)


@torch.no_grad()
def test_all_states_of_a_row_in_one_pass_are_those_of_its_prefixes():
    net = network()
    packed = pack(replace(Sequences.from_rows(ROWS), users=USERS), CPU)
    prefixes = [row[: end + 1] for row in ROWS for end in range(7)]
    expected = last_states(net, prefixes, USERS.repeat(7))
    torch.testing.assert_close(net(packed, torch.arange(len(packed.items_T))), expected)


@torch.no_grad()
def test_users_without_a_sequence_have_the_mean_vector():
    net = network()
    told = last_states(net, ROWS[:2], np.array([2, -1]))
    known = last_states(net, ROWS[:2], np.array([2, 0]))
    torch.testing.assert_close(told[0], known[0])
    assert not torch.allclose(told[1], known[1])
    nobody = last_states(net, ROWS[:2], None)
    torch.testing.assert_close(told[1], nobody[1])
    net.user_table.weight[:] = net.user_table.weight.mean(dim=0)
    torch.testing.assert_close(last_states(net, ROWS[:2], np.array([2, 0])), nobody)


@needs_recbole
def test_logits_and_loss_are_recboles_with_copied_weights(tmp_path):
    """Histories fill the window, since RecBole sums padding too."""
    net = network()
    state = net.state_dict()
    weights = {
        "item_embedding.weight": state["item_table.weight"],
        "item_embedding_for_prediction.weight": state["output_table.weight"],
        "user_embedding.weight": torch.cat([torch.zeros(1, 6), state["user_table.weight"]]),
        "w1.weight": state["feature_of_item.weight"],
        "w1.bias": state["feature_of_item.bias"] - 1,
        "w2.weight": state["feature_of_user.weight"],
        "w2.bias": torch.full((6,), 0.75),
        "b": torch.full((6,), 0.25),
        "w3.weight": state["place_of_item.weight"],
        "w4.weight": state["place_of_user.weight"],
    }
    settings = {"embedding_size": 6, "MAX_ITEM_LIST_LENGTH": 7, "counts": {"user_id": 5}}
    found = answers(tmp_path, "HGN", settings, weights, ROWS, TARGETS, field={"user_id": USERS + 1})
    states, rows = last_states(net, ROWS, USERS), net.item_rows_VD.detach()
    np.testing.assert_allclose(states @ rows.T, found["logits"], rtol=1e-5, atol=1e-5)
    loss = HGN_MODEL.objective(SIZES, made_up_dataset()).loss(states, rows, TARGETS) / len(ROWS)
    assert loss.item() == pytest.approx(float(found["loss"]), rel=1e-5)


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    assert (paper.embedding_size, paper.learning_rate, paper.batch_size, paper.epochs) == (128, 1e-3, 2048, 300)
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4)}
    assert len(METHOD.assumptions(paper)) == 1
    net = HGN_MODEL.new(paper, made_up_dataset(), FitContext(0, Path())).network
    for table in (net.item_vectors_ND, net.item_table.weight[1:], net.user_table.weight):
        assert table.std().item() == pytest.approx(1 / 128, rel=0.15)
    assert net.feature_of_item.weight.abs().max().item() == pytest.approx((6 / 256) ** 0.5, rel=1e-2)
    assert not net.item_rows_VD[0].any()
