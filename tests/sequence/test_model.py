"""Item-scoring methods from config to recommendations, on SASRec. Oracles: one explicit sample per prefix, torch's
losses, a planted cycle."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from baselines.sasrec import original_form
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.samples import PrefixSamples
from harness.data.text.vectors import load_vectors
from harness.errors import DataError, StageError
from harness.evaluation.outcomes import evaluate, validation_score
from harness.evaluation.ranking import all_ranks
from harness.interfaces import FitContext, Need
from harness.methods import stage_of
from harness.nn.encoder import pack
from harness.sequence.model import ServingSizes, build_item_vectors
from harness.sequence.sasrec import PAPER, SASREC, SASRecConfig, sasrec_vectors, vectors_config
from harness.sequence.training import Batches, batch_losses, softmax_assumptions
from harness.stages import read_json
from results.statistics.metrics.ndcg import ndcg

CPU = torch.device("cpu")
NUM_ITEMS = 12
TINY = SASRecConfig(hidden_size=16, inner_size=16, dropout=0.0, learning_rate=0.01, batch_size=64, epochs=2)


def random_dataset(max_history=5, users=20, seed=0, num_items=NUM_ITEMS):
    stream = np.random.default_rng(seed)
    rows = [stream.integers(1, num_items + 1, length).tolist() for length in stream.integers(1, 14, users)]
    targets = stream.integers(1, num_items + 1, users).astype(np.int32)
    keys = tuple(f"item-{item}" for item in range(1, num_items + 1))
    train = Sequences.from_rows(rows)
    return Dataset("made-up", "0", Catalog(keys), train, EvalCases(train.last(max_history), targets), max_history)


def cyclic_dataset(users=200):
    """Each user walks round the items, one or two steps at a time for good: the last two items tell the next one."""
    stream = np.random.default_rng(0)
    steps, starts, lengths = (stream.integers(low, high, users) for low, high in ((1, 3), (0, 12), (4, 9)))
    rows = [
        [(start + step * i) % NUM_ITEMS + 1 for i in range(n + 1)]
        for start, step, n in zip(starts, steps, lengths, strict=True)
    ]
    train = Sequences.from_rows([row[:-1] for row in rows])
    targets = np.array([row[-1] for row in rows], dtype=np.int32)
    return Dataset("cycle", "0", Catalog(tuple("abcdefghijkl")), train, EvalCases(train, targets))


def fit(config, dataset, context):
    return SASREC.fit(config, dataset, {}, context)


def batches_of(config, dataset, **changes):
    return Batches(SASREC.objective(config, dataset), config.batch_size, CPU, **changes)


def loss_and_gradients(network, losses):
    network.zero_grad()
    total = 0.0
    for piece in losses:
        piece["total"].backward()
        total += piece["total"].item()
    return total, {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def prefix_sample_losses(network, dataset):
    """One row and one target per prefix, as in METHODS A.5, under torch's own softmax."""
    samples = PrefixSamples.of(dataset)
    histories, targets = samples.batch(np.arange(len(samples)))
    packed = pack(histories, CPU)
    logits = network(packed, packed.ends_B) @ network.item_table.weight.T
    if not network.legacy_pad:
        logits = logits[:, 1:]
    classes = torch.from_numpy(targets) - (0 if network.legacy_pad else 1)
    yield {"total": F.cross_entropy(logits, classes)}


@pytest.mark.parametrize("legacy_pad", [False, True])
@pytest.mark.parametrize("piece_tokens", [16, 10_000])
def test_all_positions_in_one_pass_give_the_loss_and_gradients_of_one_sample_per_prefix(
    tmp_path, legacy_pad, piece_tokens
):
    dataset = random_dataset()
    assert dataset.train.lengths.max() > dataset.max_history + 1
    config = TINY.replace(legacy_pad=legacy_pad, batch_size=10_000)
    network = SASREC.new(config, dataset, FitContext(0, tmp_path)).network.double()
    batches = batches_of(config, dataset, piece_tokens=piece_tokens)
    (batch,) = batches(np.random.default_rng(0))
    assert (len(batch) > 1) is (piece_tokens == 16)
    loss, gradients = loss_and_gradients(network, batch_losses(network, batches.objective.loss, batch))
    expected_loss, expected_gradients = loss_and_gradients(network, prefix_sample_losses(network, dataset))
    assert loss == pytest.approx(expected_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], msg=name)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_prefixes_as_rows_of_their_own_change_the_dropout_masks_alone(tmp_path, dropout):
    """Oracle: one sample per prefix under torch's softmax. A stride changes the histories, and with them the loss."""
    dataset, found = random_dataset(), {}
    for batches, stride in (("users", 1), ("prefixes", 1), ("users", 3)):
        config = TINY.replace(batch_size=10_000, dropout=dropout, batches=batches, stride=stride)
        network = SASREC.new(config, dataset, FitContext(0, tmp_path)).network.double()
        epoch = batches_of(config, dataset)
        torch.manual_seed(0)
        (batch,) = epoch(np.random.default_rng(0))
        found[batches, stride], _ = loss_and_gradients(network, batch_losses(network, epoch.objective.loss, batch))
        if batches == "prefixes":
            assert [len(piece.rows.ends_B) for piece in batch] == [len(piece.targets_M) for piece in batch]
    expected = sum(losses["total"].item() for losses in prefix_sample_losses(network.eval(), dataset))
    for key, loss in found.items():
        assert (loss == pytest.approx(expected, rel=1e-9)) is (dropout == 0 and key != ("users", 3))
    assert len(set(found.values())) >= 2


def test_logits_and_losses_are_in_full_precision_whatever_autocast_says(tmp_path):
    dataset, seen = random_dataset(), []
    network = SASREC.new(TINY, dataset, FitContext(0, tmp_path)).network
    batches = batches_of(TINY, dataset)
    batch = next(batches(np.random.default_rng(0)))

    def loss(states_MD, rows_VD, targets_M):
        seen.append((states_MD.dtype, (states_MD @ rows_VD.T).dtype))
        return batches.objective.loss(states_MD, rows_VD, targets_M)

    exact = [piece["total"].item() for piece in batch_losses(network.eval(), loss, batch)]
    with torch.autocast("cpu", torch.bfloat16):
        rough = [piece["total"].item() for piece in batch_losses(network, loss, batch)]
    assert set(seen) == {(torch.float32, torch.float32)}
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("legacy_pad", [False, True])
def test_the_chunked_softmax_gives_the_losses_and_gradients_of_the_full_one(tmp_path, legacy_pad):
    dataset, found = random_dataset(), []
    for softmax in ("full", "chunked"):
        config = TINY.replace(legacy_pad=legacy_pad, softmax=softmax)
        network = SASREC.new(config, dataset, FitContext(0, tmp_path)).network
        batches = batches_of(config, dataset)
        batch = next(batches(np.random.default_rng(0)))
        found.append(loss_and_gradients(network, batch_losses(network, batches.objective.loss, batch)))
    (loss, gradients), (chunked_loss, chunked_gradients) = found
    assert chunked_loss == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(chunked_gradients[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("legacy_pad", [False, True])
def test_the_padding_row_is_trained_as_a_class_only_with_legacy_pad(tmp_path, legacy_pad):
    dataset, config = random_dataset(), TINY.replace(legacy_pad=legacy_pad)
    network, loss = SASREC.new(config, dataset, FitContext(0, tmp_path)).network, SASREC.objective(config, dataset).loss
    states, targets = torch.ones(2, 16), torch.tensor([1, 9])
    classes = network.item_rows_VD if legacy_pad else network.item_vectors_ND
    expected = F.cross_entropy(states @ classes.T, targets - (0 if legacy_pad else 1), reduction="sum")
    found = loss(states, network.item_rows_VD, targets)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert bool(network.item_table.weight.grad[0].any()) is legacy_pad


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_the_sampled_softmax_of_many_draws_is_near_the_full_one(tmp_path, negatives):
    dataset, losses = random_dataset(), []
    for config in (TINY, TINY.replace(softmax="sampled", num_negatives=100_000, negatives=negatives)):
        network = SASREC.new(config, dataset, FitContext(0, tmp_path)).network
        torch.nn.init.normal_(network.item_table.weight, generator=torch.Generator().manual_seed(0))
        batches = batches_of(config, dataset)
        batch = next(batches(np.random.default_rng(0)))
        losses.append(loss_and_gradients(network, batch_losses(network, batches.objective.loss, batch))[0])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_only_a_sampled_softmax_is_declared_as_another_loss():
    assert softmax_assumptions(TINY) == softmax_assumptions(TINY.replace(softmax="chunked")) == []
    (line,) = softmax_assumptions(TINY.replace(softmax="sampled", num_negatives=7, negatives="popularity"))
    assert "7 items drawn by popularity" in line


def test_an_epoch_holds_every_sample_once_in_about_as_many_batches_as_prefix_samples_would_fill():
    dataset = random_dataset(users=300)
    samples = PrefixSamples.of(dataset)
    epoch = list(batches_of(TINY, dataset)(np.random.default_rng(0)))
    targets = torch.cat([piece.targets_M for batch in epoch for piece in batch])
    assert sorted(targets.tolist()) == sorted(dataset.train.items[samples.ends].tolist())
    assert 0 <= -(-len(samples) // TINY.batch_size) - len(epoch) <= 1
    sizes = [sum(len(piece.targets_M) for piece in batch) for batch in epoch]
    assert all(abs(size - TINY.batch_size) < dataset.max_history for size in sizes[:-1])


# First rows of 2, 5 and 5 items (as prefixes 3, 15 and 15), then windows of 5: 34 + 84, or a quarter of each.
@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 12 + 5 * 118), ({"stride": 4}, 12 + 5 * (9 + 21)), ({"batches": "prefixes"}, 33 + 5 * 118)],
    ids=str,
)
def test_long_histories_wait_in_pieces_of_bounded_size_and_train_every_target_once(changes, expected):
    stream = np.random.default_rng(0)
    rows = [stream.integers(1, NUM_ITEMS + 1, length).tolist() for length in (3, 40, 90)]
    dataset = replace(random_dataset(max_history=5), train=Sequences.from_rows(rows))
    epoch = batches_of(TINY.replace(**changes), dataset, piece_tokens=50)(np.random.default_rng(0))
    pieces = [piece for batch in epoch for piece in batch]
    tokens = [len(piece.rows.items_T) for piece in pieces]
    assert max(tokens) < 50 + dataset.max_history
    assert sum(tokens) == expected
    targets = torch.cat([piece.targets_M for piece in pieces])
    assert sorted(targets.tolist()) == sorted(item for row in rows for item in row[1:])


def test_original_batches_hold_users_and_contrast_each_target_with_an_unseen_item():
    dataset = random_dataset(max_history=50)
    epoch = list(batches_of(original_form(TINY).replace(batch_size=6), dataset)(np.random.default_rng(0)))
    assert (dataset.train.lengths >= 2).sum() == 17  # the others have no target
    assert [sum(len(piece.rows.ends_B) for piece in batch) for batch in epoch] == [6, 6, 5]
    pieces = [piece for batch in epoch for piece in batch]
    assert sum(len(piece.targets_M) for piece in pieces) == len(PrefixSamples.of(dataset))
    assert all(not (piece.drawn[0] == piece.targets_M).any() for piece in pieces)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        original_form(TINY).replace(batch_size=16),
        TINY.replace(softmax="chunked"),
        TINY.replace(softmax="sampled", num_negatives=6),
    ],
    ids=["recbole", "original", "chunked", "sampled"],
)
def test_a_planted_cycle_is_learned(tmp_path, config):
    dataset = cyclic_dataset()
    recommender = fit(config.replace(epochs=20, evaluate_every=10), dataset, FitContext(0, tmp_path))
    ranks = evaluate(recommender, dataset.validation, 1).ranks
    assert (ranks == 1).mean() > 0.7  # the last item alone would tell every second, popularity every twelfth


def test_recommendations_are_distinct_real_items_best_first_and_do_not_hang_on_the_batch(tmp_path):
    dataset = random_dataset(max_history=50)
    recommender = fit(TINY, dataset, FitContext(0, tmp_path))
    items, scores = recommender.recommend(dataset.train, NUM_ITEMS)
    assert np.array_equal(np.sort(items, axis=1), np.tile(np.arange(1, NUM_ITEMS + 1), (dataset.num_users, 1)))
    assert (np.diff(scores, axis=1) <= 0).all()
    backwards = np.arange(dataset.num_users)[::-1]
    again = recommender.recommend(dataset.train.take(backwards), NUM_ITEMS)
    np.testing.assert_allclose(again.scores[backwards], scores, rtol=1e-5, atol=1e-6)
    longer = recommender.recommend(Sequences.from_rows([[1] * 60 + [2, 3]]), 5)
    cut = recommender.recommend(Sequences.from_rows([[1] * 48 + [2, 3]]), 5)
    assert np.array_equal(longer.items, cut.items)


def test_chunked_scores_equal_one_product_of_states_and_table(tmp_path):
    dataset = random_dataset()
    fitted = fit(TINY, dataset, FitContext(0, tmp_path))
    recommender = replace(fitted, sizes=ServingSizes(encoded=7, scores=3 * NUM_ITEMS, least_scored=1))
    network = recommender.network
    with torch.no_grad():
        packed = pack(dataset.train.last(5), CPU)
        expected = network(packed, packed.ends_B) @ network.item_table.weight[1:].T
    seen = []
    for users, scores in recommender.scores(dataset.train):
        torch.testing.assert_close(scores, expected[users])
        seen.extend(users.tolist())
    assert sorted(seen) == list(range(dataset.num_users))


def test_the_selecting_score_is_the_evaluations_ndcg_at_10(tmp_path):
    dataset = random_dataset()
    recommender = fit(TINY, dataset, FitContext(0, tmp_path))
    scores = [row["score"] for row in read_json(tmp_path / "history-sasrec.json", list)]
    assert max(scores) == pytest.approx(validation_score(recommender, dataset))
    ranks = all_ranks(recommender.scores, dataset.validation)
    assert max(scores) == pytest.approx(ndcg(ranks, 10).mean())


@pytest.mark.parametrize("patience", [0, 2])
def test_training_stops_after_more_than_patience_scores_without_improvement(monkeypatch, tmp_path, patience):
    falling = iter(np.linspace(1.0, 0.0, 50))
    monkeypatch.setattr("harness.sequence.model.ndcg", lambda ranks, k: np.array([next(falling)]))
    fit(TINY.replace(epochs=50, patience=patience), random_dataset(), FitContext(0, tmp_path))
    assert len(read_json(tmp_path / "history-sasrec.json", list)) == 1 + patience + 1


def test_validation_targets_move_no_parameter_when_nothing_is_selected(tmp_path):
    dataset = random_dataset()
    cases = EvalCases(dataset.validation.histories, dataset.validation.targets[::-1] % NUM_ITEMS + 1)
    other = Dataset(dataset.name, "1", dataset.catalog, dataset.train, cases, 5)
    config = TINY.replace(patience=None)
    fitted = [
        fit(config, data, FitContext(0, tmp_path / name)).network.state_dict()
        for name, data in (("one", dataset), ("other", other))
    ]
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    config = TINY.replace(dropout=0.5)
    tables = [
        fit(config, random_dataset(), FitContext(seed, tmp_path / str(run))).network.item_table.weight
        for run, seed in enumerate((3, 3, 4))
    ]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize("config", [TINY, original_form(TINY)], ids=["recbole", "original"])
def test_a_saved_recommender_recommends_the_same_after_loading(tmp_path, config):
    dataset = random_dataset()
    context = FitContext(0, tmp_path / "fit")
    recommender = fit(config, dataset, context)
    recommender.save(tmp_path / "saved")
    loaded = SASREC.load(tmp_path / "saved", config, dataset, context)
    for before, after in zip(recommender.recommend(dataset.train, 5), loaded.recommend(dataset.train, 5), strict=True):
        assert np.array_equal(before, after)
    assert loaded.health() == recommender.health()
    assert recommender.health()["num_parameters"] == sum(p.numel() for p in loaded.network.parameters())


def test_a_recommender_of_other_items_is_refused_in_one_line(tmp_path):
    dataset = random_dataset()
    context = FitContext(0, tmp_path / "fit")
    fit(TINY, dataset, context).save(tmp_path / "saved")
    swapped = Catalog((*dataset.catalog.keys[1::-1], *dataset.catalog.keys[2:]))
    other = Dataset("other", "1", swapped, dataset.train, dataset.validation, 5)
    with pytest.raises(StageError, match="fit the method again") as raised:
        SASREC.load(tmp_path / "saved", TINY, other, context)
    assert "\n" not in str(raised.value)


def test_exported_vectors_are_the_item_rows_of_the_fit_and_refuse_another_order_of_items(tmp_path):
    dataset = random_dataset()
    recommender = fit(TINY, dataset, FitContext(0, tmp_path / "fit"))
    recommender.save(tmp_path / "saved")
    build_item_vectors(TINY, dataset, {"model": tmp_path / "saved"}, FitContext(5, tmp_path / "stage"), model=SASREC)
    vectors = load_vectors(tmp_path / "stage", dataset.catalog.keys)
    assert vectors.shape == (NUM_ITEMS, 16)
    assert np.array_equal(vectors, recommender.network.item_table.weight.detach().numpy()[1:])
    with pytest.raises(DataError):
        load_vectors(tmp_path / "stage", dataset.catalog.keys[::-1])


def test_a_row_and_the_vectors_of_the_same_config_stand_on_one_fit():
    row, vectors = (
        stage_of(need, dataset="0", seed=3, conditions={"contract": {"num_beams": beams}, "precision": "fp32"})
        for need, beams in ((Need("sasrec", TINY), 20), (sasrec_vectors(TINY), 50))
    )
    assert vectors.inputs["model"].key == row.key


def test_paper_sizes_are_those_of_the_fact_sheet():
    assert (PAPER.hidden_size, PAPER.num_heads, PAPER.batch_size, PAPER.epochs) == (128, 2, 2048, 300)
    assert [(c.hidden_size, c.num_heads, c.inner_size) for c in map(vectors_config, (256, 32))] == [
        (256, 4, 256),
        (32, 2, 256),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 10, "num_heads": 3},
        {"style": "original", "legacy_pad": True},
        {"style": "original", "softmax": "chunked"},
        {"softmax": "sampled", "legacy_pad": True},
    ],
    ids=str,
)
def test_a_config_that_cannot_work_is_refused(changes):
    with pytest.raises(ValidationError, match="but got"):
        SASRecConfig(**changes)
