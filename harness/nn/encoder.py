"""What an item-scoring network takes and gives: histories laid end to end, a state for each asked place, item rows.

Shape legend: B rows, S positions of a row, T items of all rows, M asked places, N items, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.dataset import PADDING, Sequences
from harness.nn.ragged import Ragged


class ByPlace(NamedTuple):
    """The items of all rows by place: the first items of all rows, then the second ones, ..."""

    order_T: Tensor  # int64 which item of the flat axis stands at each place
    places_T: Tensor  # int64 where each item of the flat axis stands
    counts_S: Tensor  # int64, on the CPU: how many rows have a first item, a second one, ...


@dataclass(frozen=True)
class PackedRows:
    """Rows of different lengths, laid end to end in one flat axis without padding."""

    items_T: Tensor  # int64
    layout: Ragged  # how they lie, and which attend side by side
    times_T: Tensor | None = None  # int64 when, in the source's unit; None: only the order is known
    users_B: Tensor | None = None  # int64 training row of each row's user, -1 where there is none; None: not told

    @cached_property
    def ends_B(self) -> Tensor:
        """(B,) int64 place of each row's last item on the flat axis."""
        return self._tensor(np.cumsum(self.layout.lengths) - 1)

    @cached_property
    def from_start_T(self) -> Tensor:
        """(T,) int64 how many items of its row stand before each item."""
        lengths_B = self.layout.lengths
        starts_B = np.cumsum(lengths_B) - lengths_B
        return self._tensor(np.arange(len(self.items_T)) - np.repeat(starts_B, lengths_B))

    @cached_property
    def from_end_T(self) -> Tensor:
        """(T,) int64 how many items of its row stand after each item."""
        lengths_B = self.layout.lengths
        return self._tensor(np.repeat(np.cumsum(lengths_B) - 1, lengths_B) - np.arange(len(self.items_T)))

    @cached_property
    def row_T(self) -> Tensor:
        """(T,) int64 which row each item stands in."""
        return self._tensor(np.repeat(np.arange(len(self.layout.lengths)), self.layout.lengths))

    @cached_property
    def slots_T(self) -> Tensor:
        """(T,) int64 place of each item on the flattened axes of `padded`."""
        is_item_BS = np.arange(self.layout.longest) < self.layout.lengths[:, None]
        return self._tensor(np.flatnonzero(is_item_BS))

    @cached_property
    def by_place(self) -> ByPlace:
        """The items by their place in the row, longer rows first: how rows without padding advance side by side."""
        lengths_B = self.layout.lengths
        row_T = np.repeat(np.arange(len(lengths_B)), lengths_B)
        place_T = np.arange(len(row_T)) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
        order_T = np.lexsort((-lengths_B[row_T], place_T))  # stable: rows of one length keep their order
        places_T = np.empty_like(order_T)
        places_T[order_T] = np.arange(len(order_T))
        return ByPlace(self._tensor(order_T), self._tensor(places_T), torch.from_numpy(np.bincount(place_T)))

    def padded(self, x_TD: Tensor) -> Tensor:
        """(B, S, D) the rows side by side, each followed by zeros up to the longest."""
        rows, longest = len(self.layout.lengths), self.layout.longest
        flat = x_TD.new_zeros(rows * longest, x_TD.shape[1]).index_copy(0, self.slots_T, x_TD)
        return flat.view(rows, longest, -1)

    def left_padded(self, length: int) -> tuple[PackedRows, Tensor]:
        """The rows with padding before their items up to `length`, and (T,) int64 the place of each item among them."""
        rows = len(self.layout.lengths)
        slots_T = self._tensor(np.repeat(np.arange(1, rows + 1) * length - 1, self.layout.lengths)) - self.from_end_T

        def spread(x_T: Tensor) -> Tensor:
            return x_T.new_zeros(rows * length).index_copy(0, slots_T, x_T)

        times_T = None if self.times_T is None else spread(self.times_T)
        layout = Ragged.uniform(rows, length, self.layout.device)
        return PackedRows(spread(self.items_T), layout, times_T, self.users_B), slots_T

    def windows(self, length: int, *, at_end: bool) -> Tensor:
        """(B, length) int64: each row, `length` items at most, behind padding (`at_end`) or followed by it."""
        lengths_B1 = self.layout.lengths[:, None]
        places = np.arange(length)
        is_item = places >= length - lengths_B1 if at_end else places < lengths_B1
        flat = self.items_T.new_full((is_item.size,), PADDING)
        return flat.index_copy(0, self._tensor(np.flatnonzero(is_item)), self.items_T).view(-1, length)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.layout.device)


def pack(rows: Sequences, device: torch.device) -> PackedRows:
    """The rows as an encoder takes them; each must hold an item."""
    assert rows.lengths.min() >= 1, "rows must not be empty"
    own = slice(rows.offsets[0], rows.offsets[-1])
    items_T = torch.from_numpy(rows.items[own].astype(np.int64)).to(device)
    times_T = None if rows.times is None else torch.from_numpy(rows.times[own]).to(device)
    users_B = None if rows.users is None else torch.from_numpy(rows.users).to(device)
    return PackedRows(items_T, Ragged.of(rows.lengths, device), times_T, users_B)


class Encoder(nn.Module):
    """A network that scores an item by the product of its row of a table with the state of a history.

    It never sees padding, so that neither the other rows nor their lengths change a state. A causal encoder may be
    asked for a state at every place; one that reads a row as a whole is asked at the ends of rows (`targets`).
    """

    max_history: int  # items of the longest row that it takes
    item_table: nn.Embedding  # N + 1 rows, row 0 for padding

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D) states at the given places of the flat axis, each of which predicts the item after it."""
        raise NotImplementedError

    def read_rows(self, histories: Sequences) -> Sequences:
        """What the network reads of each history to recommend; the state at a row's end is that of its next item."""
        return histories.last(self.max_history)

    def penalty(self) -> Tensor | None:
        """Scalar that is added to a batch's mean loss; None where there is nothing to add."""
        return None

    @property
    def item_rows_VD(self) -> Tensor:
        """(N + 1, D) what states are multiplied with, row i for item i: the table itself, where it is tied."""
        return self.item_table.weight

    @property
    def item_vectors_ND(self) -> Tensor:
        """(N, D) the rows of the items: a view, through which gradients flow."""
        return self.item_rows_VD[1:]
