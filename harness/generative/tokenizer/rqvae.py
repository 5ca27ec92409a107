"""The RQ-VAE: item vectors to codes and back (METHODS B.2).

Shape legend: B rows, N items, L levels, K codes per level, D code width, Z width of an item vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.config import Config
from harness.generative.tokenizer.quantize import (
    Assign,
    LossForm,
    Quantized,
    ResidualGradient,
    nearest,
    quantization_loss,
    quantize,
    squared_error,
)
from harness.nn.mlp import mlp
from harness.nn.pieces import pieces_on


class RQVAEConfig(Config):
    """Sizes and loss of an RQ-VAE; the defaults are ETEGRec's (METHODS B.2)."""

    hidden_sizes: tuple[int, ...] = Field(default=(512, 256), description="of the encoder; the decoder mirrors them")
    code_dim: int = Field(default=128, ge=1)
    num_levels: int = Field(default=3, ge=1)
    codebook_size: int = Field(default=256, ge=2)
    alpha: float = Field(default=1.0, ge=0, description="weight of the quantisation loss beside the reconstruction")
    beta: float = Field(default=0.25, ge=0, description="weight of the commitment term in the quantisation loss")
    residual_gradient: ResidualGradient = Field(
        default="straight-through", description="pass-on: residuals of all levels move the encoder (C.5 #5)"
    )
    loss_form: LossForm = Field(
        default="mean", description="sum: the paper's squared norms, summed over levels (C.5 #13)"
    )


@dataclass(frozen=True)
class RQVAEOutput:
    """The reconstruction of B vectors and the quantisation that it came through."""

    reconstruction_BZ: Tensor
    quantized: Quantized


class RQVAE(nn.Module):
    """Encoder, residual codebooks and decoder.

    Linear weights are Xavier-normal (drawn from `generator`), biases and codebooks start at zero:
    `harness.generative.tokenizer.fit` places the codebooks by k-means before the first step.
    """

    def __init__(self, input_dim: int, config: RQVAEConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.input_dim = input_dim
        sizes = (input_dim, *config.hidden_sizes, config.code_dim)
        self.encoder = mlp(sizes, generator)
        self.decoder = mlp(sizes[::-1], generator)
        self.codebooks_LKD = nn.Parameter(torch.zeros(config.num_levels, config.codebook_size, config.code_dim))

    def encode(self, vectors_BZ: Tensor) -> Tensor:
        """(B, D) what the codebooks quantise."""
        return self.encoder(vectors_BZ)

    def quantize(self, vectors_BD: Tensor, assign: Assign = nearest) -> Quantized:
        """The quantisation of any B vectors of the code space, the encoder's or others (METHODS C.5 #2)."""
        return quantize(vectors_BD, self.codebooks_LKD, gradient=self.config.residual_gradient, assign=assign)

    def decode(self, vectors_BD: Tensor) -> Tensor:
        """(B, Z) the reconstruction from the quantised vectors."""
        return self.decoder(vectors_BD)

    def forward(self, vectors_BZ: Tensor, assign: Assign = nearest) -> RQVAEOutput:
        """Reconstruction and quantisation of B item vectors."""
        quantized = self.quantize(self.encode(vectors_BZ), assign)
        return RQVAEOutput(self.decode(quantized.quantized_BD), quantized)

    @torch.no_grad()
    def codes(self, vectors_NZ: Tensor, chunk_size: int | None = None) -> Tensor:
        """(N, L) int64 nearest codes of all items, `chunk_size` rows at a time, by default what suits the device."""
        chunks = vectors_NZ.split(chunk_size or pieces_on(vectors_NZ.device).items)
        return torch.cat([self.quantize(self.encode(chunk_BZ)).codes_BL for chunk_BZ in chunks])

    @torch.no_grad()
    def differing_in_bf16(self, vectors_NZ: Tensor) -> float:
        """The share of items whose nearest codes would be others if the encoder ran in bf16."""
        with torch.autocast(vectors_NZ.device.type, torch.bfloat16):
            rounded_NL = self.codes(vectors_NZ)
        return (rounded_NL != self.codes(vectors_NZ)).any(dim=1).float().mean().item()


def tokenizer_loss(output: RQVAEOutput, vectors_BZ: Tensor, config: RQVAEConfig) -> Tensor:
    """L_SQ: reconstruction error plus `alpha` times the quantisation loss, a scalar (METHODS B.2, C.5 #13)."""
    reconstruction = squared_error(output.reconstruction_BZ, vectors_BZ, config.loss_form)
    return reconstruction + config.alpha * quantization_loss(output.quantized, config.beta, config.loss_form)
