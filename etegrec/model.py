"""ETEGRec's modules and what they exchange: tokenizer T, generator R, and the two adapters that tie them.

Shape legend: B samples, U of them whose targets count, N items, L levels, K codes per level, D width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from etegrec.config import ETEGRecConfig
from etegrec.objectives import l_psa, l_sia, l_sq
from harness.generative.tokenizer.codes import CodeTable, replace_codes
from harness.generative.tokenizer.reassign import semantic_codes
from harness.generative.tokenizer.rqvae import RQVAE
from harness.nn.code_seq2seq import CodeSeq2Seq, Summary
from harness.nn.kernels.precision import full_precision
from harness.training.loop import Losses


class ETEGRec(nn.Module):
    """Tokenizer, generator, adapters, the frozen item vectors, and the items' present codes."""

    vectors_ND: Tensor
    codes_NL: Tensor

    def __init__(self, config: ETEGRecConfig, vectors: Tensor, tokenizer: RQVAE):
        """`vectors` is (N, D), one row per item in id order."""
        super().__init__()
        self.config = config
        rqvae = config.tokenizer.rqvae
        # The de-duplication level's table is as large as a codebook (METHODS C.1).
        self.codebook_sizes = (rqvae.codebook_size,) * (rqvae.num_levels + 1)
        self.tokenizer = tokenizer
        self.generator = CodeSeq2Seq(config.generator, self.codebook_sizes)
        width, item_width = config.generator.d_model, vectors.shape[1]
        sia_width = rqvae.code_dim if config.sia_entry == "quantizer" else item_width
        self.sia_adapter = adapter(width, config.adapter_hidden, sia_width)
        self.psa_adapter = adapter(width, config.adapter_hidden, item_width)
        padded = torch.cat([torch.zeros(1, item_width), vectors])
        self.register_buffer("vectors_ND", padded, persistent=False)
        codes = torch.zeros(len(padded), len(self.codebook_sizes), dtype=torch.int64)
        self.register_buffer("codes_NL", codes)
        self.refresh_codes()

    @torch.no_grad()
    def refresh_codes(self) -> float:
        """The share of items whose code tuple changes when all items are tokenised anew, in full precision."""
        with full_precision(self.codes_NL.device):
            semantic = semantic_codes(self.tokenizer, self.vectors_ND[1:], self.config.tokenizer.zero_collisions)
        return replace_codes(self.codes_NL, semantic, self.codebook_sizes[-1])

    def code_table(self) -> CodeTable:
        """The items' present codes, as a table that does not change with the model."""
        return CodeTable(self.codes_NL.clone(), self.codebook_sizes)

    def alignments(self, summary: Summary, targets_B: Tensor, rows_U: Tensor) -> Losses:
        """SIA and PSA of a chunk's rows that count, those whose weights are not 0.

        Equations 11 to 16 of the paper with the corrected signs (METHODS C.2). Gradients stop only where parameters are
        frozen.
        """
        config = self.config
        semantics = self.tokenizer(self.vectors_ND.index_select(0, targets_B[rows_U]))
        losses: Losses = {}
        if config.mu:
            sequence = self.sia_adapter(summary.pooled_BD[rows_U])
            if config.sia_entry == "encoder":
                sequence = self.tokenizer.encode(sequence)
            losses["sia"] = l_sia(
                semantics.quantized.distances_BLK,
                self.tokenizer.quantize(sequence).distances_BLK,
                sign=config.sia_sign,
                level_reduction=config.sia_levels,
            )
        if config.lambda_:
            preference = self.psa_adapter(summary.bos_BD[rows_U])
            losses["psa"] = l_psa(semantics.reconstruction_BZ, preference, config.tau)
        return losses

    def quantisation(self, targets_B: Tensor, rows_U: Tensor) -> Tensor:
        """L_SQ of the targets of the chunk's rows that count, or of all items (METHODS C.2, C.5 #9 and #35)."""
        if self.config.tokenizer_items == "all":
            vectors = self.vectors_ND[1:]
        else:
            vectors = self.vectors_ND.index_select(0, targets_B[rows_U])
        return l_sq(self.tokenizer(vectors), vectors, self.config.tokenizer.rqvae)


def adapter(width_in: int, hidden: tuple[int, ...], width_out: int) -> nn.Sequential:
    """Linear layers with ReLU between them, a single one by default; weights normal(0, 0.02), biases 0."""
    widths = (width_in, *hidden, width_out)
    layers: list[nn.Module] = []
    for place, (fan_in, fan_out) in enumerate(pairwise(widths)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        layers += [nn.ReLU(), linear] if place else [linear]
    return nn.Sequential(*layers)
