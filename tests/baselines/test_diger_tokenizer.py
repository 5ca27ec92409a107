"""DIGER's quantiser. Oracles: slow loops with injected noise, shares of Gumbel's maximum, arithmetic by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.diger_tokenizer import Exploration, Noise, explore, hot_rows, item_codes, latent_loss, uncertainty
from harness.generative.tokenizer.fit import TokenizerConfig, kmeans, start_codebooks
from harness.generative.tokenizer.quantize import quantization_loss, quantize
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig

LEVELS, CODES, WIDTH, ROWS = 3, 5, 4, 6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def injected(explores: list[bool] | None = None, *, scale: float = 1.0) -> Noise:
    """Gumbel noise in double precision, its scale a leaf with gradient."""
    gumbel = np.random.default_rng(0).gumbel(size=(LEVELS, ROWS, CODES))
    scale_L = torch.linspace(scale, 2 * scale, LEVELS, dtype=torch.float64, requires_grad=True)
    return Noise(torch.from_numpy(gumbel), scale_L, None if explores is None else torch.tensor(explores))


def literal_sinkhorn(distances: Tensor, epsilon: float, iterations: int) -> list[int]:
    """The iteration on the whole matrix, as its authors write it."""
    plan = torch.exp(-distances / epsilon)
    for _ in range(iterations):
        plan = plan / plan.sum(1, keepdim=True) / len(plan)
        plan = plan / plan.sum(0, keepdim=True) / plan.shape[1]
    return plan.argmax(1).tolist()


def slow_explore(vectors: Tensor, codebooks: Tensor, noise: Noise, exploration: Exploration) -> dict[str, Any]:
    """Row by row and code by code; the losses of both parts written out."""
    rows, residuals = range(len(vectors)), list(vectors)
    codes, loss, total = [], torch.zeros((), dtype=torch.float64), torch.zeros_like(vectors)
    for level, codebook in enumerate(codebooks):
        distances = torch.stack([torch.stack([((residuals[i] - e) ** 2).sum() for e in codebook]) for i in rows])
        logits, fallback = -distances, distances.argmin(1).tolist()
        if exploration.sinkhorn_epsilon:
            middle = (distances.max() + distances.min()) / 2
            logits = -(distances - middle) / (distances.max() - middle + 1e-5)
            fallback = literal_sinkhorn(-logits.detach(), exploration.sinkhorn_epsilon, exploration.sinkhorn_iterations)
        chosen, values = [], []
        for i in rows:
            is_tried = noise.explores_B is None or bool(noise.explores_B[i])
            noisy = logits[i] + (noise.scale_L[level] * noise.gumbel_LBK[level, i] if is_tried else 0)
            code = max(range(len(codebook)), key=lambda k, noisy=noisy: noisy[k].item()) if is_tried else fallback[i]
            weights = [(value / exploration.temperature).exp() for value in noisy]
            shares = [weight / sum(weights) for weight in weights]
            one_hot = [float(k == code) for k in range(len(codebook))]
            parts = [(o - p.detach() + p) * e for o, p, e in zip(one_hot, shares, codebook, strict=True)]
            chosen.append(code)
            values.append(sum(parts))
        v, q = torch.stack(residuals), torch.stack(values)
        loss = loss + (((q - v.detach()) ** 2).mean() + 0.25 * ((q.detach() - v) ** 2).mean()) / len(codebooks)
        codes.append(chosen)
        total = total + q
        residuals = [residuals[i] - values[i] for i in rows]
    return {"codes": torch.tensor(codes).T, "sum": total, "loss": loss + ((total - vectors) ** 2).mean()}


@pytest.mark.parametrize("explores", [None, [True, False, False, True, True, False]])
@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_codes_values_loss_and_gradients_equal_a_slow_loop_with_the_same_noise(
    epsilon: float, explores: list[bool] | None
) -> None:
    exploration = Exploration(sinkhorn_epsilon=epsilon, sinkhorn_iterations=20)
    found = []
    for form in (explore, slow_explore):
        leaves = [drawn(ROWS, WIDTH).requires_grad_(), drawn(LEVELS, CODES, WIDTH, seed=1).requires_grad_()]
        noise = injected(explores)
        result: Any = form(*leaves, noise, exploration)
        if form is explore:
            loss = latent_loss(result, leaves[0], RQVAEConfig(beta=0.25))
            result = {"codes": result.codes_BL, "sum": result.quantized_BD, "loss": loss}
        gradients = torch.autograd.grad(result["loss"], [*leaves, noise.scale_L])
        found.append((result, gradients))
    (ours, our_gradients), (slow, slow_gradients) = found
    assert torch.equal(ours["codes"], slow["codes"])
    assert len({tuple(row) for row in ours["codes"].tolist()}) > 2
    torch.testing.assert_close(ours["sum"], slow["sum"])
    torch.testing.assert_close(ours["loss"], slow["loss"])
    for gradient, slow_gradient in zip(our_gradients, slow_gradients, strict=True):
        assert slow_gradient.abs().max() > 1e-3
        torch.testing.assert_close(gradient, slow_gradient)


@pytest.mark.parametrize("way", ["scale 0", "no row explores"])
def test_without_noise_codes_residuals_values_and_loss_are_those_of_the_plain_quantiser(way: str) -> None:
    vectors, codebooks = drawn(ROWS, WIDTH), drawn(LEVELS, CODES, WIDTH, seed=1)
    noise = injected(scale=0.0) if way == "scale 0" else injected([False] * ROWS)
    ours = explore(vectors, codebooks, noise, Exploration(sinkhorn_epsilon=0))
    plain = quantize(vectors, codebooks)
    assert torch.equal(ours.codes_BL, plain.codes_BL)
    assert not torch.equal(ours.codes_BL, explore(vectors, codebooks, injected(), Exploration()).codes_BL)
    for one, other in zip((*ours.residuals, *ours.code_vectors), (*plain.residuals, *plain.code_vectors), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(ours.quantized_BD, plain.quantized_BD)
    torch.testing.assert_close(quantization_loss(ours, 0.25), quantization_loss(plain, 0.25))


def test_without_noise_and_temperature_the_last_codebook_has_the_plain_gradient() -> None:
    gradients = []
    for form in ("ours", "plain"):
        vectors, codebooks = drawn(ROWS, WIDTH), drawn(LEVELS, CODES, WIDTH, seed=1).requires_grad_()
        exploration = Exploration(sinkhorn_epsilon=0, temperature=1e-4)
        found = (
            explore(vectors, codebooks, injected(scale=0.0), exploration)
            if form == "ours"
            else quantize(vectors, codebooks)
        )
        gradients += torch.autograd.grad(quantization_loss(found, 0.25), codebooks)
    torch.testing.assert_close(gradients[0][-1], gradients[1][-1])


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_code_is_tried_as_often_as_its_share_of_the_softmax_over_the_scale(scale: float) -> None:
    draws, codebook = 20_000, drawn(1, 4, 2, seed=2)
    vector = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    gumbel = torch.from_numpy(np.random.default_rng(1).gumbel(size=(1, draws, 4)))
    noise = Noise(gumbel, torch.tensor([scale], dtype=torch.float64))
    codes = explore(vector.expand(draws, 2), codebook, noise, Exploration(sinkhorn_epsilon=0)).codes_BL
    shares = (-((vector - codebook[0]) ** 2).sum(1) / scale).softmax(0)
    assert (codes.flatten().bincount(minlength=4) / draws).tolist() == pytest.approx(shares.tolist(), abs=0.012)


def test_under_balanced_distances_noise_of_scale_1_leaves_a_far_code_a_seventh_of_the_nearest_ones_chance() -> None:
    # Scaled distances span 2, so the ratio of two chances is at most exp(2), whatever the distances are.
    draws = 20_000
    codebook = torch.tensor([[[0.0], [100.0]]], dtype=torch.float64)
    noise = Noise(torch.from_numpy(np.random.default_rng(2).gumbel(size=(1, draws, 2))), torch.ones(1))
    codes = explore(torch.zeros(draws, 1, dtype=torch.float64), codebook, noise, Exploration()).codes_BL
    assert codes.double().mean().item() == pytest.approx(1 / (1 + math.e**2), abs=0.01)


def test_usage_and_hot_rows_by_hand() -> None:
    # Codes at 0, 10, 20, 30; the usage is 1/4 each at first, hot above 1.2/4 = .3.
    codebook = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
    usage = torch.full((4,), 0.25)
    exploration = Exploration(momentum=0.5, hot=1.2)
    latents = torch.tensor([[1.0], [-1.0], [2.0], [9.0]])
    assert hot_rows(latents, codebook, usage, exploration).tolist() == [False] * 4  # by the usage before this batch
    assert usage.tolist() == pytest.approx([0.5 * 0.25 + 0.5 * 0.75, 0.5 * 0.25 + 0.5 * 0.25, 0.125, 0.125])
    assert hot_rows(torch.tensor([[0.0], [11.0]]), codebook, usage, exploration).tolist() == [True, False]
    assert usage.tolist() == pytest.approx([0.5, 0.375, 0.0625, 0.0625])
    assert hot_rows(latents, codebook, usage, exploration).tolist() == [True, True, True, True]


@pytest.mark.parametrize(("usage", "becomes_hot"), [("nearest", True), ("balanced", False)])
def test_balanced_codes_are_used_alike_so_that_none_becomes_hot(usage: str, becomes_hot: bool) -> None:
    codebook, used = drawn(8, 3, seed=3).float(), torch.full((8,), 1 / 8)
    latents = 0.3 * drawn(64, 3, seed=4).float() + codebook[0]  # all near one code
    exploration = Exploration(usage=usage, momentum=0.5)
    hot = [bool(hot_rows(latents, codebook, used, exploration).any()) for _ in range(5)]
    assert hot[-1] == becomes_hot
    assert used.sum().item() == pytest.approx(1)


def test_uncertainty_by_hand_and_its_least_value_at_the_root_of_the_loss() -> None:
    factor, penalty = uncertainty(torch.tensor([0.5, 1.0, 1.5]), offset=1.0)
    assert (factor.item(), penalty.item()) == pytest.approx((1 / 8, math.log(2)))
    sigma = torch.full((3,), 1.0, requires_grad=True)
    optimizer, ends = torch.optim.SGD([sigma], lr=0.3), []
    for loss in (6.25, 4.0, 3.24):  # the roots 2.5, 2 and 1.8, less an offset of 1.7
        for _ in range(400):
            factor, penalty = uncertainty(sigma.abs(), offset=1.7)
            optimizer.zero_grad()
            (factor * loss + penalty).backward()
            optimizer.step()
        ends.append(sigma.mean().item())
    assert ends == pytest.approx([0.8, 0.3, 0.1], abs=1e-3)


def test_codes_of_all_items_are_balanced_level_by_level_and_nearest_without_sinkhorn() -> None:
    vectors = drawn(48, 6, seed=5).float() ** 3  # far outliers, so that nearest codes are used unlike
    config = RQVAEConfig(hidden_sizes=(8,), code_dim=4, codebook_size=6, num_levels=2)
    rqvae = RQVAE(6, config, generator=torch.Generator().manual_seed(0))
    start_codebooks(rqvae, vectors, kmeans(6, seed=0))
    exploration = Exploration(sinkhorn_epsilon=0.05, sinkhorn_iterations=100)
    found = item_codes(rqvae, vectors, exploration, TokenizerConfig())
    residuals = rqvae.encode(vectors).detach().double()
    for level in range(2):
        codebook = rqvae.codebooks_LKD[level].detach().double()
        distances = torch.cdist(residuals, codebook).square()
        middle = (distances.max() + distances.min()) / 2
        codes = literal_sinkhorn((distances - middle) / (distances.max() - middle), 0.05, 100)
        assert found[:, level].tolist() == codes
        residuals = residuals - codebook[codes]
    nearest = item_codes(rqvae, vectors, Exploration(sinkhorn_epsilon=0), TokenizerConfig())
    assert torch.equal(nearest, rqvae.codes(vectors))
    assert found[:, 0].bincount(minlength=6).max() < nearest[:, 0].bincount(minlength=6).max()
