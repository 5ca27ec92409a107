"""The generator: T5 over the codes of items (METHODS C.1).

Shape legend: B batch, N items, L levels, K codes of a level, S history items, D width, W beams.
An item is L tokens. All tables lie in one embedding matrix, level after level; its last row is BOS and padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.dataset import Sequences
from harness.nn.t5 import Decoder, Encoder, T5Config

GROUP_TOKENS = 2048  # encoder tokens run at once: temporaries of this size stay in a CPU's cache


class GeneratorOutput(NamedTuple):
    """What the losses need of a batch, in the batch's order."""

    logits: tuple[Tensor, ...]  # a (B, K) tensor for each of the L levels
    pooled_BD: Tensor  # mean of the encoder states over the history's tokens
    bos_BD: Tensor  # decoder state at the BOS position


class EncodedHistories(NamedTuple):
    """Histories as the decoder reads them."""

    states_BSD: Tensor  # S counts tokens here, L an item
    mask_BS: Tensor  # bool, True at tokens


def length_groups(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers of each group: rows of like length, together at most `max_tokens` padded tokens (or one row).

    Longest rows first; every row is in one group. A ragged batch run group by group is hardly padded.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


class CodeSeq2Seq(nn.Module):
    """Predicts the codes of the next item from the codes of the items of a history."""

    def __init__(self, config: T5Config, codebook_sizes: tuple[int, ...]):
        super().__init__()
        self.config, self.codebook_sizes = config, tuple(codebook_sizes)
        self.offsets = tuple(sum(codebook_sizes[:level]) for level in range(len(codebook_sizes)))
        self.bos = sum(codebook_sizes)
        self.tokens = nn.Embedding(self.bos + 1, config.d_model)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew: normal with the config's standard deviation, the norms' scales 1 (METHODS C.1)."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=self.config.init_std)

    @property
    def num_levels(self) -> int:
        """L: tokens of an item."""
        return len(self.codebook_sizes)

    def table_KD(self, level: int) -> Tensor:
        """The embeddings of a level's codes, which are its output weights too."""
        return self.tokens.weight[self.offsets[level] : self.offsets[level] + self.codebook_sizes[level]]

    def logits_at(self, states: Tensor, level: int) -> Tensor:
        """(..., K) scores of the codes of `level`, from decoder states (..., D) of that position."""
        return states @ self.table_KD(level).T

    def embed(self, codes: Tensor, level: int) -> Tensor:
        """(..., D) embeddings of `codes` of one level."""
        return self.tokens(codes + self.offsets[level])

    def bos_embedding(self) -> Tensor:
        """(D,) what the decoder reads first."""
        return self.tokens.weight[self.bos]

    def forward(
        self,
        histories: Sequences,
        target_codes_BL: Tensor,
        codes_NL: Tensor,
        *,
        max_tokens: int = GROUP_TOKENS,
    ) -> GeneratorOutput:
        """Logits under teacher forcing and the pooled states, by groups of like length, in the batch's order.

        `codes_NL` is (N + 1, L) int64, row 0 for padding. The groups only save padding: their outputs are put
        together again, so that losses may compare all rows of the batch.
        """
        groups = list(length_groups(histories.lengths * self.num_levels, max_tokens))
        outputs = [
            self.forward_padded(self.padded(histories.take(rows)), target_codes_BL[rows], codes_NL) for rows in groups
        ]
        place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(codes_NL.device)
        logits, pooled, bos = zip(*outputs, strict=True)
        return GeneratorOutput(
            tuple(torch.cat(level)[place] for level in zip(*logits, strict=True)),
            torch.cat(pooled)[place],
            torch.cat(bos)[place],
        )

    def forward_padded(self, items_BS: Tensor, target_codes_BL: Tensor, codes_NL: Tensor) -> GeneratorOutput:
        """The same for one padded batch of item ids (0 is padding), whatever its lengths."""
        encoded = self.encode(items_BS, codes_NL)
        states_BLD = self.teacher_forced(encoded, target_codes_BL)
        mask_BS = encoded.mask_BS.to(encoded.states_BSD.dtype)
        pooled_BD = torch.einsum("bsd,bs->bd", encoded.states_BSD, mask_BS) / mask_BS.sum(1, keepdim=True)
        logits = tuple(self.logits_at(states_BLD[:, level], level) for level in range(self.num_levels))
        return GeneratorOutput(logits, pooled_BD, states_BLD[:, 0])

    def encode(self, items_BS: Tensor, codes_NL: Tensor) -> EncodedHistories:
        """Encoder states of the codes of a padded batch of item ids (0 is padding)."""
        offsets_L = torch.tensor(self.offsets, device=codes_NL.device)
        tokens_BSL = (codes_NL[items_BS] + offsets_L).masked_fill((items_BS == 0)[..., None], self.bos)
        mask_BS = (items_BS > 0).repeat_interleave(self.num_levels, dim=1)
        states_BSD = self.encoder(self.tokens(tokens_BSL.flatten(1)), padding_bias(mask_BS))
        return EncodedHistories(states_BSD, mask_BS)

    def teacher_forced(self, encoded: EncodedHistories, target_codes_BL: Tensor) -> Tensor:
        """(B, L, D) decoder states at BOS, c1, .., c(L-1); position l predicts level l."""
        offsets_L = torch.tensor(self.offsets, device=target_codes_BL.device)
        inputs_BL = (target_codes_BL + offsets_L).roll(1, dims=1)
        inputs_BL[:, 0] = self.bos
        memory = self.decoder.memory(encoded.states_BSD)
        return self.decoder(self.tokens(inputs_BL), memory, padding_bias(encoded.mask_BS))

    def padded(self, histories: Sequences) -> Tensor:
        """(B, S) item ids of ragged histories on the model's device, right-padded with 0."""
        return torch.from_numpy(histories.padded()).to(self.tokens.weight.device)


def padding_bias(mask_BS: Tensor) -> Tensor | None:
    """(B, 1, 1, S) to add to attention scores: 0 at tokens, -inf at padding; None where nothing is padded."""
    if bool(mask_BS.all()):
        return None
    return torch.zeros(mask_BS.shape, device=mask_BS.device).masked_fill_(~mask_BS, -math.inf)[:, None, None]
