"""BERT4Rec. Oracles: RecBole 1.2.1's model with copied weights; masks counted and placed by hand; METHODS B.5's values;
the same bits after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole_oracle import answers, needs_recbole, of_layers, renamed

from baselines.bert4rec import BERT4REC, METHOD, BERT4RecConfig
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.sequence.masking import MaskedRows, Masking

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
TARGETS = torch.tensor([1, 9, 3, 4, 2, 7])
MASK = 10
SIZES = BERT4RecConfig(hidden_size=8, inner_size=12, legacy_pad=True)
NAMES = {
    "item_table": "item_embedding",
    "position_table": "position_embedding",
    "norm": "LayerNorm",
    "output": "output_ffn",
    "output_norm": "output_ln",
    "output_bias": "output_bias",
}


def made_up_dataset(rows=ROWS, max_history=12):
    sequences = Sequences.from_rows(rows)
    cases = EvalCases(sequences.last(max_history), np.ones(len(rows), dtype=np.int32))
    return Dataset("made-up", "0", Catalog(tuple("abcdefghi")), sequences, cases, max_history)


def recommender(config=SIZES):
    """Weights larger than at the start, so that every part matters."""
    built = BERT4REC.new(config, made_up_dataset(), FitContext(0, Path()))
    for parameter in built.network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    built.network.eval()
    return built


def scores(built, rows):
    found = torch.empty(len(rows), 9)
    for users, scores_BN in built.scores(Sequences.from_rows(rows)):
        found[users] = scores_BN
    return found


@needs_recbole
@torch.no_grad()
def test_logits_and_loss_are_recboles_with_copied_weights(tmp_path):
    """RecBole drops the first item of each history, and gives a masked first position no loss: neither shows here."""
    built = recommender()
    net, state = built.network, built.network.state_dict()
    weights = renamed(state, NAMES) | of_layers(state, "layers", "trm_encoder")
    sizes = {"hidden_size": 8, "inner_size": 12, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 12}
    masked = [[3, MASK, 4], [1, MASK], [5, 9, MASK, 6, 5, MASK, 5, 8, 9, MASK]]
    places, hidden = [[1, 0, 0], [1, 0, 0], [2, 5, 9]], [[1, 0, 0], [7, 0, 0], [2, 3, 7]]
    fields = {
        "Mask_item_id_list": np.array([row + [0] * (12 - len(row)) for row in masked]),
        "Pos_item_id": np.array(hidden),
        "Neg_item_id": np.array(hidden),
        "MASK_INDEX": np.array(places),
    }
    longer = [[9, *row] for row in ROWS]
    names = {
        "MASK_ITEM_SEQ": "Mask_item_id_list",
        "POS_ITEMS": "Pos_item_id",
        "NEG_ITEMS": "Neg_item_id",
        "MASK_INDEX": "MASK_INDEX",
        "counts": {"item_id": 10},
    }
    found = answers(tmp_path, "BERT4Rec", sizes | names, weights, longer, TARGETS, field=fields)
    np.testing.assert_allclose(scores(built, ROWS), found["logits"][:, 1:], rtol=1e-5, atol=1e-5)
    packed = pack(Sequences.from_rows(masked), CPU)
    states = net(packed, torch.tensor([1, 4, 7, 10, 14]))
    loss = BERT4REC.objective(SIZES, made_up_dataset()).loss(states, net.item_rows_VD, torch.tensor([1, 7, 2, 3, 7]))
    assert loss.item() / 5 == pytest.approx(float(found["loss"]), rel=1e-5)


def test_a_recommendation_reads_the_mask_behind_the_last_49_items():
    net = recommender().network
    read = net.read_rows(Sequences.from_rows([[1, 2], list(range(1, 10)) * 2]))
    assert [read.row(i).tolist() for i in range(2)] == [[1, 2, MASK], [8, 9, *range(1, 10), MASK]]


def masked_rows(rows=ROWS, max_history=5, ratio=0.4, last_share=0.0, most=2):
    return MaskedRows.of(made_up_dataset(rows, max_history), Masking(MASK, ratio, last_share, most))


def test_long_sequences_are_cut_from_their_end_and_rows_of_one_item_left_out():
    rows = masked_rows([list(range(1, 10)), [1], [2, 3], [4, 5, 6, 7, 8, 9]])
    found = [rows.sequences.row(i).tolist() for i in range(len(rows))]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8, 9], [2, 3], [5, 6, 7, 8, 9]]
    assert rows.users.tolist() == [0, 0, 2, 3]


def test_a_masked_item_is_the_target_of_the_place_where_the_mask_stands():
    rows = masked_rows().for_epoch(np.random.default_rng(0))
    chosen = np.array([3, 0, 2])
    shown, original = rows.histories(chosen), rows.sequences.take(chosen)
    row_M, back_M, items_M = rows.next_items(chosen)
    places = original.offsets[1:][row_M] - 1 - back_M
    assert np.array_equal(places, np.flatnonzero(shown.items == MASK))
    assert np.array_equal(items_M, original.items[places])
    assert np.array_equal(np.bincount(row_M), rows.targets[chosen])
    rest = shown.items != MASK
    assert np.array_equal(shown.items[rest], original.items[rest])


def test_masks_keep_their_bounds_and_their_ratio_and_change_with_the_epoch():
    rows, stream = masked_rows([[1, 2, 3, 4, 5]] * 4000 + [[1, 2]] * 4000), np.random.default_rng(0)
    epoch, other = rows.for_epoch(stream), rows.for_epoch(stream)
    assert not np.array_equal(epoch.is_masked_T, other.is_masked_T)
    assert (epoch.targets.min(), epoch.targets.max()) == (1, 2)
    # Of two positions one is masked at least, both with 0.4² · P(both are drawn) = 0.16.
    assert epoch.targets[4000:].mean() == pytest.approx(1.16, abs=0.03)
    # Of five: 1 where the binomial number is 0 or 1, else 2.
    assert epoch.targets[:4000].mean() == pytest.approx(2 - 0.6**5 - 5 * 0.4 * 0.6**4, abs=0.03)
    per_place = epoch.is_masked_T[:20000].reshape(4000, 5).mean(axis=0)
    assert per_place == pytest.approx(per_place.mean(), abs=0.03)


def test_the_last_item_alone_is_masked_in_the_given_share_of_rows():
    epoch = masked_rows([[1, 2, 3, 4, 5]] * 4000, ratio=0.01, last_share=0.75).for_epoch(np.random.default_rng(1))
    is_last = epoch.is_masked_T.reshape(4000, 5)[:, -1]
    assert is_last.mean() == pytest.approx(0.75 + 0.25 / 5, abs=0.03)


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    sizes = (paper.hidden_size, paper.inner_size, paper.num_layers, paper.num_heads, paper.dropout, paper.mask_ratio)
    assert sizes == (128, 256, 2, 2, 0.2, 0.2)
    assert (paper.last_share, paper.learning_rate, paper.batch_size, paper.epochs) == (0.5, 1e-3, 2048, 300)
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
    assert len(METHOD.assumptions(paper)) == 1
    assert BERT4REC.objective(paper, made_up_dataset(max_history=50)).rows.masking.most == 10
    net = BERT4REC.new(paper, made_up_dataset(), FitContext(0, Path())).network
    assert net.item_vectors_ND[:, :-1].std().item() == pytest.approx(0.02, rel=0.1)
    assert not net.item_rows_VD[0].any()
