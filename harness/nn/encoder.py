"""What an item-scoring network takes and gives: histories laid end to end, a state for each asked place, item rows.

Shape legend: B rows, S positions of a row, T items of all rows, M asked places, N items, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.dataset import PADDING, Sequences
from harness.nn.kernels.switch import runs_native
from harness.nn.moving import moved
from harness.nn.ragged import PLACES, Ragged


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

    @property
    def ends_B(self) -> Tensor:
        """(B,) int64 place of each row's last item on the flat axis."""
        return self.layout.place("ends_B")

    @property
    def from_start_T(self) -> Tensor:
        """(T,) int64 how many items of its row stand before each item."""
        return self.layout.place("from_start_T")

    @property
    def from_end_T(self) -> Tensor:
        """(T,) int64 how many items of its row stand after each item."""
        return self.layout.place("from_end_T")

    @property
    def row_T(self) -> Tensor:
        """(T,) int64 which row each item stands in."""
        return self.layout.place("row_T")

    @property
    def slots_T(self) -> Tensor:
        """(T,) int64 place of each item on the flattened axes of `padded`."""
        return self.layout.place("slot_of_token_T")

    @cached_property
    def by_place(self) -> ByPlace:
        """The items by their place in the row, longer rows first: how rows without padding advance side by side."""
        lengths_B = self.layout.lengths
        row_T = np.repeat(np.arange(len(lengths_B)), lengths_B)
        place_T = np.arange(len(row_T)) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
        order_T = np.lexsort((-lengths_B[row_T], place_T))  # stable: rows of one length keep their order
        places_T = np.empty_like(order_T)
        places_T[order_T] = np.arange(len(order_T))
        there = moved({"order_T": order_T, "places_T": places_T}, self.layout.device)
        return ByPlace(**there, counts_S=torch.from_numpy(np.bincount(place_T)))

    def padded(self, x_TD: Tensor) -> Tensor:
        """(B, S, D) the rows side by side, each followed by zeros up to the longest."""
        rows, longest = len(self.layout.lengths), self.layout.longest
        flat = x_TD.new_zeros(rows * longest, x_TD.shape[1]).index_copy(0, self.slots_T, x_TD)
        return flat.view(rows, longest, -1)

    def left_padded(self, length: int) -> tuple[PackedRows, Tensor]:
        """The rows with padding before their items up to `length`, and (T,) int64 the place of each item among them."""
        rows = len(self.layout.lengths)
        slots_T = (self.row_T + 1) * length - 1 - self.from_end_T

        def spread(x_T: Tensor) -> Tensor:
            return x_T.new_zeros(rows * length).index_copy(0, slots_T, x_T)

        times_T = None if self.times_T is None else spread(self.times_T)
        layout = Ragged.uniform(rows, length, self.layout.device)
        return PackedRows(spread(self.items_T), layout, times_T, self.users_B), slots_T

    def windows(self, length: int, *, at_end: bool) -> Tensor:
        """(B, length) int64: each row, `length` items at most, behind padding (`at_end`) or followed by it."""
        in_row_T = length - 1 - self.from_end_T if at_end else self.from_start_T
        flat = self.items_T.new_full((len(self.layout.lengths) * length,), PADDING)
        return flat.index_copy(0, self.row_T * length + in_row_T, self.items_T).view(-1, length)


def pack(rows: Sequences, device: torch.device) -> PackedRows:
    """The rows as an encoder takes them; each must hold an item."""
    return pack_with(rows, {}, device)[0]


def pack_with(
    rows: Sequences, others: Mapping[str, np.ndarray], device: torch.device
) -> tuple[PackedRows, list[Tensor]]:
    """The rows as an encoder takes them, each of one item at least, and other arrays beside them: in one copy.

    A device that is not the CPU gets all that a network may ask of the rows' layout along with them.
    """
    assert rows.lengths.min() >= 1, "rows must not be empty"
    own = slice(rows.offsets[0], rows.offsets[-1])
    layout_of = Ragged.in_one_band if runs_native(device) else Ragged.of  # few large steps, or no padding
    layout = layout_of(rows.lengths, device)
    arrays = {"items": rows.items[own].astype(np.int64)}
    arrays |= {} if rows.times is None else {"times": rows.times[own]}
    arrays |= {} if rows.users is None else {"users": rows.users}
    places = {} if device.type == "cpu" else {name: make(rows.lengths) for name, make in PLACES.items()}
    there = moved({**arrays, **places, **others}, device)
    layout.keep({name: there[name] for name in places})
    packed = PackedRows(there["items"], layout, there.get("times"), there.get("users"))
    return packed, [there[name] for name in others]


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
