"""Self-attention by torch's scaled_dot_product_attention: on a GPU one launch, without a matrix of scores.

Shape legend: T tokens of all rows, B rows, S places of the longest, H heads, E head width, I = H * E.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.nn.ragged import Ragged


def native_self_attention(
    queries_TI: Tensor, keys_values_TX: Tensor, layout: Ragged, num_heads: int, rate: float, *, is_causal: bool
) -> Tensor:
    """(T, I): softmax(q kᵀ / sqrt(E)) v of each row, with dropout of the probabilities; X is 2 * I, keys first.

    Rows are padded at their ends, so that no place of a causal row looks at padding; otherwise a mask hides it. What
    stands in padding is a copy of the row's last token, so that it is finite, and its gradient is 0.
    """
    (queries_BHSE,) = side_by_side(queries_TI, layout, 1, num_heads)
    keys_BHSE, values_BHSE = side_by_side(keys_values_TX, layout, 2, num_heads)
    mixed_BHSE = F.scaled_dot_product_attention(
        queries_BHSE,
        keys_BHSE,
        values_BHSE,
        attn_mask=None if is_causal or layout.is_uniform else layout.place("is_token_BS")[:, None, None],
        dropout_p=rate,
        is_causal=is_causal,
    )
    return end_to_end(mixed_BHSE, layout)


def side_by_side(x_TX: Tensor, layout: Ragged, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """Each part's (B, H, S, E), the heads of all parts lying side by side in each token."""
    slots = x_TX if layout.is_uniform else x_TX.index_select(0, layout.place("token_of_slot_P"))
    by_part = slots.view(len(layout.lengths), layout.longest, parts, num_heads, -1).permute(2, 0, 3, 1, 4)
    return torch.unbind(by_part)


def end_to_end(x_BHSE: Tensor, layout: Ragged) -> Tensor:
    """(T, I): the heads of each token side by side; what stands in padding is left out."""
    slots_PI = x_BHSE.transpose(1, 2).flatten(2).flatten(0, 1)
    return slots_PI if layout.is_uniform else slots_PI.index_select(0, layout.place("slot_of_token_T"))
