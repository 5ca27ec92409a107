"""The item codes as a prefix tree held in sorted tensors: what may follow a prefix, and which items a sequence names.

Shape legend: N items, L levels, K codes of a level, M nodes of a depth, C children of a node.

A node is a prefix that some item has. The nodes of each depth are numbered in lexicographic order, so that a node's
children stand side by side; the root is node 0 of depth 0, and -1 stands for "no item has this prefix".
Memory is O(N * L) whatever the codebook sizes: about 70 bytes an item for four levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harness.nn.moving import moved


@dataclass(frozen=True)
class TrieLevel:
    """The edges from the nodes of one depth to those of the next."""

    num_codes: int  # K
    keys_M: Tensor  # int64, ascending: parent * K + code of each node of the next depth
    first_child: Tensor  # int64 (nodes of this depth + 1): children of node n are first_child[n]:first_child[n + 1]
    most_children: int


@dataclass(frozen=True)
class Trie:
    """All code sequences that name an item; items with equal codes share a leaf."""

    levels: tuple[TrieLevel, ...]
    items_N: Tensor  # int64 item ids by leaf, ascending within a leaf
    first_item: Tensor  # int64 (leaves + 1): the items of leaf n are items_N[first_item[n]:first_item[n + 1]]

    @classmethod
    def of(cls, codes_NL: Tensor, codebook_sizes: tuple[int, ...]) -> Trie:
        """The trie of items 1..N, whose codes are the rows of `codes_NL` (int64, no padding row)."""
        assert codes_NL.shape[1] == len(codebook_sizes), (codes_NL.shape, codebook_sizes)
        nodes_N = torch.zeros(len(codes_NL), dtype=torch.long, device=codes_NL.device)
        num_nodes = 1
        levels = []
        for codes_N, num_codes in zip(codes_NL.unbind(1), codebook_sizes, strict=True):
            assert codes_N.min() >= 0, "negative codes"
            assert codes_N.max() < num_codes, f"code {codes_N.max()} of a codebook of {num_codes}"
            keys_M, nodes_N = torch.unique(nodes_N * num_codes + codes_N, return_inverse=True)
            bounds = torch.arange(num_nodes + 1, device=keys_M.device) * num_codes
            first_child = torch.searchsorted(keys_M, bounds)
            levels.append(TrieLevel(num_codes, keys_M, first_child, int(first_child.diff().max())))
            num_nodes = len(keys_M)
        items_N = torch.argsort(nodes_N, stable=True) + 1
        group_sizes = torch.bincount(nodes_N, minlength=num_nodes)
        return cls(tuple(levels), items_N, torch.cat([group_sizes.new_zeros(1), group_sizes.cumsum(0)]))

    def to(self, device: torch.device) -> Trie:
        """The same trie on another device."""
        tensors = {"items": self.items_N, "first": self.first_item}
        for depth, level in enumerate(self.levels):
            tensors |= {f"keys {depth}": level.keys_M, f"children {depth}": level.first_child}
        there = moved({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, device)
        levels = tuple(
            replace(level, keys_M=there[f"keys {depth}"], first_child=there[f"children {depth}"])
            for depth, level in enumerate(self.levels)
        )
        return Trie(levels, there["items"], there["first"])

    def continuations(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The codes (..., C) that may follow each node of `depth`, ascending, and the nodes (..., C) that they lead to.

        C is the most children that a node of this depth has; where a node has fewer, code 0 leads to node -1. Nothing
        follows -1.
        """
        level = self.levels[depth]
        first, counts = children(level.first_child, nodes)
        child_C = torch.arange(level.most_children, device=nodes.device)
        place = (first[..., None] + child_C).clamp_(max=len(level.keys_M) - 1)
        exists = child_C < counts[..., None]
        return level.keys_M[place] % level.num_codes * exists, torch.where(exists, place, -1)

    def advance(self, depth: int, nodes: Tensor, codes: Tensor) -> Tensor:
        """The node reached from each node of `depth` by its code, -1 where no item has that prefix."""
        level = self.levels[depth]
        keys = nodes * level.num_codes + codes
        place = torch.searchsorted(level.keys_M, keys).clamp_(max=len(level.keys_M) - 1)
        return torch.where(level.keys_M[place] == keys, place, -1)

    def lookup(self, codes_L: Tensor) -> Tensor:
        """The leaf of each full sequence (..., L), -1 where it names no item."""
        nodes = torch.zeros(codes_L.shape[:-1], dtype=torch.long, device=codes_L.device)
        for depth in range(len(self.levels)):
            nodes = self.advance(depth, nodes, codes_L[..., depth])
        return nodes

    def leaves_N(self) -> Tensor:
        """(N,) the leaf of each item."""
        sizes = self.first_item.diff()
        leaves_N = torch.empty_like(self.items_N)
        leaves_N[self.items_N - 1] = torch.arange(len(sizes), device=sizes.device).repeat_interleave(
            sizes, output_size=len(leaves_N)
        )
        return leaves_N

    @cached_property
    def on_host(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each level's `first_child`, and the codes that lead to the nodes of the next; waits for the device once."""
        parts = [part for level in self.levels for part in (level.first_child, level.keys_M % level.num_codes)]
        arrays = np.split(torch.cat(parts).cpu().numpy(), np.cumsum([len(part) for part in parts])[:-1])
        return list(zip(arrays[::2], arrays[1::2], strict=True))

    def edges_below(self, depth: int, nodes_W: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All children (C,) of some nodes of `depth`, the place among these of the parent of each, and its code."""
        first_child, codes_M = self.on_host[depth]
        begin_W, counts_W = first_child[nodes_W], first_child[nodes_W + 1] - first_child[nodes_W]
        parents_C = np.repeat(np.arange(len(nodes_W)), counts_W)
        nodes_C = np.arange(len(parents_C)) + (begin_W - counts_W.cumsum() + counts_W)[parents_C]
        return nodes_C, parents_C, codes_M[nodes_C]

    def group_sizes(self, leaves: Tensor) -> Tensor:
        """How many items share each leaf, 0 for -1."""
        return children(self.first_item, leaves)[1]


def children(first: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Where each node's children begin, and how many they are; 0 and none for node -1."""
    known = nodes.clamp(min=0)
    begin = first[known]
    return begin, (first[known + 1] - begin) * (nodes >= 0)
