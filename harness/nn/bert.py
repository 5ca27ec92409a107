"""A self-attentive encoder in RecBole's form, causal or not, below the methods that differ in what they train it on.

Shape legend: T items of all rows, D width.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from harness.nn.encoder import Encoder, PackedRows
from harness.nn.layers import Dropout
from harness.nn.sasrec import RecBoleLayer, TransformerSizes

Positions = Literal["start", "end"]  # from 0 at a row's first item, or up to `max_history - 1` at its last


class BertEncoder(Encoder):
    """Item plus position, LayerNorm, dropout, and layers of attention and feed-forward (METHODS B.1)."""

    def __init__(self, table_rows: int, max_history: int, sizes: TransformerSizes, *, is_causal: bool):
        super().__init__()
        self.max_history, width = max_history, sizes.hidden_size
        self.item_table = nn.Embedding(table_rows, width)
        self.position_table = nn.Embedding(max_history, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(sizes.dropout)
        parts = (width, sizes.inner_size, sizes.num_heads, sizes.dropout, is_causal)
        self.layers = nn.ModuleList(RecBoleLayer(*parts) for _ in range(sizes.num_layers))

    def states(self, rows: PackedRows, positions: Positions) -> Tensor:
        """(T, D) at all places."""
        positions_T = rows.from_start_T if positions == "start" else self.max_history - 1 - rows.from_end_T
        x_TD = self.dropout(self.norm(self.item_table(rows.items_T) + self.position_table(positions_T)))
        for layer in self.layers:
            x_TD = layer(x_TD, rows.layout)
        return x_TD
