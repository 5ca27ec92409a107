"""Oracles: published parameter counts (METHODS B.0), arithmetic by hand, a loss written out."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig, tokenizer_loss


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_etegrec_sizes_have_the_published_parameter_counts() -> None:
    rqvae = RQVAE(256, RQVAEConfig())
    assert count(rqvae.encoder) == 295_808
    assert count(rqvae.decoder) == 295_936
    assert rqvae.codebooks_LKD.numel() == 98_304
    assert count(rqvae) == 295_808 + 295_936 + 98_304


def test_weights_are_xavier_normal_biases_and_codebooks_zero() -> None:
    rqvae = RQVAE(256, RQVAEConfig(), generator=torch.Generator().manual_seed(0))
    for linear in [module for module in rqvae.modules() if isinstance(module, nn.Linear)]:
        expected = (2 / (linear.in_features + linear.out_features)) ** 0.5
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert not linear.bias.any()
    assert not rqvae.codebooks_LKD.any()


def test_the_generator_decides_the_weights_and_the_global_stream_stays() -> None:
    before = torch.get_rng_state()
    first, second = (RQVAE(8, RQVAEConfig(), generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_no_activation_stands_after_the_last_layer() -> None:
    rqvae = RQVAE(256, RQVAEConfig())
    vectors = torch.randn(64, 256)
    assert (rqvae.encode(vectors) < 0).any()
    assert (rqvae.decode(rqvae.encode(vectors)) < 0).any()
    assert [type(layer).__name__ for layer in rqvae.encoder] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]


@torch.no_grad()
@pytest.mark.parametrize("form", ["mean", "sum"])
def test_the_tokenizer_loss_equals_the_formula_written_out(form: str) -> None:
    config = RQVAEConfig(
        hidden_sizes=(9,), code_dim=4, num_levels=2, codebook_size=5, alpha=0.7, beta=0.3, loss_form=form
    )
    rqvae = RQVAE(6, config)
    nn.init.normal_(rqvae.codebooks_LKD)
    vectors = torch.randn(8, 6)
    output = rqvae(vectors)
    total = 0.0
    for row in range(8):
        error = float(((output.reconstruction_BZ[row] - vectors[row]) ** 2).sum())
        residual = rqvae.encode(vectors)[row]
        levels = 0.0
        for level in range(2):
            code = rqvae.codebooks_LKD[level, output.quantized.codes_BL[row, level]]
            levels += float(((residual - code) ** 2).sum()) * (1 + 0.3)
            residual = residual - code
        if form == "mean":
            total += error / 6 + 0.7 * levels / (4 * 2)
        else:
            total += error + 0.7 * levels
    assert tokenizer_loss(output, vectors, config).item() == pytest.approx(total / 8, rel=1e-5)


def test_codes_in_chunks_equal_codes_at_once() -> None:
    rqvae = RQVAE(6, RQVAEConfig(hidden_sizes=(9,), code_dim=4, num_levels=2, codebook_size=5))
    nn.init.normal_(rqvae.codebooks_LKD)
    vectors = torch.randn(50, 6)
    codes = rqvae.codes(vectors, chunk_size=7)
    assert codes.shape == (50, 2)
    assert torch.equal(codes, rqvae(vectors).quantized.codes_BL)
    assert not codes.requires_grad


@pytest.mark.parametrize("wrong", [{"code_dim": 0}, {"codebook_size": 1}, {"beta": -0.1}, {"loss_form": "max"}])
def test_impossible_configs_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        RQVAEConfig(**wrong)
