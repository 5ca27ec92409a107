"""Caser. Oracles: RecBole 1.2.1's model with copied weights, its regulariser included; METHODS B.5's values; the same
bits after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole_oracle import answers, needs_recbole

from baselines.caser import CASER, METHOD, CaserConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.sequence.training import Batches, batch_losses

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
USERS = np.array([5, 3, 2, 0, 1, 4])
TARGETS = torch.tensor([1, 9, 3, 4, 2, 7])
SIZES = CaserConfig(embedding_size=6, window=7, legacy_pad=True, regularisation=0.01)


def made_up_dataset(rows=ROWS):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences.last(12), np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple("abcdefghi")), sequences, cases, 12)


def network(config=SIZES):
    """The network with weights larger than at the start, so that every part matters."""
    built = CASER.new(config, made_up_dataset(), FitContext(0, Path())).network.eval()
    stream = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=stream)
    return built


@torch.no_grad()
def last_states(net, rows, users=USERS):
    packed = pack(replace(Sequences.from_rows(rows), users=users).last(7), CPU)
    return net(packed, packed.ends_B)


def recbole_weights(state):
    """RecBole's filters are two-dimensional, and its user 0 is padding."""
    weights = {
        "item_embedding.weight": state["item_table.weight"],
        "user_embedding.weight": torch.cat([torch.zeros(1, 6), state["user_table.weight"]]),
        "conv_v.weight": state["vertical.weight"][:, None],
        "conv_v.bias": state["vertical.bias"],
    }
    for index in range(7):
        weights[f"conv_h.{index}.weight"] = state[f"horizontal.{index}.weight"].transpose(1, 2)[:, None]
        weights[f"conv_h.{index}.bias"] = state[f"horizontal.{index}.bias"]
    for ours, theirs in (("of_filters", "fc1"), ("with_user", "fc2")):
        weights |= {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    return weights


@needs_recbole
def test_logits_and_loss_are_recboles_with_copied_weights(tmp_path):
    net = network()
    settings = {"embedding_size": 6, "MAX_ITEM_LIST_LENGTH": 7, "reg_weight": 0.01, "counts": {"user_id": 7}}
    rows = [row[-7:] for row in ROWS]
    weights = recbole_weights(net.state_dict())
    found = answers(tmp_path, "Caser", settings, weights, rows, TARGETS, field={"user_id": USERS + 1})
    states, items = last_states(net, ROWS), net.item_rows_VD.detach()
    np.testing.assert_allclose(states @ items.T, found["logits"], rtol=1e-5, atol=1e-5)
    loss = CASER.objective(SIZES, made_up_dataset()).loss(states, items, TARGETS) / len(ROWS)
    assert (loss + net.penalty()).item() == pytest.approx(float(found["loss"]), rel=1e-5)


@pytest.mark.parametrize("legacy_pad", [False, True])
def test_outputs_and_gradients_of_filters_are_those_of_convolutions_over_padded_windows(legacy_pad):
    net = network(SIZES.replace(legacy_pad=legacy_pad))
    if not legacy_pad:
        torch.nn.init.zeros_(net.item_table.weight[0])
    rows = pack(replace(Sequences.from_rows(ROWS), users=USERS).last(7), CPU)
    windows_BLD = net.item_table(rows.windows(7, at_end=False))
    highest = [F.relu(filters(windows_BLD.transpose(1, 2))).amax(dim=2) for filters in net.horizontal]
    expected = [net.vertical(windows_BLD).flatten(1), torch.cat(highest, dim=1)]
    padding_D = net.item_table.weight[0].detach()
    items_TD = net.item_table(rows.items_T) - padding_D
    found = [part(items_TD, padding_D, rows) for part in (net.vertically, net.horizontally)]
    weights = [net.item_table.weight, *net.vertical.parameters(), *net.horizontal.parameters()]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(torch.cat(outputs, 1).square().sum(), weights) for outputs in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_batch_has_the_penalty_once_however_many_pieces_it_has():
    net, objective = network(), CASER.objective(SIZES, made_up_dataset())

    def total(piece_tokens):
        (batch,) = Batches(objective, 1000, CPU, piece_tokens=piece_tokens)(np.random.default_rng(0))
        return len(batch), sum(losses["total"].item() for losses in batch_losses(net, objective.loss, batch))

    (one, whole), (several, parts) = total(10_000), total(8)
    assert one == 1
    assert several > 3
    assert parts == pytest.approx(whole, rel=1e-5)


def test_what_stands_before_the_window_changes_nothing():
    net = network()
    longer = [[9] * 5 + row if len(row) > 6 else row for row in ROWS]
    torch.testing.assert_close(last_states(net, ROWS), last_states(net, longer))


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    sizes = (paper.embedding_size, paper.window, paper.vertical_filters, paper.horizontal_filters, paper.dropout)
    assert sizes == (128, 50, 4, 8, 0.4)
    assert (paper.regularisation, paper.learning_rate, paper.batch_size, paper.epochs) == (1e-4, 1e-3, 2048, 300)
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
    assert len(METHOD.assumptions(paper)) == 1
    net = CASER.new(paper, replace(made_up_dataset(), max_history=50), FitContext(0, Path())).network
    assert net.of_filters.weight.shape == (128, 4 * 128 + 8 * 50)
    assert net.item_vectors_ND.std().item() == pytest.approx(1 / 128, rel=0.15)
    assert not net.item_rows_VD[0].any()
