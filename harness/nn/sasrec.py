"""The SASRec network in its two published forms (METHODS B.1).

Shape legend: B rows, S positions of a row, T tokens of all rows, M asked places, N items (without padding), D width.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from harness.config import Config
from harness.data.dataset import PADDING
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.kernels.attention import attention
from harness.nn.kernels.sdpa import native_self_attention
from harness.nn.kernels.switch import runs_native
from harness.nn.layers import Dropout
from harness.nn.ragged import AttentionLayout, Ragged

Style = Literal["recbole", "original"]

INIT_STD = 0.02  # recbole: normal weights and embeddings


def check_heads(hidden_size: int, num_heads: int) -> None:
    """`ValueError` where heads of one width do not fill the whole."""
    if hidden_size % num_heads:
        raise ValueError(
            f"num_heads must divide hidden_size, but got num_heads={num_heads}, hidden_size={hidden_size}; change one "
            "of them"
        )


class TransformerSizes(Config):
    """Sizes of self-attentive layers; the defaults are RecBole's at the paper's item dimension."""

    hidden_size: int = Field(128, ge=1, description="width of items and states")
    inner_size: int = Field(256, ge=1, description="width of the feed-forward layers")
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(2, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1, description="on embeddings, attention weights and sub-layer outputs")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        check_heads(self.hidden_size, self.num_heads)
        return self


class SASRecSizes(TransformerSizes):
    """The network's form and sizes; the defaults are the RecBole form at the paper's item dimension."""

    style: Style = Field(
        "recbole",
        description="recbole: post-norm GELU layers, full softmax; original: pre-norm ReLU layers, one negative",
    )


@torch.no_grad()
def draw_normal(network: nn.Module, item_table: nn.Embedding | None = None) -> None:
    """RecBole's start: weights normal with standard deviation 0.02, biases 0, row 0 of `item_table` 0 where given."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INIT_STD)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if item_table is not None:
        item_table.weight[PADDING].zero_()


@lru_cache(maxsize=64)
def only_earlier(length: int, device: torch.device) -> Tensor:
    """(1, S, S): 0 where a position may look, at itself and what stands before it, -inf elsewhere."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
        return torch.full((1, length, length), -math.inf, device=device).triu_(1)


class SelfAttention(nn.Module):
    """Scaled multi-head attention of each position to its row: all of it, or itself and what stands before it."""

    def __init__(self, width: int, num_heads: int, rate: float, is_causal: bool = True):
        super().__init__()
        self.num_heads, self.rate, self.is_causal = num_heads, rate, is_causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, queries_TD: Tensor, keys_TD: Tensor, layout: Ragged) -> Tensor:
        """(T, D) mixed values of all heads."""
        rate = self.rate if self.training else 0.0
        if runs_native(queries_TD.device):
            queries_TI, keys_values_TX = self.query(queries_TD), self.key_value(keys_TD)
            return native_self_attention(
                queries_TI, keys_values_TX, layout, self.num_heads, rate, is_causal=self.is_causal
            )
        scale = (len(self.query.bias) // self.num_heads) ** -0.5
        projected_TD = F.linear(queries_TD, self.query.weight * scale, self.query.bias * scale)
        to_earlier_1SS = only_earlier(layout.longest, queries_TD.device) if self.is_causal else None
        own = AttentionLayout(layout, layout, self.num_heads)
        return attention(projected_TD, self.key_value(keys_TD), to_earlier_1SS, own, rate)


class RecBoleLayer(nn.Module):
    """A post-norm BERT layer: attention, then a GELU feed-forward, each with residual and LayerNorm after it."""

    def __init__(self, width: int, inner: int, num_heads: int, rate: float, is_causal: bool = True):
        super().__init__()
        self.attention = SelfAttention(width, num_heads, rate, is_causal)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(rate)

    def forward(self, x_TD: Tensor, layout: Ragged) -> Tensor:
        """(T, D)."""
        mixed_TD = self.output(self.attention(x_TD, x_TD, layout))
        x_TD = self.attention_norm(self.dropout(mixed_TD) + x_TD)
        return self.feed_forward_norm(self.dropout(self.outer(F.gelu(self.inner(x_TD)))) + x_TD)


class OriginalLayer(nn.Module):
    """The block of the SASRec paper's code: queries and residuals are normed, keys and values are not; ReLU."""

    def __init__(self, width: int, inner: int, num_heads: int, rate: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-8)
        self.attention = SelfAttention(width, num_heads, rate)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-8)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.dropout = Dropout(rate)

    def forward(self, x_TD: Tensor, layout: Ragged) -> Tensor:
        """(T, D)."""
        normed_TD = self.attention_norm(x_TD)
        x_TD = normed_TD + self.attention(normed_TD, x_TD, layout)
        normed_TD = self.feed_forward_norm(x_TD)
        hidden_TD = self.dropout(F.relu(self.inner(normed_TD)))
        return normed_TD + self.dropout(self.outer(hidden_TD))


class SASRec(Encoder):
    """Self-attentive next-item network (METHODS B.1); an item's logit is its row of the tied table times the state.

    Row 0 of the table is padding: zero and never trained, or with `legacy_pad` initialised and trained like an item's
    row, as RecBole's is by being a class of the softmax.
    """

    def __init__(self, num_items: int, max_history: int, sizes: SASRecSizes, *, legacy_pad: bool = False):
        super().__init__()
        self.style, width = sizes.style, sizes.hidden_size
        self.max_history = max_history
        self.legacy_pad = legacy_pad
        self.item_table = nn.Embedding(num_items + 1, width)
        self.position_table = nn.Embedding(max_history, width)
        # The one norm of the recbole form stands before the layers, that of the original form after them.
        self.norm = nn.LayerNorm(width, eps=1e-12 if self.style == "recbole" else 1e-8)
        self.dropout = Dropout(sizes.dropout)
        layer = RecBoleLayer if self.style == "recbole" else OriginalLayer
        parts = (width, sizes.inner_size, sizes.num_heads, sizes.dropout)
        self.layers = nn.ModuleList(layer(*parts) for _ in range(sizes.num_layers))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal with standard deviation 0.02 (recbole) or Glorot-uniform (original) weights; biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                if self.style == "recbole":
                    nn.init.normal_(module.weight, std=INIT_STD)
                else:
                    nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear | nn.LayerNorm):
                nn.init.zeros_(module.bias)
        if not self.legacy_pad:
            self.item_table.weight[PADDING].zero_()

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D). Positions count from a row's first item (recbole), or up to `max_history - 1` at its last (original).

        The original form's published code pads on the left, which puts the last item there.
        """
        items_TD = self.item_table(rows.items_T)
        if self.style == "recbole":
            x_TD = self.dropout(self.norm(items_TD + self.position_table(rows.from_start_T)))
        else:
            positions_TD = self.position_table(self.max_history - 1 - rows.from_end_T)
            x_TD = self.dropout(items_TD * math.sqrt(items_TD.shape[1]) + positions_TD)
        for layer in self.layers:
            x_TD = layer(x_TD, rows.layout)
        states_TD = x_TD if self.style == "recbole" else self.norm(x_TD)
        return states_TD.index_select(0, places_M)
