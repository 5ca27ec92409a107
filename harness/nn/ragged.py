"""How rows of different lengths lie in flat tensors, and how they are padded for attention alone.

Rows lie one after another, so that norms, linear maps and dropout see real tokens only. Attention needs rows side by
side: rows of like length form a band, padded to its longest row. The places of all bands, padding included, are slots;
what moves between tokens and slots is a gather of whole heads, and its gradient is a gather too.

Shape legend: B rows, T tokens, G rows of a band, Q query places and S key places of a band, H heads, E head width,
I = H * E, P slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LEAST_SHARE = 0.6  # of the longest row of a band, the length of its shortest


class LengthBand(NamedTuple):
    """Rows that attend side by side."""

    rows: np.ndarray  # (G,) numbers of the rows
    width: int  # places of each row, those of the longest
    padding_bias: Tensor | None  # (G, 1, 1, S): 0 at tokens, -inf at padding; None where nothing is padded


def _from_start(lengths_B: np.ndarray) -> np.ndarray:
    starts_B = np.cumsum(lengths_B) - lengths_B
    return np.arange(lengths_B.sum()) - np.repeat(starts_B, lengths_B)


def _from_end(lengths_B: np.ndarray) -> np.ndarray:
    return np.repeat(np.cumsum(lengths_B) - 1, lengths_B) - np.arange(lengths_B.sum())


def _is_token(lengths_B: np.ndarray) -> np.ndarray:
    return np.arange(lengths_B.max()) < lengths_B[:, None]


def _token_of_slot(lengths_B: np.ndarray) -> np.ndarray:
    starts_B = np.cumsum(lengths_B) - lengths_B
    return (starts_B[:, None] + np.minimum(np.arange(lengths_B.max()), lengths_B[:, None] - 1)).ravel()


# What is asked of a layout: from its rows' lengths, an array by the name that carries its shape. P = B * S slots, with
# S tokens of the longest row.
PLACES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "lengths_B": lambda lengths_B: lengths_B,
    "ends_B": lambda lengths_B: np.cumsum(lengths_B) - 1,  # each row's last token on the flat axis
    "from_start_T": _from_start,  # tokens of its row that stand before each
    "from_end_T": _from_end,  # and after it
    "row_T": lambda lengths_B: np.repeat(np.arange(len(lengths_B)), lengths_B),  # the row that it stands in
    "slot_of_token_T": lambda lengths_B: np.flatnonzero(
        _is_token(lengths_B)
    ),  # its place where rows stand side by side
    "token_of_slot_P": _token_of_slot,  # the inverse; padding, behind a row's tokens, repeats the last of them
    "is_token_BS": _is_token,  # whether a slot holds a token
}


class Ragged:
    """How B rows of `lengths` tokens lie in flat tensors, and in which bands they attend."""

    def __init__(self, lengths: np.ndarray, bands: Sequence[np.ndarray], device: torch.device):
        """`bands` hold every row number once; each row has at least one token."""
        self.lengths, self.device = lengths, device
        self.rows_of_bands = bands
        self._places: dict[str, Tensor] = {}
        # Made once for a batch, used by every layer.
        self._heads: dict[int, Heads] = {}
        self._gathers: dict[tuple[int, int], Gather] = {}

    @classmethod
    def of(cls, lengths: np.ndarray, device: torch.device) -> Ragged:
        """In bands of like length."""
        order = np.argsort(-lengths, kind="stable")
        descending = lengths[order].tolist()
        starts = [0]
        for row, length in enumerate(descending):
            if length < LEAST_SHARE * descending[starts[-1]]:
                starts.append(row)
        return cls(lengths, np.split(order, starts[1:]), device)

    @classmethod
    def in_one_band(cls, lengths: np.ndarray, device: torch.device) -> Ragged:
        """All side by side."""
        return cls(lengths, [np.arange(len(lengths))], device)

    @staticmethod
    @lru_cache(maxsize=64)
    def uniform(count: int, length: int, device: torch.device) -> Ragged:
        """`count` rows of the same length in one band, kept for the next batch."""
        return Ragged(np.full(count, length), [np.arange(count)], device)

    def banded_as(self, other: Ragged) -> Ragged:
        """The same rows in the bands of another layout of as many rows, so that each may attend to its row there."""
        return Ragged(self.lengths, other.rows_of_bands, self.device)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all rows have as many tokens, so that nothing is padded."""
        return bool(self.lengths.min() == self.longest)

    def place(self, name: str) -> Tensor:
        """What `PLACES` says of the rows, on the device."""
        if name not in self._places:
            with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
                self._places[name] = torch.from_numpy(PLACES[name](self.lengths)).to(self.device)
        return self._places[name]

    def keep(self, places: Mapping[str, Tensor]) -> None:
        """Takes what `place` would make, from who has it on the device already."""
        self._places.update(places)

    @cached_property
    def bands(self) -> list[LengthBand]:
        """The bands in the order of their slots."""
        return [self._band(rows) for rows in self.rows_of_bands]

    def _band(self, rows: np.ndarray) -> LengthBand:
        lengths = self.lengths[rows]
        width = int(lengths.max())
        if lengths.min() == width:
            return LengthBand(rows, width, None)
        bias_GS = np.where(np.arange(width) < lengths[:, None], np.float32(0), np.float32(-math.inf))
        return LengthBand(rows, width, torch.from_numpy(bias_GS).to(self.device)[:, None, None])

    def split(self, slots: Tensor, num_heads: int) -> list[Tensor]:
        """Each band's (G * H, width, E) of a tensor (P * H, E) that holds the slots of all bands."""
        parts = slots.split([len(band.rows) * band.width * num_heads for band in self.bands])
        return [part.view(-1, band.width, slots.shape[1]) for part, band in zip(parts, self.bands, strict=True)]

    def gather(self, parts: int, num_heads: int) -> Gather:
        """The way between tokens and slots of `parts` tensors with heads that lie side by side in each token."""
        key = (parts, num_heads)
        if key not in self._gathers:
            if num_heads not in self._heads:
                self._heads[num_heads] = Heads.of(Slots.of(self), num_heads)
            self._gathers[key] = Gather.of(self._heads[num_heads], parts, self.device)
        return self._gathers[key]


class Slots(NamedTuple):
    """Which token stands in each of P slots, padding included."""

    token: np.ndarray  # (P,) the token; padding repeats the last token of its row
    first: np.ndarray  # (P,) the slot of its row's first token
    width: np.ndarray  # (P,) of its row
    of_token: np.ndarray  # (T,) the slot of each token
    of_padding: np.ndarray  # (P - T,) the slots of padding

    @classmethod
    def of(cls, ragged: Ragged) -> Slots:
        """By bands, rows, places."""
        order = np.concatenate(ragged.rows_of_bands)
        width_B = np.repeat([band.width for band in ragged.bands], [len(band.rows) for band in ragged.bands])
        start_B = np.cumsum(width_B) - width_B
        lengths_B = ragged.lengths[order]
        first_token_B = (np.cumsum(ragged.lengths) - ragged.lengths)[order]
        first, width = np.repeat(start_B, width_B), np.repeat(width_B, width_B)
        place = np.arange(len(first)) - first
        last_place = np.repeat(lengths_B - 1, width_B)
        token = np.repeat(first_token_B, width_B) + np.minimum(place, last_place)
        is_token = place <= last_place
        of_token = np.empty(int(lengths_B.sum()), dtype=np.int64)
        of_token[token[is_token]] = np.flatnonzero(is_token)
        return cls(token, first, width, of_token, np.flatnonzero(~is_token))


class Heads(NamedTuple):
    """Where the heads of slots stand: a row's places of one head follow one another, then those of the next head."""

    of_slots: np.ndarray  # (P, H)
    of_tokens: np.ndarray  # (T, H)
    order: np.ndarray  # (P * H,) the inverse of `of_slots`: which head of which slot stands where
    slots: Slots

    @classmethod
    def of(cls, slots: Slots, num_heads: int) -> Heads:
        """By bands, rows, heads, places."""
        start = slots.first * (num_heads - 1) + np.arange(len(slots.first))
        of_slots = start[:, None] + slots.width[:, None] * np.arange(num_heads)
        order = np.empty(of_slots.size, dtype=np.int64)
        order[of_slots.ravel()] = np.arange(of_slots.size)
        return cls(of_slots, of_slots[slots.of_token], order, slots)


class Gather(NamedTuple):
    """Where each head of each token goes among the slots."""

    to_slots: Tensor  # (parts * P * H,) int64: rows of (T * parts * H, E); padding repeats a token of its row
    to_tokens: Tensor  # (T * parts * H,) int64: rows of (parts * P * H, E)
    padding: Tensor | None  # the slots' rows (of P * H, so for one part) that hold padding
    parts: int
    num_heads: int

    @classmethod
    def of(cls, heads: Heads, parts: int, device: torch.device) -> Gather:
        """Each slot's row among the tokens' heads, and the inverse."""
        (count, num_heads), slots = heads.of_slots.shape, heads.slots
        part = np.arange(parts)[:, None]
        own_rows = (slots.token * (parts * num_heads))[:, None] + np.arange(num_heads)
        to_slots = own_rows.ravel()[heads.order] + part * num_heads
        to_tokens = heads.of_tokens[:, None] + part * (count * num_heads)
        padding = heads.of_slots[slots.of_padding].ravel()
        return cls(
            torch.from_numpy(to_slots.ravel()).to(device),
            torch.from_numpy(to_tokens.ravel()).to(device),
            torch.from_numpy(padding).to(device) if len(padding) else None,
            parts,
            num_heads,
        )

    def slots(self, x_TI: Tensor) -> Tensor:
        """(parts, P * H, E) from (T, parts * I)."""
        heads = x_TI.reshape(len(x_TI) * self.parts * self.num_heads, -1)
        return heads.index_select(0, self.to_slots).view(self.parts, -1, heads.shape[1])

    def tokens(self, slots: Tensor) -> Tensor:
        """(T, parts * I) from (parts, P * H, E); what stands in padding is left out."""
        heads = slots.reshape(-1, slots.shape[-1]).index_select(0, self.to_tokens)
        return heads.view(-1, self.parts * self.num_heads * slots.shape[-1])


@dataclass(frozen=True)
class AttentionLayout:
    """Which rows attend to which, in the same bands; in self-attention a layout attends to itself."""

    queries: Ragged
    keys: Ragged
    num_heads: int

    @cached_property
    def bands(self) -> list[tuple[LengthBand, LengthBand]]:
        """Each band of queries with its keys."""
        return list(zip(self.queries.bands, self.keys.bands, strict=True))

    @cached_property
    def score_counts(self) -> list[int]:
        """How many scores each band has: G * H * Q * S."""
        return [len(own.rows) * self.num_heads * own.width * other.width for own, other in self.bands]

    def scores_by_band(self, scores: Tensor) -> list[Tensor]:
        """Each band's (G * H, Q, S) of a flat tensor that holds the scores of all bands."""
        parts = zip(scores.split(self.score_counts), self.bands, strict=True)
        return [part.view(-1, own.width, other.width) for part, (own, other) in parts]
