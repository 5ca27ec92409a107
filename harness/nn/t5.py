"""Pre-norm T5 (v1.0) encoder and decoder stacks (METHODS B.0).

Whole sequences lie one after another in flat tensors: ragged on a CPU (`harness.nn.ragged`), padded in buckets where
torch's own kernels run (`harness.nn.buckets`). Decoding runs one position of many beams at a time, from a cache.

Shape legend: B batch, N tokens of all sequences, S encoder positions, Q query positions, T key positions, D model
width, H heads, E head width, I = H * E inner width, R rows of a decoding cache, W beams.
A bias that is added to a decoding step's attention scores broadcasts to (B, H, Q, T).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.config import Config
from harness.nn.attending import Attention, to_all, to_earlier, to_states
from harness.nn.buckets import Buckets
from harness.nn.kernels.blocks import attention_block, feed_forward_block
from harness.nn.kernels.dropout import dropout
from harness.nn.kernels.precision import dtype_of_products
from harness.nn.layers import RMSNorm
from harness.nn.ragged import Ragged
from harness.nn.relative_positions import RelativeBias


class T5Config(Config):
    """Sizes of the encoder-decoder; the defaults are those of ETEGRec's generator."""

    d_model: int = Field(128, ge=1)
    d_ff: int = Field(512, ge=1)
    num_heads: int = Field(4, ge=1)
    d_head: int = Field(64, ge=1)  # num_heads * d_head need not equal d_model
    encoder_layers: int = Field(6, ge=1)
    decoder_layers: int = Field(6, ge=1)
    dropout: float = Field(0.1, ge=0, lt=0.998)  # a CPU applies the nearest multiple of 1/256
    num_buckets: int = Field(32, ge=4, multiple_of=4)
    max_distance: int = Field(128, ge=2)
    init_std: float = Field(0.02, gt=0)  # of all weights but the norms (METHODS C.1); narrow models want more


class KeysValues(NamedTuple):
    """What attention reads: keys and values of one layer."""

    keys_BHTE: Tensor
    values_BHTE: Tensor


class Past(NamedTuple):
    """Keys and values of the positions that a decoder layer has seen, for R sequences (rows).

    Positions come first in memory: to grow is a plain copy, to reorder moves whole rows.
    """

    keys_TRHE: Tensor
    values_TRHE: Tensor

    @classmethod
    def of(cls, new: KeysValues) -> Past:
        """The past that consists of the positions of `new`."""
        return cls(new.keys_BHTE.permute(2, 0, 1, 3), new.values_BHTE.permute(2, 0, 1, 3))

    def grown(self, new: Past) -> Past:
        """With the positions of `new` at the end."""
        return Past(torch.cat([self.keys_TRHE, new.keys_TRHE]), torch.cat([self.values_TRHE, new.values_TRHE]))

    def rows(self, rows: Tensor) -> Past:
        """The given rows, in the given order."""
        return Past(self.keys_TRHE.index_select(1, rows), self.values_TRHE.index_select(1, rows))

    def memory(self) -> KeysValues:
        """As attention reads it (views)."""
        return KeysValues(self.keys_TRHE.permute(1, 2, 0, 3), self.values_TRHE.permute(1, 2, 0, 3))


def relative_bias(config: T5Config, *, bidirectional: bool) -> RelativeBias:
    """One table for all layers of a stack."""
    return RelativeBias(config.num_heads, config.num_buckets, config.max_distance, bidirectional=bidirectional)


def split_heads(x_BTI: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """A joint projection (B, T, parts * H * E) as `parts` tensors (B, H, T, E)."""
    batch, length, _ = x_BTI.shape
    return x_BTI.view(batch, length, parts, num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def attend_step(q_BHQE: Tensor, memory: KeysValues, biases: list[Tensor]) -> Tensor:
    """(B, Q, H * E): softmax(q kᵀ + biases) v, unscaled; a step of decoding, so without dropout."""
    scores_BHQT = q_BHQE @ memory.keys_BHTE.transpose(-1, -2)
    for bias in biases:
        scores_BHQT += bias
    return (scores_BHQT.softmax(-1) @ memory.values_BHTE).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention behind its norm."""

    def __init__(self, config: T5Config):
        super().__init__()
        inner = config.num_heads * config.d_head
        self.num_heads, self.rate = config.num_heads, config.dropout
        self.norm = RMSNorm(config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.d_model, bias=False)

    def forward(self, x_ND: Tensor, own: Attention) -> Tensor:
        """x + dropout(attention)."""
        return attention_block(
            x_ND,
            self.norm.weight,
            self.qkv.weight,
            self.out.weight,
            own.layout,
            bias_HQS=own.bias_HQT,
            rate=self.rate if self.training else 0.0,
        )

    def step(self, x_RQD: Tensor, biases: list[Tensor], past: Past | None) -> tuple[Tensor, Past]:
        """x + attention to the past and to itself, and the grown past."""
        queries, keys, values = split_heads(self.norm.linear(x_RQD, self.qkv), 3, self.num_heads)
        new = Past.of(KeysValues(keys, values))
        past = new if past is None else past.grown(new)
        return x_RQD + self.out(attend_step(queries, past.memory(), biases)), past


class CrossAttention(nn.Module):
    """Multi-head attention of decoder positions to encoder states, without position bias."""

    def __init__(self, config: T5Config):
        super().__init__()
        inner = config.num_heads * config.d_head
        self.num_heads, self.rate = config.num_heads, config.dropout
        self.norm = RMSNorm(config.d_model)
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.kv = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.out = nn.Linear(inner, config.d_model, bias=False)

    def forward(self, x_ND: Tensor, cross: Attention, states_ND: Tensor) -> Tensor:
        """x + dropout(attention) of the rows of `x_ND` to the encoder's states."""
        return attention_block(
            x_ND,
            self.norm.weight,
            self.q.weight,
            self.out.weight,
            cross.layout,
            memory_MI=self.kv(states_ND),
            rate=self.rate if self.training else 0.0,
        )

    def memory(self, states_BSD: Tensor) -> KeysValues:
        """Keys and values of the encoder states, to be computed once and read by every step."""
        return KeysValues(*split_heads(self.kv(states_BSD), 2, self.num_heads))

    def step(self, x_BQD: Tensor, memory: KeysValues, biases: list[Tensor]) -> Tensor:
        """x + attention."""
        (query,) = split_heads(self.norm.linear(x_BQD, self.q), 1, self.num_heads)
        return x_BQD + self.out(attend_step(query, memory, biases))


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between them, behind their norm."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.rate = config.dropout
        self.norm = RMSNorm(config.d_model)
        self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        """x + dropout(feed-forward)."""
        rate = self.rate if self.training else 0.0
        return feed_forward_block(x_ND, self.norm.weight, self.wi.weight, self.wo.weight, rate=rate)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.attention = SelfAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x_ND: Tensor, own: Attention) -> Tensor:
        """(N, D)."""
        return self.feed_forward(self.attention(x_ND, own))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention, then feed-forward."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.attention = SelfAttention(config)
        self.cross_attention = CrossAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x_ND: Tensor, own: Attention, cross: Attention, states_ND: Tensor) -> Tensor:
        """(N, D): all positions of all sequences; `own` says how they attend to themselves, `cross` to the states."""
        x_ND = self.attention(x_ND, own)
        return self.feed_forward(self.cross_attention(x_ND, cross, states_ND))

    def step(
        self,
        x_BWD: Tensor,
        self_biases: list[Tensor],
        past: Past | None,
        cross: KeysValues,
        cross_biases: list[Tensor],
    ) -> tuple[Tensor, Past]:
        """(B, W, D) and the grown past (R = B * W): the newest position of W beams of each user.

        In the self-attention each beam is a row of its own; in the cross-attention the beams are queries of their
        user, so the user's keys and values are never copied.
        """
        x_R1D, past = self.attention.step(x_BWD.flatten(0, 1)[:, None], self_biases, past)
        x_BWD = self.cross_attention.step(x_R1D.view_as(x_BWD), cross, cross_biases)
        return self.feed_forward(x_BWD.flatten(0, 1)).view_as(x_BWD), past


class Encoder(nn.Module):
    """The encoder stack: embedded tokens in, states after the final norm and dropout out."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.num_heads, self.rate = config.num_heads, config.dropout
        self.bias = relative_bias(config, bidirectional=True)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = RMSNorm(config.d_model)

    def forward(self, x_ND: Tensor, rows: Ragged | Buckets) -> Tensor:
        """(N, D)."""
        own = to_all(rows, self.bias(0, rows.longest)[0], dtype_of_products(x_ND))
        x_ND = dropout(x_ND, self.rate, self.training)
        for layer in self.layers:
            x_ND = layer(x_ND, own)
        return dropout(self.norm(x_ND), self.rate, self.training)


class Decoder(nn.Module):
    """The decoder stack, for all positions of a sequence at once or for one position of many beams."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.num_heads, self.rate = config.num_heads, config.dropout
        self.bias = relative_bias(config, bidirectional=False)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = RMSNorm(config.d_model)

    def blocks(self) -> list[DecoderLayer]:
        """The layers, bottom first."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def memory(self, states_BSD: Tensor) -> list[KeysValues]:
        """Each layer's cross-attention keys and values."""
        return [layer.cross_attention.memory(states_BSD) for layer in self.blocks()]

    def forward(self, x_ND: Tensor, length: int, states_ND: Tensor, state_rows: Ragged | Buckets) -> Tensor:
        """(N, D): the state of every position of rows of `length`, each seeing itself and those before it."""
        dtype = dtype_of_products(x_ND)
        own = to_earlier(len(x_ND) // length, length, state_rows, self.bias(0, length)[0], dtype)
        cross = to_states(length, state_rows, self.num_heads, dtype)
        x_ND = dropout(x_ND, self.rate, self.training)
        for layer in self.layers:
            x_ND = layer(x_ND, own, cross, states_ND)
        return dropout(self.norm(x_ND), self.rate, self.training)

    def step(
        self,
        x_BWD: Tensor,
        past: list[Past] | None,
        memory: list[KeysValues],
        padding_bias: Tensor | None,
    ) -> tuple[Tensor, list[Past]]:
        """(B, W, D), the state of each beam's newest position, and each layer's grown past; for eval mode."""
        seen = 0 if past is None else len(past[0].keys_TRHE)
        self_biases = [self.bias(seen, seen + 1)]
        cross_biases = [] if padding_bias is None else [padding_bias]
        grown = []
        for index, (layer, cross) in enumerate(zip(self.blocks(), memory, strict=True)):
            layer_past = None if past is None else past[index]
            x_BWD, layer_past = layer.step(x_BWD, self_biases, layer_past, cross, cross_biases)
            grown.append(layer_past)
        return self.norm(x_BWD), grown
