"""Oracles: planted clusters, scikit-learn-free arithmetic, torch's own schedule, and bit-equal resumption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import StageError
from harness.generative.tokenizer.codes import code_health
from harness.generative.tokenizer.fit import (
    TokenizerConfig,
    evaluation,
    evaluations_without_gain,
    fit_tokenizer,
    kmeans,
    load_tokenizer,
    save_tokenizer,
    selection_score,
    start_codebooks,
    warmup_then_linear,
)
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig
from harness.interfaces import FitContext, Progress
from harness.stages import read_json
from harness.training.checkpoints import load_tensors, save_tensors

RQ = RQVAEConfig(hidden_sizes=(32,), code_dim=8, num_levels=3, codebook_size=16)
CONFIG = TokenizerConfig(rqvae=RQ, epochs=12, batch_size=64, warmup_epochs=2, evaluate_every=4)


class Interruption(Exception):
    """Stands for a kill between two epochs."""


def planted(num_items: int = 300, seed: int = 0) -> torch.Tensor:
    """Vectors in a hierarchy: 12 groups of 5 subgroups, and noise."""
    stream = np.random.default_rng(seed)
    groups, subgroups = stream.integers(12, size=num_items), stream.integers(5, size=num_items)
    vectors = 3 * stream.standard_normal((12, 20))[groups] + stream.standard_normal((12, 5, 20))[groups, subgroups]
    return torch.from_numpy(vectors + 0.3 * stream.standard_normal((num_items, 20))).float()


def same_weights(first: RQVAE, second: RQVAE) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_training_on_planted_sums_reconstructs_them_with_few_collisions(tmp_path: Path) -> None:
    # Each item is a sum of one of 8 large, one of 8 middle and one of 8 small vectors: a residual code by nature.
    stream = np.random.default_rng(0)
    sums = stream.choice(8**3, size=300, replace=False)
    large, middle, small = stream.standard_normal((3, 8, 20)) * np.array([0.5, 0.2, 0.08])[:, None, None]
    vectors = torch.from_numpy(large[sums // 64] + middle[sums // 8 % 8] + small[sums % 8]).float()
    sizes = RQVAEConfig(hidden_sizes=(64,), code_dim=16, num_levels=3, codebook_size=32)
    config = CONFIG.replace(rqvae=sizes, epochs=100, evaluate_every=10, warmup_epochs=10, learning_rate=3e-3)
    rqvae = fit_tokenizer(config, vectors, FitContext(seed=1, folder=tmp_path))
    assert code_health(rqvae.codes(vectors), 32)["collision_rate"] < 0.2
    measures = evaluation(rqvae, vectors)
    with torch.no_grad():
        error = (rqvae(vectors).reconstruction_BZ - vectors).square().mean()
    assert measures["reconstruction"] == pytest.approx(float(error))
    assert measures["reconstruction"] < measures["loss"]
    assert error < 0.1 * vectors.var()


def test_the_kept_weights_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    vectors = planted()
    rqvae = fit_tokenizer(CONFIG.replace(epochs=40), vectors, FitContext(seed=1, folder=tmp_path))
    history = read_json(tmp_path / "history-tokenizer.json", list)
    evaluations = [row["measures"] for row in history if row["measures"]]
    best = min(evaluations, key=lambda measures: (measures["collision_rate"], measures["loss"]))
    assert evaluation(rqvae, vectors) == pytest.approx(best)
    assert len(evaluations) == 10


def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    vectors = planted()
    whole = fit_tokenizer(CONFIG, vectors, FitContext(seed=5, folder=tmp_path / "whole"))

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 7:
            raise Interruption

    (tmp_path / "parts").mkdir()
    with pytest.raises(Interruption):
        fit_tokenizer(CONFIG, vectors, FitContext(seed=5, folder=tmp_path / "parts", report=interrupt))
    epochs: list[int] = []
    context = FitContext(seed=5, folder=tmp_path / "parts", report=lambda progress: epochs.append(progress.epoch))
    assert same_weights(fit_tokenizer(CONFIG, vectors, context), whole)
    assert epochs == [5, 6, 7, 8, 9, 10, 11, 12]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    vectors = planted()
    first, second, other = (
        fit_tokenizer(CONFIG, vectors, FitContext(seed=seed, folder=tmp_path / name))
        for seed, name in ((3, "a"), (3, "b"), (4, "c"))
    )
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_training_stops_when_collisions_stand_still(tmp_path: Path) -> None:
    # Five items and 16 ** 3 tuples: no collision from the first evaluation on, so two more and it stops.
    epochs: list[int] = []
    context = FitContext(seed=1, folder=tmp_path, report=lambda progress: epochs.append(progress.epoch))
    fit_tokenizer(CONFIG.replace(epochs=100, patience=2), planted(5), context)
    assert epochs[-1] == 12


def test_a_loss_that_is_not_finite_names_stage_and_step(tmp_path: Path) -> None:
    config = CONFIG.replace(learning_rate=1e30, max_norm=None, warmup_epochs=0)
    with pytest.raises(StageError, match=r"stage 'tokenizer'.* step \d+") as error:
        fit_tokenizer(config, planted(), FitContext(seed=1, folder=tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option", [{"kmeans_init": "first_batch"}, {"sinkhorn_last_level": True}, {"decay": "constant"}]
)
def test_every_switch_changes_the_result(option: dict, tmp_path: Path) -> None:
    vectors = planted()
    default = fit_tokenizer(CONFIG, vectors, FitContext(seed=1, folder=tmp_path / "default"))
    switched = fit_tokenizer(CONFIG.replace(**option), vectors, FitContext(seed=1, folder=tmp_path / "switched"))
    assert not same_weights(default, switched)


def test_the_kmeans_start_lowers_the_quantisation_error_below_random_rows() -> None:
    vectors = planted()
    errors = []
    for cluster in (kmeans(16, seed=0), lambda points_ND, level: points_ND[:16]):
        rqvae = RQVAE(20, RQ, generator=torch.Generator().manual_seed(0))
        start_codebooks(rqvae, vectors, cluster)
        encoded = rqvae.encode(vectors).detach()
        errors.append(float((rqvae.quantize(encoded).quantized_BD.detach() - encoded).square().mean()))
    assert errors[0] < 0.8 * errors[1]
    assert errors[0] < 0.2 * float(encoded.var())


def test_the_first_codebook_holds_the_means_of_the_items_that_it_takes() -> None:
    vectors = planted()
    rqvae = RQVAE(20, RQ, generator=torch.Generator().manual_seed(0))
    start_codebooks(rqvae, vectors, kmeans(16, seed=0))
    encoded = rqvae.encode(vectors).detach()
    codes = rqvae.quantize(encoded).codes_BL[:, 0]
    for code in codes.unique():
        torch.testing.assert_close(
            rqvae.codebooks_LKD[0, code].detach(), encoded[codes == code].mean(0), rtol=1e-4, atol=1e-4
        )


def test_fewer_items_than_codes_still_start_with_distinct_codes() -> None:
    points = np.repeat(np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32), 2, axis=0)
    centers = kmeans(16, seed=0)(points, 0)
    assert centers.shape == (16, 8)
    assert len(np.unique(centers, axis=0)) == 16
    assert {tuple(point) for point in points.tolist()} <= {tuple(center) for center in centers.tolist()}


def test_fewer_items_than_codes_can_be_fitted(tmp_path: Path) -> None:
    vectors = planted(6)
    rqvae = fit_tokenizer(CONFIG, vectors, FitContext(seed=1, folder=tmp_path))
    assert code_health(rqvae.codes(vectors), 16)["collision_rate"] == 0


def test_the_schedule_equals_torch_s_own() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 5),
            torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=15),
        ],
        milestones=[5],
    )
    schedule = warmup_then_linear(5, 20)
    for step in range(20):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert schedule(20) == 0
    assert [warmup_then_linear(2, None)(step) for step in (0, 1, 2, 99)] == [0, 0.5, 1, 1]
    assert warmup_then_linear(0, 4)(0) == 1


def test_scores_put_collisions_first_and_the_loss_second() -> None:
    def score(collisions: int, loss: float, selection: str = "collision") -> float:
        return selection_score({"collision_rate": collisions / 1000, "items": 1000.0, "loss": loss}, selection)

    assert score(3, 1e6) > score(4, 0.0)
    assert score(3, 0.1) > score(3, 0.2)
    assert score(4, 0.1, "loss") > score(3, 0.2, "loss")


def test_gains_are_counted_from_the_first_lowest_value() -> None:
    assert [evaluations_without_gain(values) for values in ([], [0.3], [0.3, 0.2], [0.2, 0.2, 0.4])] == [0, 0, 0, 2]


def test_a_saved_tokenizer_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    rqvae = RQVAE(20, RQ)
    save_tokenizer(rqvae, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert same_weights(loaded, rqvae)
    assert loaded.config == RQ
    path = tmp_path / "tokenizer.safetensors"
    save_tensors(path, {f"state_dict.{name}": tensor for name, tensor in load_tensors(path).items()})
    with pytest.raises(RuntimeError, match="Missing key"):
        load_tokenizer(tmp_path)
