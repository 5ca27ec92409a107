"""The generator: T5 over the codes of items (METHODS C.1).

Shape legend: B batch, N items, L levels, K codes of a level, S history items, D width, W beams.
An item is L tokens. All tables lie in one embedding matrix, level after level; its last row is BOS and padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.data.dataset import PADDING, Sequences
from harness.nn.buckets import ALIGNED, MOST_BUCKETS, Bucket, Buckets, bucketed, placed
from harness.nn.kernels.precision import full_precision
from harness.nn.kernels.switch import runs_native
from harness.nn.moving import moved
from harness.nn.pieces import pieces_on
from harness.nn.ragged import Ragged
from harness.nn.t5 import Decoder, Encoder, T5Config

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


class Placed(NamedTuple):
    """Histories by falling length, their items in padded buckets on the device."""

    items_P: Tensor  # P places of all buckets, `PADDING` where there is no item
    lengths: np.ndarray  # (B,) in items
    buckets: list[Bucket]  # widths in items


class LaidOut(NamedTuple):
    """Histories of a batch in chunks that run at once, and the way from the batch's order to theirs and back."""

    chunks: list[Sequences | Placed]
    there_B: Tensor
    back_B: Tensor

    def split(self, x_BL: Tensor) -> tuple[Tensor, ...]:
        """Each chunk's rows."""
        return x_BL.index_select(0, self.there_B).split([len(chunk.lengths) for chunk in self.chunks])

    def together(self, pieces: Sequence[Tensor], dim: int = 0) -> Tensor:
        """The rows of all chunks in the order of the batch, along `dim`."""
        return torch.cat(list(pieces), dim).index_select(dim, self.back_B)


class EncodedHistories(NamedTuple):
    """Histories as the decoder reads them."""

    states_ND: Tensor  # N tokens of all histories, padding included where they lie in buckets
    rows: Ragged | Buckets

    def pooled(self) -> Tensor:
        """(B, D) the mean state of each history."""
        if isinstance(self.rows, Buckets):
            return self.rows.pooled(self.states_ND)
        lengths_B = torch.from_numpy(self.rows.lengths).to(self.states_ND.device)
        return torch.segment_reduce(self.states_ND, "mean", lengths=lengths_B)

    def padded(self) -> tuple[Tensor, Tensor]:
        """States (B, S, D), S being the tokens of the longest history, and a mask (B, S), True at tokens."""
        if isinstance(self.rows, Buckets):
            return self.rows.padded(self.states_ND)
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

    def offsets_L(self, device: torch.device) -> Tensor:
        """(L,) `offsets`, made on the device."""
        return torch.arange(self.num_levels, device=device) * self.codebook_size

    def logits(self, states_BLD: Tensor) -> Tensor:
        """(L, B, K) scores of the codes of all levels, from the decoder states of their positions."""
        with full_precision(states_BLD.device):
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
        histories: Sequences | LaidOut,
        target_codes_BL: Tensor,
        codes_NL: Tensor,
        *,
        max_tokens: int | None = None,
    ) -> GeneratorOutput:
        """Logits under teacher forcing and the summary, by chunks of like length, in the batch's order.

        `codes_NL` is (N + 1, L) int64, row 0 for padding. Chunks of `max_tokens`, by default what suits the device,
        keep temporaries small: their outputs are put together again, so that losses may compare all rows of the batch.
        """
        laid_out = self.laid_out(histories, codes_NL.device, max_tokens)
        num_again = self._chunks_to_run_again(laid_out.chunks, codes_NL.device)
        outputs = []
        for place, (chunk, codes_CL) in enumerate(zip(laid_out.chunks, laid_out.split(target_codes_BL), strict=True)):
            inputs = chunk, codes_CL, codes_NL
            if place < num_again:
                outputs.append(checkpoint(self.forward_chunk, *inputs, use_reentrant=False))
            else:
                outputs.append(self.forward_chunk(*inputs))
        logits, summaries = zip(*outputs, strict=True)
        pooled, bos = map(laid_out.together, zip(*summaries, strict=True))
        return GeneratorOutput(laid_out.together(logits, dim=1), Summary(pooled, bos))

    def prepared(self, histories: Sequences | LaidOut, device: torch.device) -> Sequences | LaidOut:
        """What of the work on a batch's histories can be done before its step: where they are padded, their layout."""
        return self.laid_out(histories, device) if runs_native(device) else histories

    def laid_out(self, histories: Sequences | LaidOut, device: torch.device, max_tokens: int | None = None) -> LaidOut:
        """The histories in chunks of about `max_tokens` tokens, by default what suits the device; longest rows first.

        Where torch's own kernels run, they go to the device in one copy.
        """
        if isinstance(histories, LaidOut):
            return histories
        at_once = pieces_on(device).trained_tokens if max_tokens is None else max_tokens
        rows = list(token_chunks(histories.lengths * self.num_levels, at_once))
        parts, there_B = [histories.take(each) for each in rows], np.concatenate(rows)
        arrays = {"there": there_B, "back": np.argsort(there_B)}
        if not runs_native(device):
            return LaidOut([*parts], *moved(arrays, device).values())
        buckets = [self._buckets(part) for part in parts]
        items = {f"items {i}": placed(part.items, part.lengths, buckets[i]) for i, part in enumerate(parts)}
        there = moved(arrays | items, device)
        chunks = [
            Placed(there[name], part.lengths, of_part)
            for name, part, of_part in zip(items, parts, buckets, strict=True)
        ]
        return LaidOut([*chunks], there["there"], there["back"])

    def _chunks_to_run_again(self, chunks: Sequence[Sequences | Placed], device: torch.device) -> int:
        """How many of the first chunks keep no graph. Their backward pass comes last, when others' graphs are freed."""
        limit = GRAPH_BYTES.get(device.type)
        if limit is None or not torch.is_grad_enabled():
            return 0
        tokens = np.array([chunk.lengths.sum() for chunk in chunks]) * self.num_levels
        held = tokens[::-1].cumsum() * self._graph_bytes_of_token()
        return len(chunks) - int(np.searchsorted(held, limit, side="right"))

    def _graph_bytes_of_token(self) -> int:
        """About what the blocks keep of an encoder token: norms, queries, keys, values, mixed and hidden units."""
        config = self.config
        inner = config.num_heads * config.d_head
        of_encoder = config.encoder_layers * (2 * config.d_model + 5 * inner + config.d_ff)
        return 4 * (of_encoder + config.decoder_layers * 2 * inner)

    def forward_chunk(
        self, histories: Sequences | Placed, target_codes_BL: Tensor, codes_NL: Tensor
    ) -> GeneratorOutput:
        """The same for histories that run at once."""
        encoded = self.encode(histories, codes_NL)
        states_BLD = self.teacher_forced(encoded, target_codes_BL)
        return GeneratorOutput(self.logits(states_BLD), Summary(encoded.pooled(), states_BLD[:, 0]))

    def summary(self, histories: Sequences | LaidOut, codes_NL: Tensor, *, max_tokens: int | None = None) -> Summary:
        """The summary alone: of the decoder's positions, only BOS is run, which sees no other."""
        laid_out = self.laid_out(histories, codes_NL.device, max_tokens)
        pooled, bos = [], []
        for chunk in laid_out.chunks:
            encoded = self.encode(chunk, codes_NL)
            bos_BQ = torch.full((len(chunk.lengths), 1), self.bos, device=codes_NL.device)
            pooled.append(encoded.pooled())
            bos.append(self.decode(encoded, bos_BQ)[:, 0])
        return Summary(laid_out.together(pooled), laid_out.together(bos))

    def encode(self, histories: Sequences | Placed, codes_NL: Tensor) -> EncodedHistories:
        """Encoder states of the codes of histories, each of which has at least one item.

        Where torch's own kernels run, histories must come by falling length.
        """
        device = codes_NL.device
        if isinstance(histories, Sequences) and runs_native(device):
            buckets = self._buckets(histories)
            items_P = moved({"items": placed(histories.items, histories.lengths, buckets)}, device)["items"]
            histories = Placed(items_P, histories.lengths, buckets)
        rows: Ragged | Buckets
        if isinstance(histories, Placed):
            items_P, rows = histories.items_P, self._rows(histories)
        else:
            items_P = torch.from_numpy(histories.items).to(device)
            rows = Ragged.of(histories.lengths * self.num_levels, device)
        tokens_NL = codes_NL[items_P] + self.offsets_L(device)
        return EncodedHistories(self.encoder(self.tokens(tokens_NL.flatten()), rows), rows)

    def _buckets(self, histories: Sequences) -> list[Bucket]:
        """Those of the histories' items; in tokens their widths are whole eights."""
        return bucketed(histories.lengths, MOST_BUCKETS, ALIGNED // math.gcd(ALIGNED, self.num_levels))

    def _rows(self, histories: Placed) -> Buckets:
        """How the tokens lie."""
        is_token_P = (histories.items_P != PADDING)[:, None].expand(-1, self.num_levels).flatten()
        of_tokens = [Bucket(rows, width * self.num_levels) for rows, width in histories.buckets]
        return Buckets(histories.lengths * self.num_levels, of_tokens, is_token_P)

    def teacher_forced(self, encoded: EncodedHistories, target_codes_BL: Tensor) -> Tensor:
        """(B, L, D) decoder states at BOS, c1, .., c(L-1); position l predicts level l."""
        inputs_BL = (target_codes_BL + self.offsets_L(target_codes_BL.device)).roll(1, dims=1)
        inputs_BL[:, 0] = self.bos
        return self.decode(encoded, inputs_BL)

    def decode(self, encoded: EncodedHistories, inputs_BQ: Tensor) -> Tensor:
        """(B, Q, D) decoder states of the first Q inputs, rows of the embedding table."""
        states_ND = self.decoder(self.tokens(inputs_BQ.flatten()), inputs_BQ.shape[1], encoded.states_ND, encoded.rows)
        return states_ND.view(*inputs_BQ.shape, -1)


def padding_bias(mask_BS: Tensor) -> Tensor | None:
    """(B, 1, 1, S) to add to attention scores: 0 at tokens, -inf at padding; None where nothing is padded.

    For a GPU's answer to whether anything is, one would have to wait.
    """
    if mask_BS.device.type == "cpu" and bool(mask_BS.all()):
        return None
    return torch.zeros(mask_BS.shape, device=mask_BS.device).masked_fill_(~mask_BS, -math.inf)[:, None, None]
