"""FDSA. Oracles: RecBole 1.2.1's model with copied weights, a single-valued and a multi-valued feature; METHODS B.5's
values; the same bits after an interruption."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole_oracle import answers, needs_recbole, of_layers, renamed

from baselines.fdsa import FDSA_MODEL, METHOD, FDSAConfig, FieldTable, needs
from harness.artifacts import TEXT_VECTORS
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.text.vectors import TextConfig, save_vectors
from harness.errors import UsageError
from harness.experiment.plan import check_readers, configured
from harness.experiment.settings import settings_of
from harness.interfaces import FitContext, Need
from harness.methods import obstacle
from harness.nn.encoder import pack
from harness.sequence.features import fields_of

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
TARGETS = torch.tensor([1, 9, 3, 4, 2, 7])
SIZES = FDSAConfig(hidden_size=8, inner_size=12, legacy_pad=True)
STORES = tuple((value,) for value in "abacabbca")
KINDS = (("p", "q"), ("q",), ("r", "p", "s"), ("s",), ("p",), ("q", "r"), ("r",), ("s", "p"), ("q",))
NAMES = {
    "item_table": "item_embedding",
    "position_table": "position_embedding",
    "norm": "LayerNorm",
    "join": "concat_layer",
    "pool.hidden": "feature_att_layer.projection.0",
    "pool.score": "feature_att_layer.projection.2",
    "fields.0.table": "feature_embed_layer.token_embedding_table.item.embedding",
    "fields.1.table": "feature_embed_layer.token_seq_embedding_table.item.0",
}


def made_up_dataset():
    sequences = Sequences.from_rows(ROWS)
    cases = EvalCases(sequences.last(12), np.ones(len(ROWS), dtype=np.int32))
    catalog = Catalog(tuple("abcdefghi"), None, {"store": STORES, "kind": KINDS})
    return Dataset("made-up", "0", catalog, sequences, cases, 12)


def network():
    """The network with weights larger than at the start, so that every part matters."""
    built = FDSA_MODEL.new(SIZES, made_up_dataset(), FitContext(0, Path())).network.eval()
    stream = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=stream)
    return built


@torch.no_grad()
def last_states(net, rows):
    packed = pack(Sequences.from_rows(rows), CPU)
    return net(packed, packed.ends_B)


@needs_recbole
def test_logits_and_loss_are_recboles_with_copied_weights(tmp_path):
    net = network()
    state = net.state_dict()
    weights = renamed(state, NAMES)
    for ours, theirs in (("item_layers", "item_trm_encoder"), ("feature_layers", "feature_trm_encoder")):
        weights |= of_layers(state, ours, theirs)
    store, kind = fields_of(made_up_dataset(), ())
    settings = {
        "hidden_size": 8,
        "inner_size": 12,
        "MAX_ITEM_LIST_LENGTH": 12,
        "selected_features": ["store", "kind"],
        "numerical_features": [],
        "counts": {"store": 4, "kind": 5},
    }
    features = {"store": store.of_items[:, 0], "kind": kind.of_items}
    found = answers(tmp_path, "FDSA", settings, weights, ROWS, TARGETS, feature=features)
    states, rows = last_states(net, ROWS), net.item_rows_VD.detach()
    np.testing.assert_allclose(states @ rows.T, found["logits"], rtol=1e-5, atol=1e-5)
    loss = FDSA_MODEL.objective(SIZES, made_up_dataset()).loss(states, rows, TARGETS) / len(ROWS)
    assert loss.item() == pytest.approx(float(found["loss"]), rel=1e-5)


def test_all_states_of_a_row_in_one_pass_are_those_of_its_prefixes():
    net = network()
    packed = pack(Sequences.from_rows(ROWS), CPU)
    prefixes = [row[: end + 1] for row in ROWS for end in range(len(row))]
    with torch.no_grad():
        torch.testing.assert_close(net(packed, torch.arange(len(packed.items_T))), last_states(net, prefixes))


def test_a_fields_vector_is_the_mean_of_its_values_and_zero_without_any():
    table = FieldTable(torch.tensor([[0, 0], [2, 1], [2, 0], [0, 0]]), 2, 3)
    vectors = table(torch.tensor([1, 2, 3]))
    torch.testing.assert_close(vectors[0], table.table.weight[1:].mean(dim=0))
    torch.testing.assert_close(vectors[1], table.table.weight[2])
    assert not vectors[2].any()


TEXT = SIZES.replace(reads="text", text_vectors=TextConfig(dim=3))


def test_text_vectors_are_the_only_feature_and_stay_as_they_are(tmp_path):
    dataset = replace(made_up_dataset(), catalog=Catalog(tuple("abcdefghi"), tuple("stuvwxyzs")))
    vectors = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    save_vectors(tmp_path / "text", dataset.catalog.keys, vectors)
    config = TEXT.replace(epochs=1, batch_size=4, patience=None)
    (need,) = needs(config).values()
    assert (need.kind, need.config) == (TEXT_VECTORS, config.text_vectors)
    assert not needs(SIZES)
    fitted = FDSA_MODEL.fit(config, dataset, {"text": tmp_path / "text"}, FitContext(0, tmp_path / "fit"))
    np.testing.assert_array_equal(fitted.network.text.vectors_VX, np.concatenate([np.zeros((1, 3)), vectors]))
    linear, items = fitted.network.text.linear, torch.tensor([2, 9])
    expected = torch.from_numpy(vectors)[items - 1] @ linear.weight.T + linear.bias
    torch.testing.assert_close(fitted.network._features(items), expected)
    fitted.save(tmp_path / "saved")
    loaded = FDSA_MODEL.load(tmp_path / "saved", config, dataset, FitContext(0, tmp_path / "fit"))
    for name, tensor in loaded.network.state_dict().items():
        assert torch.equal(tensor, fitted.network.state_dict()[name]), name


def test_texts_are_asked_for_where_they_are_read_and_features_elsewhere():
    without = replace(made_up_dataset(), catalog=Catalog(tuple("abcdefghi"), tuple("stuvwxyzs")))
    assert obstacle(Need("fdsa", TEXT), without) is None
    assert "item features" in obstacle(Need("fdsa", SIZES), without)
    assert "item texts are needed" in obstacle(Need("fdsa", TEXT), made_up_dataset())
    assert any("text vectors from tfidf-svd" in line for line in METHOD.assumptions(TEXT))
    with pytest.raises(ValueError, match=r"text_vectors\.dim=none; give one"):
        SIZES.replace(reads="text", text_vectors=TextConfig(dim=None))


@pytest.mark.parametrize(
    ("table", "encoder"),
    [
        ({"reads": "text"}, "minilm"),
        ({}, "tfidf-svd"),
        ({"reads": "text", "text_vectors": {"encoder": "other"}}, "other"),
    ],
)
def test_the_option_text_names_the_encoder_where_texts_are_read(table, encoder):
    settings = settings_of({"fdsa": table}, preset="lite", recipe="default", precision="fp32", text="minilm")
    config = configured(METHOD, "own", settings)
    assert config.text_vectors.encoder == encoder
    if table:
        check_readers([config], settings)
    else:
        with pytest.raises(UsageError, match="--text minilm: none of the methods reads it"):
            check_readers([config], settings)


def test_the_defaults_keep_the_digest_that_they_had_without_text():
    assert not {"reads", "text_vectors"} & set(SIZES.model_dump())


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    sizes = (paper.hidden_size, paper.inner_size, paper.num_layers, paper.num_heads, paper.dropout)
    assert sizes == (128, 256, 2, 2, 0.5)
    assert (paper.learning_rate, paper.batch_size, paper.epochs, paper.features) == (1e-3, 2048, 300, ())
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
    assert METHOD.inputs == ("features",)
    assert len(METHOD.assumptions(paper)) == 1
    net = FDSA_MODEL.new(paper, made_up_dataset(), FitContext(0, Path())).network
    assert net.item_vectors_ND.std().item() == pytest.approx(0.02, rel=0.1)
    assert not net.item_rows_VD[0].any()
