"""S3-Rec. Oracles: RecBole 1.2.1's model with copied weights, both stages; masks and segments read off their rows;
METHODS B.5's values; the same bits after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole_oracle import answers, needs_recbole, of_layers, renamed

from baselines.s3rec import METHOD, S3REC, STAGE, FirstStageConfig, S3Rec, S3RecConfig, build_pretrained, needs
from baselines.s3rec_pretraining import Heads, PretrainingBatches, PretrainingConfig, attributes_of, pretraining_losses
from harness.config import merged
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.errors import DataError
from harness.interfaces import FitContext
from harness.nn.encoder import pack
from harness.sequence.losses import linear_cross_entropy
from harness.sequence.masking import windows_of
from harness.sequence.targets import UnseenItems
from harness.testing import planted
from harness.training.checkpoints import load_tensors

CPU = torch.device("cpu")
ROWS = [[3, 1, 4], [1, 2], [5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2, 7], [9, 8, 7], [6, 5, 4, 3, 2, 1, 2, 3, 4]]
TARGETS = torch.tensor([1, 9, 3, 4, 2, 7])
MASK, LONGEST = 10, 12
FIRST = PretrainingConfig(positions="end", batch_size=4)
SIZES = S3RecConfig(hidden_size=8, inner_size=12, legacy_pad=True, pretraining=FIRST)
STORES = tuple((value,) for value in "abacabbca")
KINDS = (("p", "q"), (), ("r", "p", "s"), ("s",), ("p",), ("q", "r"), ("r",), ("s", "p"), ("q",))
NAMES = {"item_table": "item_embedding", "position_table": "position_embedding", "norm": "LayerNorm"}


def made_up_dataset(features=None):
    sequences = Sequences.from_rows(ROWS)
    cases = EvalCases(sequences.last(LONGEST), np.ones(len(ROWS), dtype=np.int32))
    features = {"store": STORES, "kind": KINDS} if features is None else features
    return Dataset("made-up", "0", Catalog(tuple("abcdefghi"), None, features), sequences, cases, LONGEST)


def heads_of(config=SIZES):
    """Encoder and heads with weights larger than at the start, so that every part matters."""
    attributes, count = attributes_of(made_up_dataset(), config.pretraining)
    built = Heads(S3Rec(config, made_up_dataset(), is_causal=False), attributes, count, 8).eval()
    stream = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=stream)
    return built


def batches_of(config=FIRST, dataset=None):
    dataset = dataset or made_up_dataset()
    _, count = attributes_of(dataset, config)
    unseen = UnseenItems.of(dataset.train, dataset.num_items)
    return PretrainingBatches(*windows_of(dataset), unseen, MASK, count, config, CPU)


def versions_of(batch):
    """The four versions of each row, as lists."""
    lengths = batch.rows.layout.lengths
    rows = [one.tolist() for one in batch.rows.items_T.split(lengths.tolist())]
    count = len(rows) // 4
    return [rows[start : start + count] for start in range(0, 4 * count, count)]


def left_padded(rows):
    return np.array([[0] * (LONGEST - len(row)) + row for row in rows])


def pretraining_arrays(batch, heads):
    """The batch as RecBole's `pretrain` takes it."""
    masked, masked_segment, segment, other = versions_of(batch)
    lengths = [len(row) for row in masked]
    originals = [one.tolist() for one in batch.items_T.split(lengths)]
    negatives_T = batch.items_T.clone()
    negatives_T[batch.is_masked_T] = batch.negatives_M
    negatives = [one.tolist() for one in negatives_T.split(lengths)]
    features = np.zeros((len(masked), LONGEST, len(heads.attributes.weight)), dtype=np.int64)
    for row, items in enumerate(left_padded(originals)):
        for place, item in enumerate(items):
            numbers = heads.attributes_NK[item]
            features[row, place, numbers[numbers > 0] - 1] = 1
    names = ("masked_item_sequence", "pos_items", "neg_items", "masked_segment_sequence", "pos_segment", "neg_segment")
    rows = (masked, originals, negatives, masked_segment, segment, other)
    return {"features": features} | {name: left_padded(one) for name, one in zip(names, rows, strict=True)}


@needs_recbole
@torch.no_grad()
def test_both_stages_are_recboles_with_copied_weights(tmp_path):
    """RecBole has the mask as a class of the second stage's softmax."""
    heads = heads_of()
    state = heads.network.state_dict()
    weights = renamed(state, NAMES) | of_layers(state, "layers", "trm_encoder")
    weights["feature_embedding.weight"] = heads.attributes.weight
    for task in ("aap", "mip", "map", "sp"):
        weights |= {f"{task}_norm.{kind}": getattr(getattr(heads, task), kind) for kind in ("weight", "bias")}
    counts = {"item_id": 10, "class": len(heads.attributes.weight) + 1}
    settings = {"hidden_size": 8, "inner_size": 12, "MAX_ITEM_LIST_LENGTH": LONGEST, "counts": counts}
    settings |= {"item_attribute": "class", "train_stage": "pretrain"}
    batch = batches_of().masked(np.arange(len(ROWS)), np.random.default_rng(0))
    assert batch.is_masked_T.sum() >= 3
    arrays = pretraining_arrays(batch, heads)
    weights = {name: tensor.detach() for name, tensor in weights.items()}
    found = answers(tmp_path, "S3Rec", settings, weights, ROWS, TARGETS, pretrain=arrays)
    losses = pretraining_losses(heads, batch, FIRST)
    assert losses["total"].item() == pytest.approx(float(found["pretrain"]), rel=1e-5)
    assert all(loss.item() > 0.1 for loss in losses.values())

    causal = S3Rec(SIZES, made_up_dataset()).eval()
    causal.load_state_dict(state)
    packed = pack(Sequences.from_rows(ROWS), CPU)
    states = causal(packed, packed.ends_B)
    np.testing.assert_allclose(states @ causal.item_rows_VD.T, found["logits"], rtol=1e-5, atol=1e-5)
    loss = linear_cross_entropy(states, causal.item_table.weight, TARGETS) / len(ROWS)
    assert loss.item() == pytest.approx(float(found["loss"]), rel=1e-5)


def test_segments_are_masked_alone_and_replaced_in_the_same_places():
    masker, stream = batches_of(), np.random.default_rng(0)
    lengths = []
    for _ in range(20):
        batch = masker.masked(np.array([2, 0, 1]), stream)
        originals = [masker.sequences.row(row).tolist() for row in (2, 0, 1)]
        joined = [item for row in originals for item in row]
        masked, masked_segment, segment, other = versions_of(batch)
        for row, original in enumerate(originals):
            inside = [item == MASK for item in masked_segment[row]]
            first, length = inside.index(True), sum(inside)
            assert inside[first : first + length] == [True] * length
            assert 1 <= length <= len(original) // 2
            assert segment[row] == [item if into else MASK for item, into in zip(original, inside, strict=True)]
            replaced = other[row][first : first + length]
            assert any(joined[start : start + length] == replaced for start in range(len(joined)))
            assert [item for item, into in zip(other[row], inside, strict=True) if not into] == [MASK] * (
                len(original) - length
            )
            lengths.append(length)
        flat = torch.tensor([item for row in masked for item in row])
        assert torch.equal(flat == MASK, batch.is_masked_T)
        assert torch.equal(flat[~batch.is_masked_T], batch.items_T[~batch.is_masked_T])
    assert set(lengths) == {1, 2, 3, 4, 5}


def test_an_epoch_holds_every_row_once_and_pieces_add_up():
    masker = batches_of(PretrainingConfig(batch_size=4))
    epoch = list(masker(np.random.default_rng(0)))
    assert [sum(len(versions_of(piece)[0]) for piece in batch) for batch in epoch] == [4, 2]
    seen = sorted(piece.items_T.numel() for batch in epoch for piece in batch)
    assert sum(seen) == sum(map(len, ROWS))


def test_attributes_of_all_fields_have_numbers_of_their_own():
    attributes, count = attributes_of(made_up_dataset(), FIRST)
    assert count == 7
    assert attributes[1].tolist() == [1, 4, 5, 0]
    assert attributes[2].tolist() == [2, 0, 0, 0]
    assert attributes[0].tolist() == [0, 0, 0, 0]


def test_the_first_stage_goes_on_to_the_same_bits_and_the_second_begins_with_its_weights(tmp_path):
    dataset = planted.planted_dataset()
    config = merged(METHOD.presets["lite"], METHOD.tiny)
    first = needs(config)["pretrained"].config

    def interrupt(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    build_pretrained(first, dataset, {}, FitContext(0, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        build_pretrained(first, dataset, {}, FitContext(0, tmp_path / "cut", report=interrupt))
    build_pretrained(first, dataset, {}, FitContext(0, tmp_path / "cut"))
    whole, cut = (load_tensors(tmp_path / name / f"{STAGE}.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    recommender = S3REC.new(config, dataset, FitContext(0, tmp_path))
    assert not torch.equal(recommender.network.item_table.weight, whole["item_table.weight"])
    S3REC.start(recommender.network, {"pretrained": tmp_path / "whole"})
    assert torch.equal(recommender.network.item_table.weight, whole["item_table.weight"])


def test_without_a_first_stage_no_features_are_needed():
    config = SIZES.replace(pretraining=PretrainingConfig(epochs=0))
    assert needs(config) == {}
    S3REC.new(config, made_up_dataset({}), FitContext(0, Path()))
    with pytest.raises(DataError, match="item features"):
        build_pretrained(FirstStageConfig(), made_up_dataset({}), {}, FitContext(0, Path()))


def test_paper_sizes_are_those_of_the_fact_sheet_and_are_declared():
    paper = METHOD.presets["paper"]
    first = paper.pretraining
    sizes = (paper.hidden_size, paper.inner_size, paper.num_layers, paper.num_heads, paper.dropout, first.mask_ratio)
    assert sizes == (128, 256, 2, 2, 0.5, 0.2)
    assert (first.aap_weight, first.mip_weight, first.map_weight, first.sp_weight) == (0.2, 1.0, 1.0, 0.5)
    assert METHOD.grid == {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
    assert METHOD.inputs == ("features",)
    assert len(METHOD.assumptions(paper)) == 1
    net = S3REC.new(paper, made_up_dataset(), FitContext(0, Path())).network
    assert net.item_vectors_ND.std().item() == pytest.approx(0.02, rel=0.1)
    assert len(net.item_vectors_ND) == 9
    assert not net.item_rows_VD[0].any()
