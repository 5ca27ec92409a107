"""Oracles: losses written out on tiny tensors, frequencies of draws, properties of codes, bit-equal resumption."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from baselines.letter import METHOD
from baselines.letter_tokenizer import (
    GroupRings,
    LetterTokenizerConfig,
    code_groups,
    collaborative_loss,
    colliding_groups,
    diversity_loss,
    draw_partners,
    fit_letter_tokenizer,
    group_bounds,
    initial_bounds,
    resolve_collisions,
)
from harness.errors import StageError
from harness.generative.tokenizer.codes import code_health
from harness.generative.tokenizer.constrained_kmeans import constrained_kmeans
from harness.generative.tokenizer.fit import STAGE
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig
from harness.interfaces import FitContext, Progress
from harness.seeding import numpy_stream
from harness.stages import read_json

SMALL = LetterTokenizerConfig(
    rqvae=RQVAEConfig(hidden_sizes=(32, 16), code_dim=8, num_levels=4, codebook_size=16),
    epochs=6, batch_size=64, num_groups=4, refresh_groups_every=2, evaluate_every=2, beta_div=0.01, alpha_cf=0.1,
)  # fmt: skip


def text_and_cf(num_items: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centers = 3 * torch.randn(10, 24, generator=generator)
    text = centers[torch.arange(num_items) % 10] + 0.5 * torch.randn(num_items, 24, generator=generator)
    return text, torch.randn(num_items, 8, generator=generator)


def test_the_collaborative_loss_by_hand() -> None:
    q, h = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    # q·hᵀ = [[1, 0], [2, 2]]: -log of e/(e + 1), and of 1/2.
    expected = (-math.log(math.e / (math.e + 1)) - math.log(0.5)) / 2
    assert collaborative_loss(q, h).item() == pytest.approx(expected)


def test_the_collaborative_loss_moves_the_encoder_alone() -> None:
    rqvae = RQVAE(24, SMALL.rqvae)
    torch.nn.init.normal_(rqvae.codebooks_LKD)
    text, cf = text_and_cf(12)
    collaborative_loss(rqvae(text).quantized.quantized_BD, cf).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in rqvae.encoder.parameters())
    assert rqvae.codebooks_LKD.grad is None or not rqvae.codebooks_LKD.grad.any()
    assert all(parameter.grad is None for parameter in rqvae.decoder.parameters())


def test_the_diversity_loss_by_hand() -> None:
    codebook = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    # Level 1, code 0 with partner 1: products (masked, 2, 0) -> -log(e² / (e² + 1)).
    # Level 2, code 2 with partner 0: products (0, 0, masked) -> log 2.
    loss = diversity_loss(torch.stack([codebook, codebook]), torch.tensor([[0, 2]]), torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)


def test_the_diversity_loss_moves_chosen_and_compared_codes() -> None:
    codebooks = torch.randn(1, 4, 3, requires_grad=True)
    diversity_loss(codebooks, torch.tensor([[0]]), torch.tensor([[1]])).backward()
    assert (codebooks.grad.abs().sum(-1) > 0).all()


def test_partners_are_uniform_over_the_other_codes_of_the_group() -> None:
    torch.manual_seed(0)
    groups = torch.tensor([[0, 1, 0, 1, 0, 0]])  # group 0: codes 0, 2, 4, 5
    rings = GroupRings.of(groups)
    partners = draw_partners(torch.full((30_000, 1), 2), rings).flatten()
    counts = torch.bincount(partners, minlength=6)
    assert counts[[1, 2, 3]].tolist() == [0, 0, 0]
    assert counts[[0, 4, 5]].tolist() == pytest.approx([10_000] * 3, rel=0.04)
    assert draw_partners(torch.full((100, 1), 3), rings).unique().tolist() == [1]


def test_groups_of_a_full_codebook_keep_the_official_bounds() -> None:
    assert group_bounds(256, 10) == (10, 60)
    codebooks = torch.randn(2, 256, 4, generator=torch.Generator().manual_seed(0)).exp()
    groups = code_groups(codebooks, 10, seed=0, epoch=0)
    for level in range(2):
        sizes = torch.bincount(groups[level], minlength=10)
        assert 10 <= sizes.min() <= sizes.max() <= 60


@pytest.mark.parametrize(
    ("items", "codes", "expected"),
    [(9_922, 256, (19, 76)), (24_587, 256, (48, 192)), (300, 256, (0, 3)), (100_000, 256, (50, 782))],
)
def test_bounds_of_the_first_clusters(items: int, codes: int, expected: tuple[int, int]) -> None:
    low, high = initial_bounds(items, codes)
    assert (low, high) == expected
    assert low * codes <= items <= high * codes


def test_colliding_groups_are_the_rows_of_shared_tuples() -> None:
    codes = torch.tensor([[1, 2], [0, 0], [1, 2], [3, 3], [0, 0], [1, 2]])
    assert [rows.tolist() for rows in colliding_groups(codes)] == [[1, 4], [0, 2, 5]]


def test_colliding_items_get_different_last_codes_and_keep_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(6, 3, dtype=torch.int64)
    codes[5] = torch.tensor([1, 1, 1])
    distances = torch.rand(6, 8, generator=generator)
    resolved = resolve_collisions(codes, distances, rounds=20)
    assert len({tuple(row) for row in resolved.tolist()}) == 6
    assert torch.equal(resolved[:, :2], codes[:, :2])
    assert torch.equal(resolved[5], codes[5])
    assert torch.equal(resolve_collisions(codes, distances, rounds=0), codes)


def test_items_that_cannot_be_told_apart_keep_a_shared_tuple() -> None:
    codes, distances = torch.zeros(2, 2, dtype=torch.int64), torch.rand(1, 4).repeat(2, 1)
    resolved = resolve_collisions(codes, distances, rounds=20)
    assert torch.equal(resolved[0], resolved[1])


def test_the_official_recipe_checks_every_2000_epochs_and_starts_k_means_ten_times() -> None:
    """Oracle: the arguments of LETTER's release (METHODS B.4); the default's choice stands among the assumptions."""
    for preset, every in (("paper", 2_000), ("lite", 20)):
        own = METHOD.presets[preset]
        official = METHOD.recipes["official"](own)
        tokenizer = official.tokenizer
        assert (tokenizer.evaluate_every, tokenizer.epochs // tokenizer.evaluate_every) == (every, 10)
        assert (tokenizer.kmeans_restarts, tokenizer.refresh_groups_every) == (10, 1)
        assert (tokenizer.alpha_cf, tokenizer.beta_div) == (0.01, 1e-4)
        assert official.replace(tokenizer=own.tokenizer) == own
        assert not any("LETTER" in line for line in METHOD.assumptions(official))
    (line,) = [line for line in METHOD.assumptions(METHOD.presets["paper"]) if "LETTER" in line]
    assert "of 400 checks" in line
    assert "from 1 start of k-means" in line


def test_the_first_codes_come_from_the_best_of_the_starts(tmp_path: Path) -> None:
    """Oracle: ten clusterings of one start each, drawn from one stream in turn; the tightest is taken."""
    text, cf = text_and_cf()
    still = SMALL.replace(kmeans_restarts=10, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    rqvae, _ = fit_letter_tokenizer(still, text, cf, FitContext(seed=3, folder=tmp_path))
    points = rqvae.encode(text).detach().numpy()
    stream, (least, most) = numpy_stream(3, STAGE, "kmeans", 0), initial_bounds(len(points), 16)
    clusterings = [
        constrained_kmeans(points, 16, min_size=least, max_size=most, stream=stream, restarts=1) for _ in range(10)
    ]
    best = min(clusterings, key=lambda clustering: clustering.inertia)
    assert best.inertia < clusterings[0].inertia  # what one start gives
    torch.testing.assert_close(
        rqvae.codebooks_LKD[0].detach(), torch.from_numpy(best.centers_KD).float(), atol=1e-5, rtol=0
    )


def test_a_fit_gives_every_item_codes_with_few_collisions(tmp_path: Path) -> None:
    text, cf = text_and_cf()
    rqvae, codes = fit_letter_tokenizer(SMALL.replace(epochs=30), text, cf, FitContext(seed=1, folder=tmp_path))
    assert codes.shape == (200, 4)
    assert code_health(codes, 16)["collision_rate"] <= code_health(rqvae.codes(text), 16)["collision_rate"]
    assert code_health(codes, 16)["collision_rate"] < 0.05
    history = read_json(tmp_path / "history-tokenizer.json", list)
    assert set(history[0]["losses"]) == {"total", "semantic", "collaborative", "diversity"}
    assert history[-1]["losses"]["collaborative"] < history[0]["losses"]["collaborative"]
    for row in history:
        losses = row["losses"]
        parts = losses["semantic"] + 0.1 * losses["collaborative"] + 0.01 * losses["diversity"]
        assert losses["total"] == pytest.approx(parts, rel=1e-5)


def test_an_interrupted_fit_between_two_groupings_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    text, cf = text_and_cf()
    config = SMALL.replace(refresh_groups_every=4)
    _, whole = fit_letter_tokenizer(config, text, cf, FitContext(seed=1, folder=tmp_path / "whole"))

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    (tmp_path / "parts").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fit_letter_tokenizer(config, text, cf, FitContext(seed=1, folder=tmp_path / "parts", report=interrupt))
    _, codes = fit_letter_tokenizer(config, text, cf, FitContext(seed=1, folder=tmp_path / "parts"))
    assert torch.equal(codes, whole)
    histories = [read_json(tmp_path / name / "history-tokenizer.json", list) for name in ("whole", "parts")]
    assert [row["losses"] for row in histories[0]] == [row["losses"] for row in histories[1]]


def test_the_dedup_variant_makes_unique_tuples_of_its_levels_and_a_token(tmp_path: Path) -> None:
    text, cf = text_and_cf()
    config = SMALL.replace(dedup=True, rqvae=SMALL.rqvae.replace(num_levels=2, codebook_size=32))
    _, codes = fit_letter_tokenizer(config, text, cf, FitContext(seed=1, folder=tmp_path))
    assert codes.shape == (200, 3)
    assert len({tuple(row) for row in codes.tolist()}) == 200


def test_inputs_that_do_not_fit_together_are_refused_in_one_line(tmp_path: Path) -> None:
    text, cf = text_and_cf()
    context = FitContext(seed=1, folder=tmp_path)
    with pytest.raises(StageError, match=r"as wide as the codes, but got 24 and rqvae\.code_dim=8"):
        fit_letter_tokenizer(SMALL, text, np.zeros((200, 24)), context)
    with pytest.raises(StageError, match="same items, but there are 200 and 199"):
        fit_letter_tokenizer(SMALL, text, cf[1:], context)


def test_groups_that_would_lack_a_pair_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"codebook_size >= 2 \* num_groups must hold"):
        LetterTokenizerConfig(num_groups=129)
