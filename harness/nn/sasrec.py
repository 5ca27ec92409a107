"""The SASRec network in its two published forms, and the full-softmax loss at the price of three matrix products.

Rows of different lengths are laid end to end in one flat axis (`harness.nn.ragged`), so that every layer but attention
sees one matrix, without padding.

Shape legend: B rows, S positions of a row, T tokens of all rows, M targets, N items (without padding), V classes,
D width, C targets of a chunk.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.dataset import PADDING, Sequences
from harness.nn.kernels.attention import attention
from harness.nn.kernels.dropout import dropout
from harness.nn.kernels.switch import runs_plain
from harness.nn.many_classes import chunked_cross_entropy, sampled_cross_entropy
from harness.nn.ragged import AttentionLayout, Ragged

Style = Literal["recbole", "original"]
Softmax = Literal["full", "chunked", "sampled"]

INIT_STD = 0.02  # recbole: normal weights and embeddings
# Logits in memory at a time. On a CPU they should stay in its cache, with the table where that is small; a larger table
# comes from memory for each chunk, so that chunks should be fewer. Elsewhere few large products are better.
CACHED_TABLE = 2**20  # elements of a small table
CPU_CHUNK_ELEMENTS = 2**19, 2**21  # with a small table, with a larger one
CHUNK_ELEMENTS = 2**27
LEAST_CHUNK_TARGETS = 32  # targets whose logits are in memory, however many items: each chunk reads the whole table


class PackedRows(NamedTuple):
    """Rows laid end to end."""

    items_T: Tensor  # int64
    positions_T: Tensor  # int64, 0-based place in the position table
    layout: Ragged  # how they lie, and which attend side by side
    ends_B: Tensor  # int64 place of each row's last item on the flat axis


def pack(rows: Sequences, max_history: int, style: Style, device: torch.device) -> PackedRows:
    """The rows as the network takes them; each must hold 1 to `max_history` items.

    Positions count from the left end of a row (recbole), or up to `max_history - 1` at its right end (original, whose
    published form pads on the left).
    """
    lengths_B = rows.lengths
    assert 1 <= lengths_B.min() <= lengths_B.max() <= max_history, "rows must hold 1 to max_history items"
    ends_B = np.cumsum(lengths_B)
    first_B = (
        lengths_B - ends_B if style == "recbole" else max_history - ends_B
    )  # less the row's place on the flat axis
    positions_T = np.arange(ends_B[-1]) + np.repeat(first_B, lengths_B)
    items_T = rows.items[rows.offsets[0] : rows.offsets[-1]].astype(np.int64)
    return PackedRows(
        torch.from_numpy(items_T).to(device),
        torch.from_numpy(positions_T).to(device),
        Ragged.of(lengths_B, device),
        torch.from_numpy(ends_B - 1).to(device),
    )


class Dropout(nn.Module):
    """Dropout with cheap masks, off in evaluation."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`x` with dropped elements 0 and the others scaled up."""
        return dropout(x, self.rate, self.training)


@lru_cache(maxsize=64)
def only_earlier(length: int, device: torch.device) -> Tensor:
    """(1, S, S): 0 where a position may look, at itself and what stands before it, -inf elsewhere."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
        return torch.full((1, length, length), -math.inf, device=device).triu_(1)


class CausalAttention(nn.Module):
    """Scaled multi-head attention of each position to itself and what stands before it in its row."""

    def __init__(self, width: int, num_heads: int, rate: float):
        super().__init__()
        self.num_heads, self.rate = num_heads, rate
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, queries_TD: Tensor, keys_TD: Tensor, layout: Ragged) -> Tensor:
        """(T, D) mixed values of all heads."""
        scale = (len(self.query.bias) // self.num_heads) ** -0.5
        projected_TD = F.linear(queries_TD, self.query.weight * scale, self.query.bias * scale)
        to_earlier_1SS = only_earlier(layout.longest, queries_TD.device)
        rate = self.rate if self.training else 0.0
        own = AttentionLayout(layout, layout, self.num_heads)
        return attention(projected_TD, self.key_value(keys_TD), to_earlier_1SS, own, rate)


class RecBoleLayer(nn.Module):
    """A post-norm BERT layer: attention, then a GELU feed-forward, each with residual and LayerNorm after it."""

    def __init__(self, width: int, inner: int, num_heads: int, rate: float):
        super().__init__()
        self.attention = CausalAttention(width, num_heads, rate)
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
        self.attention = CausalAttention(width, num_heads, rate)
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


class SASRec(nn.Module):
    """Self-attentive next-item network (METHODS B.1); an item's logit is its row of the tied table times the state.

    Row 0 of the table is padding: zero and never trained, or with `legacy_pad` initialised and trained like an item's
    row, as RecBole's is by being a class of the softmax.
    """

    def __init__(
        self,
        num_items: int,
        max_history: int,
        *,
        style: Style = "recbole",
        hidden_size: int = 128,
        inner_size: int = 256,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.5,
        legacy_pad: bool = False,
        softmax: Softmax = "full",
    ):
        super().__init__()
        self.style = style
        self.softmax = softmax
        self.max_history = max_history
        self.legacy_pad = legacy_pad
        self.item_table = nn.Embedding(num_items + 1, hidden_size)
        self.position_table = nn.Embedding(max_history, hidden_size)
        # The one norm of the recbole form stands before the layers, that of the original form after them.
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12 if style == "recbole" else 1e-8)
        self.dropout = Dropout(dropout)
        layer = RecBoleLayer if style == "recbole" else OriginalLayer
        self.layers = nn.ModuleList(layer(hidden_size, inner_size, num_heads, dropout) for _ in range(num_layers))
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

    def forward(self, rows: PackedRows) -> Tensor:
        """(T, D) state at each position, which predicts the item after it."""
        items_TD = self.item_table(rows.items_T)
        positions_TD = self.position_table(rows.positions_T)
        if self.style == "recbole":
            x_TD = self.dropout(self.norm(items_TD + positions_TD))
        else:
            x_TD = self.dropout(items_TD * math.sqrt(items_TD.shape[1]) + positions_TD)
        for layer in self.layers:
            x_TD = layer(x_TD, rows.layout)
        return x_TD if self.style == "recbole" else self.norm(x_TD)

    @property
    def item_vectors_ND(self) -> Tensor:
        """(N, D) the table without its padding row: a view, through which gradients flow."""
        return self.item_table.weight[1:]

    def next_item_loss(self, states_MD: Tensor, targets_M: Tensor) -> Tensor:
        """Summed cross-entropy (nats) of the targets among all items; with `legacy_pad`, padding is a class too."""
        cross_entropy = chunked_cross_entropy if self.softmax == "chunked" else linear_cross_entropy
        if self.legacy_pad:
            return cross_entropy(states_MD, self.item_table.weight, targets_M)
        return cross_entropy(states_MD, self.item_vectors_ND, targets_M - 1)

    def sampled_softmax_loss(
        self, states_MD: Tensor, targets_M: Tensor, drawn_J: Tensor, log_expected_J: Tensor
    ) -> Tensor:
        """Summed cross-entropy (nats) of each target against drawn items, corrected for how likely each draw was."""
        return sampled_cross_entropy(states_MD, self.item_table.weight, targets_M, drawn_J, log_expected_J)

    def sampled_loss(self, states_MD: Tensor, targets_M: Tensor, negatives_M: Tensor) -> Tensor:
        """Summed binary cross-entropy (nats) of each target against one negative item (original form)."""
        target_logits_M = (states_MD * self.item_table(targets_M)).sum(dim=1)
        negative_logits_M = (states_MD * self.item_table(negatives_M)).sum(dim=1)
        return -(F.logsigmoid(target_logits_M) + F.logsigmoid(-negative_logits_M)).sum()


def linear_cross_entropy(states_MD: Tensor, table_VD: Tensor, targets_M: Tensor) -> Tensor:
    """Scalar: summed cross-entropy (nats) of the targets under logits `states · tableᵀ`, in the table's precision.

    The logits exist only a chunk at a time: the gradients are made along with the loss, so that memory does not grow
    with M · V and nothing is computed twice.
    """
    with torch.autocast(states_MD.device.type, enabled=False):
        form = plain_cross_entropy if runs_plain() else _LinearCrossEntropy.apply
        return form(states_MD.to(table_VD.dtype), table_VD, targets_M)


def plain_cross_entropy(states_MD: Tensor, table_VD: Tensor, targets_M: Tensor) -> Tensor:
    """What `linear_cross_entropy` computes, under autograd."""
    return F.cross_entropy(states_MD @ table_VD.T, targets_M, reduction="sum")


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_MD: Tensor, table_VD: Tensor, targets_M: Tensor) -> Tensor:
        size = min(len(states_MD), max(LEAST_CHUNK_TARGETS, _chunk_elements(table_VD) // len(table_VD)))
        logits, probabilities = states_MD.new_empty(2, size, len(table_VD))
        states_grad, table_grad = torch.empty_like(states_MD), torch.zeros_like(table_VD)
        loss = states_MD.new_zeros(())
        for start in range(0, len(states_MD), size):
            chunk = slice(start, start + size)
            states_CD, targets_C1 = states_MD[chunk], targets_M[chunk, None]
            count = len(states_CD)
            logits_CV = torch.mm(states_CD, table_VD.T, out=logits[:count])
            difference_CV = torch.softmax(logits_CV, dim=1, out=probabilities[:count])
            # log_softmax and exp would take twice the time of softmax. The largest class tells what the logits were
            # lowered by; its probability is at least 1 / V, so its logarithm is exact where a target's need not be.
            log_sums_C = logits_CV.amax(dim=1) - difference_CV.amax(dim=1).log_()
            loss += (log_sums_C - logits_CV.gather(1, targets_C1)[:, 0]).sum()
            # The gradient with respect to the logits: probabilities less the one-hot target.
            difference_CV.scatter_add_(1, targets_C1, -states_CD.new_ones(count, 1))
            torch.mm(difference_CV, table_VD, out=states_grad[chunk])
            table_grad.addmm_(difference_CV.T, states_CD)
        ctx.save_for_backward(states_grad, table_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor, Tensor, None]:
        states_grad, table_grad = ctx.saved_tensors
        return states_grad * loss_grad, table_grad * loss_grad, None


def _chunk_elements(table_VD: Tensor) -> int:
    if table_VD.device.type != "cpu":
        return CHUNK_ELEMENTS
    return CPU_CHUNK_ELEMENTS[table_VD.numel() > CACHED_TABLE]
