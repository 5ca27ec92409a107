"""The generator: T5 over the codes of items (METHODS C.1).

Shape legend: B batch, N items, L levels, K codes of a level, S history items, D width, W beams.
An item is L tokens. All tables lie in one embedding matrix, level after level; its last row is BOS and padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.data.dataset import Sequences
from harness.nn.ragged import Ragged
from harness.nn.t5 import Decoder, Encoder, T5Config

CHUNK_TOKENS = 2048  # encoder tokens run at once: temporaries of this size stay in a CPU's cache
# What the graphs of a batch may hold, by kind of device; chunks beyond it run again in the backward pass.
GRAPH_BYTES = {"cpu": 576 * 2**20}


class Summary(NamedTuple):
    """What the generator makes of histories before it generates, in the batch's order."""

    pooled_BD: Tensor  # mean of the encoder states over the history's tokens
    bos_BD: Tensor  # decoder state at the BOS position


class GeneratorOutput(NamedTuple):
    """What the losses need of a batch, in the batch's order."""

    logits_LBK: Tensor
    summary: Summary


class EncodedHistories(NamedTuple):
    """Histories as the decoder reads them."""

    states_ND: Tensor  # N tokens of all histories
    rows: Ragged

    def pooled(self) -> Tensor:
        """(B, D) the mean state of each history."""
        lengths_B = torch.from_numpy(self.rows.lengths).to(self.states_ND.device)
        return torch.segment_reduce(self.states_ND, "mean", lengths=lengths_B)

    def padded(self) -> tuple[Tensor, Tensor]:
        """States (B, S, D), S being the tokens of the longest history, and a mask (B, S), True at tokens."""
        lengths_B = torch.from_numpy(self.rows.lengths).to(self.states_ND.device)
        mask_BS = torch.arange(self.rows.longest, device=lengths_B.device) < lengths_B[:, None]
        states_BSD = self.states_ND.new_zeros(*mask_BS.shape, self.states_ND.shape[1])
        states_BSD[mask_BS] = self.states_ND
        return states_BSD, mask_BS


def length_groups(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers of each group: rows of like length, together at most `max_tokens` padded tokens (or one row).

    Longest rows first; every row is in one group.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def token_chunks(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers of each chunk: rows of like length, together about `max_tokens` tokens, longest rows first."""
    order = np.argsort(-lengths, kind="stable")
    chunk_of_row = np.cumsum(lengths[order]) // max_tokens
    yield from np.split(order, np.flatnonzero(np.diff(chunk_of_row)) + 1)


class CodeSeq2Seq(nn.Module):
    """Predicts the codes of the next item from the codes of the items of a history.

    K is the size of the largest codebook; each level has as many rows of the embedding table.
    """

    no_codes_LK: Tensor | None

    def __init__(self, config: T5Config, codebook_sizes: tuple[int, ...]):
        super().__init__()
        self.config, self.num_levels, self.codebook_size = config, len(codebook_sizes), max(codebook_sizes)
        self.offsets = tuple(level * self.codebook_size for level in range(self.num_levels))
        self.bos = self.num_levels * self.codebook_size
        unused_LK = torch.arange(self.codebook_size) >= torch.tensor(codebook_sizes)[:, None]
        # 0, and -inf at the codes that a level with fewer than the others does not have; None where all have as many.
        no_codes_LK = torch.zeros(unused_LK.shape).masked_fill(unused_LK, -math.inf) if unused_LK.any() else None
        self.register_buffer("no_codes_LK", no_codes_LK, persistent=False)
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

    def tables_LKD(self) -> Tensor:
        """The embeddings of each level's codes, which are its output weights too."""
        return self.tokens.weight[: self.bos].view(self.num_levels, self.codebook_size, -1)

    def logits(self, states_BLD: Tensor) -> Tensor:
        """(L, B, K) scores of the codes of all levels, from the decoder states of their positions."""
        logits_LBK = states_BLD.transpose(0, 1) @ self.tables_LKD().transpose(1, 2)
        return logits_LBK if self.no_codes_LK is None else logits_LBK + self.no_codes_LK[:, None]

    def logits_at(self, states: Tensor, level: int) -> Tensor:
        """(..., K) scores of the codes of `level`, from decoder states (..., D) of that position."""
        logits = states @ self.tables_LKD()[level].T
        return logits if self.no_codes_LK is None else logits + self.no_codes_LK[level]

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
        max_tokens: int = CHUNK_TOKENS,
    ) -> GeneratorOutput:
        """Logits under teacher forcing and the summary, by chunks of like length, in the batch's order.

        `codes_NL` is (N + 1, L) int64, row 0 for padding. Chunks keep temporaries small: their outputs are put
        together again, so that losses may compare all rows of the batch.
        """
        chunks = list(token_chunks(histories.lengths * self.num_levels, max_tokens))
        num_again = self._chunks_to_run_again(histories.lengths, chunks, codes_NL.device)
        outputs = []
        for place, rows in enumerate(chunks):
            inputs = histories.take(rows), target_codes_BL[rows], codes_NL
            if place < num_again:
                outputs.append(checkpoint(self.forward_chunk, *inputs, use_reentrant=False))
            else:
                outputs.append(self.forward_chunk(*inputs))
        logits, summaries = zip(*outputs, strict=True)
        (logits_LBK,) = _together(chunks, [logits], dim=1)
        return GeneratorOutput(logits_LBK, Summary(*_together(chunks, zip(*summaries, strict=True))))

    def _chunks_to_run_again(self, lengths: np.ndarray, chunks: Sequence[np.ndarray], device: torch.device) -> int:
        """How many of the first chunks keep no graph. Their backward pass comes last, when others' graphs are freed."""
        limit = GRAPH_BYTES.get(device.type)
        if limit is None or not torch.is_grad_enabled():
            return 0
        tokens = np.array([lengths[rows].sum() for rows in chunks]) * self.num_levels
        held = tokens[::-1].cumsum() * self._graph_bytes_of_token()
        return len(chunks) - int(np.searchsorted(held, limit, side="right"))

    def _graph_bytes_of_token(self) -> int:
        """About what the blocks keep of an encoder token: norms, queries, keys, values, mixed and hidden units."""
        config = self.config
        inner = config.num_heads * config.d_head
        of_encoder = config.encoder_layers * (2 * config.d_model + 5 * inner + config.d_ff)
        return 4 * (of_encoder + config.decoder_layers * 2 * inner)

    def forward_chunk(self, histories: Sequences, target_codes_BL: Tensor, codes_NL: Tensor) -> GeneratorOutput:
        """The same for histories that run at once."""
        encoded = self.encode(histories, codes_NL)
        states_BLD = self.teacher_forced(encoded, target_codes_BL)
        return GeneratorOutput(self.logits(states_BLD), Summary(encoded.pooled(), states_BLD[:, 0]))

    def summary(self, histories: Sequences, codes_NL: Tensor, *, max_tokens: int = CHUNK_TOKENS) -> Summary:
        """The summary alone: of the decoder's positions, only BOS is run, which sees no other."""
        chunks = list(token_chunks(histories.lengths * self.num_levels, max_tokens))
        summaries = []
        for rows in chunks:
            encoded = self.encode(histories.take(rows), codes_NL)
            bos_BQ = torch.full((len(rows), 1), self.bos, device=codes_NL.device)
            summaries.append((encoded.pooled(), self.decode(encoded, bos_BQ)[:, 0]))
        return Summary(*_together(chunks, zip(*summaries, strict=True)))

    def encode(self, histories: Sequences, codes_NL: Tensor) -> EncodedHistories:
        """Encoder states of the codes of histories, each of which has at least one item."""
        device = codes_NL.device
        offsets_L = torch.tensor(self.offsets, device=device)
        tokens_NL = codes_NL[torch.from_numpy(histories.items).to(device)] + offsets_L
        rows = Ragged.of(histories.lengths * self.num_levels, device)
        return EncodedHistories(self.encoder(self.tokens(tokens_NL.flatten()), rows), rows)

    def teacher_forced(self, encoded: EncodedHistories, target_codes_BL: Tensor) -> Tensor:
        """(B, L, D) decoder states at BOS, c1, .., c(L-1); position l predicts level l."""
        offsets_L = torch.tensor(self.offsets, device=target_codes_BL.device)
        inputs_BL = (target_codes_BL + offsets_L).roll(1, dims=1)
        inputs_BL[:, 0] = self.bos
        return self.decode(encoded, inputs_BL)

    def decode(self, encoded: EncodedHistories, inputs_BQ: Tensor) -> Tensor:
        """(B, Q, D) decoder states of the first Q inputs, rows of the embedding table."""
        rows = Ragged.uniform(*inputs_BQ.shape, inputs_BQ.device)
        states_ND = self.decoder(self.tokens(inputs_BQ.flatten()), rows, encoded.states_ND, encoded.rows)
        return states_ND.view(*inputs_BQ.shape, -1)


def _together(chunks: Sequence[np.ndarray], parts: Iterable[Sequence[Tensor]], dim: int = 0) -> Iterator[Tensor]:
    """Each kind of output of all chunks in the order of the batch, along `dim`, from its pieces, one a chunk."""
    order = torch.from_numpy(np.argsort(np.concatenate(chunks)))
    for pieces in parts:
        yield torch.cat(list(pieces), dim).index_select(dim, order.to(pieces[0].device))


def padding_bias(mask_BS: Tensor) -> Tensor | None:
    """(B, 1, 1, S) to add to attention scores: 0 at tokens, -inf at padding; None where nothing is padded."""
    if bool(mask_BS.all()):
        return None
    return torch.zeros(mask_BS.shape, device=mask_BS.device).masked_fill_(~mask_BS, -math.inf)[:, None, None]
