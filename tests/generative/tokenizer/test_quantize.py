"""Oracles: a slow loop over rows and levels, arithmetic by hand, and the gradient table of METHODS C.4."""

import pytest
import torch

from etegrec.objectives import l_psa, l_sia
from harness.generative.tokenizer.quantize import (
    quantization_loss,
    quantize,
    squared_distances,
)
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig

LEVELS = 3
SMALL = RQVAEConfig(hidden_sizes=(12,), code_dim=6, num_levels=LEVELS, codebook_size=8)


def small_rqvae(gradient: str = "straight-through", seed: int = 0) -> RQVAE:
    generator = torch.Generator().manual_seed(seed)
    rqvae = RQVAE(10, SMALL.replace(residual_gradient=gradient), generator=generator)
    with torch.no_grad():
        rqvae.codebooks_LKD.copy_(torch.randn(rqvae.codebooks_LKD.shape, generator=generator))
    return rqvae


def items(seed: int = 1, count: int = 7) -> torch.Tensor:
    return torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))


def moved(rqvae: RQVAE, loss: torch.Tensor) -> dict[str, bool]:
    """Which parts get a gradient other than zero; the codebooks by level."""
    rqvae.zero_grad()
    loss.backward()

    def any_gradient(tensors: list[torch.Tensor | None]) -> bool:
        return any(gradient is not None and bool(gradient.abs().max() > 1e-7) for gradient in tensors)

    codebooks = rqvae.codebooks_LKD.grad
    return {
        "encoder": any_gradient([parameter.grad for parameter in rqvae.encoder.parameters()]),
        "decoder": any_gradient([parameter.grad for parameter in rqvae.decoder.parameters()]),
        **{f"codebook {level}": any_gradient([codebooks[level - 1] if codebooks is not None else None])
           for level in range(1, LEVELS + 1)},
    }  # fmt: skip


def parts(encoder: bool, decoder: bool, codebooks: tuple[int, ...]) -> dict[str, bool]:
    levels = {f"codebook {level}": level in codebooks for level in range(1, LEVELS + 1)}
    return {"encoder": encoder, "decoder": decoder, **levels}


def test_codes_residuals_and_sum_equal_a_slow_loop_over_rows_and_levels() -> None:
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    codebooks = torch.randn(3, 9, 5, generator=generator, dtype=torch.float64)
    result = quantize(vectors, codebooks)
    for row, vector in enumerate(vectors):
        residual = vector.clone()
        for level in range(3):
            distances = torch.stack([((residual - code) ** 2).sum() for code in codebooks[level]])
            code = int(distances.argmin())
            assert result.codes_BL[row, level] == code
            torch.testing.assert_close(result.residuals[level][row], residual)
            torch.testing.assert_close(result.distances_BLK[row, level], distances)
            residual = residual - codebooks[level, code]
        torch.testing.assert_close(result.quantized_BD[row], vector - residual)


def test_distances_equal_cdist() -> None:
    points, codebook = torch.randn(20, 4), torch.randn(6, 4)
    torch.testing.assert_close(
        squared_distances(points, codebook), torch.cdist(points, codebook).square(), rtol=1e-4, atol=1e-4
    )


def test_bf16_autocast_leaves_distances_and_codes_alone() -> None:
    vectors, codebooks = 5 + torch.randn(200, 16), 2 + torch.randn(2, 64, 16)
    plain = quantize(vectors, codebooks)
    with torch.autocast("cpu", torch.bfloat16):
        result = quantize(vectors, codebooks)
    assert torch.equal(result.codes_BL, plain.codes_BL)
    assert torch.equal(result.distances_BLK, plain.distances_BLK)


def test_a_list_of_codebooks_may_have_levels_of_different_sizes() -> None:
    result = quantize(
        torch.tensor([[2.0], [5.0]]), [torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [2.0], [-2.0]])]
    )
    # 2 -> nearest of {0, 4} is a tie, the first; the rest 2 -> code 1. 5 -> 4, the rest 1 -> code 0.
    assert result.codes_BL.tolist() == [[0, 1], [1, 0]]
    assert result.quantized_BD.flatten().tolist() == [2.0, 5.0]


def test_assign_decides_the_codes_and_sees_distances_without_gradient() -> None:
    seen = []

    def assign(level: int, distances_BK: torch.Tensor) -> torch.Tensor:
        seen.append((level, distances_BK.requires_grad))
        return distances_BK.argmax(-1)

    vectors = torch.randn(5, 3, requires_grad=True)
    codebooks = torch.randn(2, 4, 3)
    result = quantize(vectors, codebooks, assign=assign)
    assert seen == [(0, False), (1, False)]
    assert torch.equal(result.codes_BL[:, 0], torch.cdist(vectors, codebooks[0]).argmax(-1))


def test_losses_by_hand_in_both_forms() -> None:
    # One row (3, 0): level 1 takes (2, 0), leaving (1, 0); level 2 takes (1, 1), leaving (0, -1).
    result = quantize(torch.tensor([[3.0, 0.0]]), torch.tensor([[[2.0, 0.0], [-9.0, 0.0]], [[1.0, 1.0], [9.0, 9.0]]]))
    # Squared errors: level 1 (1, 0), level 2 (0, 1). Mean form: 1/2 each, mean 1/2. Sum form: 1 + 1.
    assert quantization_loss(result, 0.0, "mean").item() == 0.5
    assert quantization_loss(result, 0.0, "sum").item() == 2.0
    assert quantization_loss(result, 0.25, "mean").item() == 0.5 * 1.25
    assert quantization_loss(result, 0.25, "sum").item() == 2.0 * 1.25


@pytest.mark.parametrize("form", ["mean", "sum"])
@pytest.mark.parametrize("gradient", ["straight-through", "pass-on"])
def test_the_loss_and_its_gradients_are_those_of_both_terms_written_out(gradient: str, form: str) -> None:
    rqvae, vectors = small_rqvae(gradient).double(), items().double()
    quantized = rqvae.quantize(rqvae.encode(vectors))
    terms = torch.zeros((), dtype=torch.float64)
    for code_vector, residual in zip(quantized.code_vectors, quantized.residuals, strict=True):
        codebook = (residual.detach() - code_vector).square()
        commitment = (residual - code_vector.detach()).square()
        both = codebook + 0.25 * commitment
        terms = terms + (both.mean() / LEVELS if form == "mean" else both.sum(dim=1).mean())
    loss = quantization_loss(quantized, 0.25, form)
    torch.testing.assert_close(loss, terms)
    weights = [rqvae.codebooks_LKD, *rqvae.encoder.parameters()]
    expected = torch.autograd.grad(3 * terms, weights, retain_graph=True)
    for got, want in zip(torch.autograd.grad(3 * loss, weights), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("gradient", ["straight-through", "pass-on"])
class TestGradientTable:
    """METHODS C.4, columns Enc_T, codebooks and Dec_T."""

    def test_reconstruction_moves_encoder_and_decoder(self, gradient: str) -> None:
        rqvae, vectors = small_rqvae(gradient), items()
        loss = (rqvae(vectors).reconstruction_BZ - vectors).square().mean()
        assert moved(rqvae, loss) == parts(encoder=True, decoder=True, codebooks=())

    def test_the_sum_has_one_straight_through_gradient(self, gradient: str) -> None:
        rqvae = small_rqvae(gradient)
        vectors = torch.randn(4, 6, requires_grad=True)
        weights = torch.randn(4, 6)
        (rqvae.quantize(vectors).quantized_BD * weights).sum().backward()
        assert torch.equal(vectors.grad, weights)

    def test_the_codebook_term_moves_each_level_and_nothing_else(self, gradient: str) -> None:
        rqvae = small_rqvae(gradient)
        loss = quantization_loss(rqvae(items()).quantized, 0.0)
        assert moved(rqvae, loss) == parts(encoder=False, decoder=False, codebooks=(1, 2, 3))

    def test_the_codebook_term_of_a_level_moves_its_own_level(self, gradient: str) -> None:
        rqvae = small_rqvae(gradient)
        quantized = rqvae(items()).quantized
        loss = (quantized.code_vectors[1] - quantized.residuals[1].detach()).square().mean()
        assert moved(rqvae, loss) == parts(encoder=False, decoder=False, codebooks=(2,))

    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_the_commitment_term_moves_the_encoder_through_level_1_or_all(self, gradient: str, level: int) -> None:
        rqvae = small_rqvae(gradient)
        quantized = rqvae(items()).quantized
        residual, code_vector = quantized.residuals[level - 1], quantized.code_vectors[level - 1]
        reaches = level == 1 or gradient == "pass-on"
        assert residual.requires_grad == reaches
        if reaches:
            loss = (residual - code_vector.detach()).square().mean()
            assert moved(rqvae, loss) == parts(encoder=True, decoder=False, codebooks=())

    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_sia_moves_a_level_s_codebook_and_the_encoder_through_level_1_or_all(
        self, gradient: str, level: int
    ) -> None:
        rqvae = small_rqvae(gradient)
        other = torch.randn(7, 6, generator=torch.Generator().manual_seed(5))
        place = slice(level - 1, level)
        distances_z = rqvae(items()).quantized.distances_BLK[:, place]
        distances_e = rqvae.quantize(other).distances_BLK[:, place]
        expected = parts(encoder=level == 1 or gradient == "pass-on", decoder=False, codebooks=(level,))
        assert moved(rqvae, l_sia(distances_z, distances_e)) == expected
        # Each side alone reaches the codebook too.
        distances_z, distances_e = (
            rqvae(items()).quantized.distances_BLK[:, place],
            rqvae.quantize(other).distances_BLK[:, place],
        )
        assert moved(rqvae, l_sia(distances_z, distances_e.detach())) == expected
        distances_z, distances_e = (
            rqvae(items()).quantized.distances_BLK[:, place],
            rqvae.quantize(other).distances_BLK[:, place],
        )
        assert moved(rqvae, l_sia(distances_z.detach(), distances_e)) == {**expected, "encoder": False}

    def test_sia_with_a_frozen_tokenizer_reaches_the_sequence_through_level_1_or_all(self, gradient: str) -> None:
        rqvae = small_rqvae(gradient).requires_grad_(False)
        distances_z = rqvae(items()).quantized.distances_BLK
        for level in range(LEVELS):
            sequence = torch.randn(7, 6, generator=torch.Generator().manual_seed(5)).requires_grad_()
            distances_e = rqvae.quantize(sequence).distances_BLK
            loss = l_sia(distances_z[:, level : level + 1], distances_e[:, level : level + 1])
            (gradient_B6,) = torch.autograd.grad(loss, sequence, allow_unused=True)
            reached = gradient_B6 is not None and bool(gradient_B6.abs().max() > 1e-7)
            assert reached == (level == 0 or gradient == "pass-on")

    def test_psa_moves_encoder_and_decoder_but_no_codebook(self, gradient: str) -> None:
        rqvae = small_rqvae(gradient)
        preference = torch.randn(7, 10, generator=torch.Generator().manual_seed(6))
        loss = l_psa(rqvae(items()).reconstruction_BZ, preference)
        assert moved(rqvae, loss) == parts(encoder=True, decoder=True, codebooks=())

    def test_psa_with_a_frozen_tokenizer_reaches_the_preference_alone(self, gradient: str) -> None:
        rqvae = small_rqvae(gradient).requires_grad_(False)
        preference = torch.randn(7, 10, requires_grad=True)
        l_psa(rqvae(items()).reconstruction_BZ, preference).backward()
        assert preference.grad.abs().max() > 1e-7
        assert all(parameter.grad is None for parameter in rqvae.parameters())


def test_pass_on_gradient_of_a_deep_residual_is_the_identity() -> None:
    vectors = torch.randn(4, 6, requires_grad=True)
    weights = torch.randn(4, 6)
    residuals = quantize(vectors, small_rqvae().codebooks_LKD, gradient="pass-on").residuals
    (residuals[2] * weights).sum().backward()
    assert torch.equal(vectors.grad, weights)
