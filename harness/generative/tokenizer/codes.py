"""Item codes: the table that generators read, the de-duplication token, and the health of a code book.

Shape legend: N items, L levels (the de-duplication level included where there is one). Item ids are 1..N.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.data.dataset import PADDING
from harness.errors import DataError, StageError
from results.store.whole_files import whole


def tuple_keys(codes_NL: Tensor, codebook_size: int | None = None) -> Tensor:
    """(N,) int64 one number per code tuple, equal exactly where the tuples are equal (mixed radix).

    The device need not be asked for the largest code where the codebooks' size is told.
    """
    radix = codebook_size or (int(codes_NL.max()) + 1 if codes_NL.numel() else 1)
    assert radix ** codes_NL.shape[1] < 2**63, "code tuples do not fit in 63 bits"
    keys_N = torch.zeros_like(codes_NL[:, 0])
    for level_N in codes_NL.unbind(1):
        keys_N = keys_N * radix + level_N
    return keys_N


def occurrence_ranks(keys_N: Tensor) -> Tensor:
    """(N,) int64 how many earlier rows have the same key: 0 for a key's first row."""
    sorted_N, order_N = keys_N.sort(stable=True)
    places_N = torch.arange(len(keys_N), device=keys_N.device)
    starts_N = places_N.clone()  # of each key's rows among the sorted ones
    starts_N[1:] *= sorted_N[1:] != sorted_N[:-1]
    return torch.empty_like(order_N).scatter_(0, order_N, places_N - starts_N.cummax(0).values)


def deduplicate(codes_NL: Tensor, codebook_size: int) -> Tensor:
    """(N, L + 1) int64 unique tuples: in id order, the j-th item (j = 0, 1, ...) with the same codes gets token j.

    Raises `StageError` where more items share their codes than the token's table has rows (METHODS B.2).
    """
    ranks_N = occurrence_ranks(tuple_keys(codes_NL, codebook_size))
    largest = int(ranks_N.max()) + 1 if len(ranks_N) else 0
    if largest > codebook_size:
        raise StageError(
            f"at most {codebook_size} items may share one code tuple, but {largest} do; "
            "train the tokenizer longer, or give it more levels or codes"
        )
    return torch.cat([codes_NL, ranks_N[:, None]], dim=1)


def replace_codes(table_NL: Tensor, semantic_NL: Tensor, codebook_size: int) -> float:
    """Writes an (N + 1)-row table anew, row 0 being padding; the share of items whose tuple is another one now."""
    codes_NL = deduplicate(semantic_NL, codebook_size)
    changed = (codes_NL != table_NL[1:]).any(dim=1).float().mean().item()
    table_NL[1:] = codes_NL
    return changed


def code_health(codes_NL: Tensor, codebook_size: int) -> dict[str, Any]:
    """How well the codes spread, without the de-duplication token, as plain JSON (METHODS B.2).

    `used_codes` and `perplexity` (exp of the entropy in nats; at most K) are lists with one entry per level,
    `collision_rate` is (N - number of distinct tuples) / N, `colliding_items` the share of items whose tuple another
    item has too (METHODS B.11), `largest_group` the most items in one tuple.
    """
    num_items = len(codes_NL)
    counts_LK = torch.stack([torch.bincount(level_N, minlength=codebook_size) for level_N in codes_NL.unbind(1)])
    entropy_L = torch.special.entr(counts_LK.double() / num_items).sum(-1)
    _, groups_G = torch.unique(tuple_keys(codes_NL), return_counts=True)
    return {
        "used_codes": (counts_LK > 0).sum(-1).tolist(),
        "perplexity": entropy_L.exp().tolist(),
        "collision_rate": (num_items - len(groups_G)) / num_items,
        "colliding_items": int(groups_G[groups_G > 1].sum()) / num_items,
        "largest_group": int(groups_G.max()),
    }


def flat_health(codes_NL: Tensor, codebook_size: int) -> dict[str, float]:
    """`code_health` as numbers by name, as a training's history holds them: `perplexity_1` is the first level's."""
    flat: dict[str, float] = {}
    for name, value in code_health(codes_NL, codebook_size).items():
        if isinstance(value, list):
            flat |= {f"{name}_{level}": float(entry) for level, entry in enumerate(value, start=1)}
        else:
            flat[name] = float(value)
    return flat


@dataclass(frozen=True)
class CodeTable:
    """Codes of all items: `codes[i]` is item i's tuple, and `sizes[l]` how many codes level l has.

    Row 0 belongs to padding and holds zeros: a valid index for an embedding lookup, whose result the
    attention mask must hide.
    """

    codes: Tensor  # (N + 1, L) int64
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, codes_NL: Tensor, sizes: Sequence[int]) -> CodeTable:
        """The table of items 1..N from their codes, row i - 1 being item i's; checks each level's range."""
        assert codes_NL.shape[1] == len(sizes), "one size per level"
        for level, size in enumerate(sizes):
            codes_N = codes_NL[:, level]
            if len(codes_N) and not 0 <= int(codes_N.min()) <= int(codes_N.max()) < size:
                raise DataError(
                    f"codes of level {level + 1} must lie in 0..{size - 1}, "
                    f"but they span {int(codes_N.min())}..{int(codes_N.max())}; give the level's true size"
                )
        padding_1L = codes_NL.new_zeros(1, codes_NL.shape[1])
        return cls(torch.cat([padding_1L, codes_NL]).long(), tuple(sizes))

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.codes) - 1

    @property
    def num_levels(self) -> int:
        """L."""
        return self.codes.shape[1]

    def sharers(self, num_levels: int) -> Tensor:
        """(N,) int64 how many items, itself included, have item i + 1's codes in the first `num_levels` levels."""
        keys_N = tuple_keys(self.codes[PADDING + 1 :, :num_levels])
        _, groups_N, counts_G = torch.unique(keys_N, return_inverse=True, return_counts=True)
        return counts_G[groups_N]

    @property
    def unique(self) -> bool:
        """Whether every item has a tuple of its own, so that a tuple names one item."""
        return len(tuple_keys(self.codes[PADDING + 1 :]).unique()) == self.num_items

    def to(self, device: torch.device | str) -> CodeTable:
        """The table on another device."""
        return CodeTable(self.codes.to(device), self.sizes)

    def save(self, path: Path, item_keys: Sequence[str] | None = None) -> None:
        """Write a safetensors file in one step; `item_keys` (item i's at i - 1) make later joins safe."""
        assert item_keys is None or len(item_keys) == self.num_items, "one key per item"
        table = {"sizes": self.sizes, "item_keys": None if item_keys is None else list(item_keys)}
        with whole(path) as temporary:
            # One entry: safetensors writes several in an order that differs from process to process.
            save_file({"codes": self.codes.cpu().contiguous()}, temporary, {"table": json.dumps(table)})

    @classmethod
    def load(cls, path: Path, item_keys: Sequence[str] | None = None) -> CodeTable:
        """The saved table; `DataError` if the file is not one, or was saved with other `item_keys` than these."""
        try:
            with safe_open(path, "pt") as file:
                metadata, codes = file.metadata(), file.get_tensor("codes")
            entries = {name: json.loads(text) for name, text in metadata.items()}
            table = entries.get("table", entries)  # older files have an entry for each of its parts
            sizes, saved_keys = tuple(table["sizes"]), table.get("item_keys")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} must hold a code table, but it does not ({error}); make it anew") from None
        if item_keys is not None and saved_keys != list(item_keys):
            raise DataError(
                f"{path} must hold the codes of this data set's items in their order, but it was saved for "
                f"{'unnamed' if saved_keys is None else len(saved_keys)} other items; make it anew"
            )
        return cls(codes, sizes)
