"""Zero-collision reassignment: other last codes for items that share all of theirs, as few and as near as may be.

METHODS B.11. Shape legend: N items, G items of a group, L levels, K codes of the last level, D code width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.generative.tokenizer.codes import tuple_keys
from harness.generative.tokenizer.rqvae import RQVAE
from harness.nn.pieces import pieces_on

ZeroCollisions = Literal["off", "assigned", "greedy"]
TIE = 1e-12  # of a cost, for each place in an order that settles what is equal otherwise

logger = logging.getLogger(__name__)


class Reassigned(NamedTuple):
    """Codes without collisions, but in groups of more items than there are last codes."""

    codes_NL: Tensor  # int64
    moved: int  # items with another last code than before
    added_distance: float  # mean growth of the moved items' squared distance to their last code; 0 where none moved
    left: int  # items of groups that are larger than the last codebook, and so stay as they are


def semantic_codes(rqvae: RQVAE, vectors_NZ: Tensor, zero_collisions: ZeroCollisions = "off") -> Tensor:
    """(N, L) int64 nearest codes of all items, without collisions where these are asked for."""
    if zero_collisions == "off":
        return rqvae.codes(vectors_NZ)
    return without_collisions(*nearest_codes(rqvae, vectors_NZ), zero_collisions)


@torch.no_grad()
def nearest_codes(rqvae: RQVAE, vectors_NZ: Tensor) -> tuple[Tensor, Tensor]:
    """(N, L) int64 nearest codes of all items, and (N, K) their squared distances to the last level's codes."""
    codes, last_distances = [], []
    for vectors_BZ in vectors_NZ.split(pieces_on(vectors_NZ.device).items):
        quantized = rqvae.quantize(rqvae.encode(vectors_BZ))
        codes.append(quantized.codes_BL)
        last_distances.append(quantized.distances[-1])  # those of the other levels would fill the memory
    return torch.cat(codes), torch.cat(last_distances)


def without_collisions(codes_NL: Tensor, last_distances_NK: Tensor, zero_collisions: ZeroCollisions) -> Tensor:
    """(N, L) the codes reassigned as the option says; a warning where some items must go on sharing theirs."""
    if zero_collisions == "off":
        return codes_NL
    found = reassign(codes_NL.cpu(), last_distances_NK.clamp(min=0).double().cpu(), zero_collisions)
    if found.left:
        logger.warning(
            "%d items stay with shared codes: their groups have more items than the last level has codes; give it more",
            found.left,
        )
    return found.codes_NL.to(codes_NL.device)


def reassign(codes_NL: Tensor, distances_NK: Tensor, method: Literal["assigned", "greedy"] = "assigned") -> Reassigned:
    """Other last codes for the items of each group (equal first L - 1 codes) in which two have the same.

    `distances_NK` are float64 squared distances of each item's residual to the last level's codes. `assigned`: the
    fewest items move, and of all ways to do that the nearest; `greedy`: the nearest item keeps a shared code, and the
    others, by growing distance, take the nearest free one.
    """
    codes, distances = codes_NL.numpy().copy(), distances_NK.numpy()
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray] = {"assigned": _assigned, "greedy": _greedy}[method]
    _, group_N, sizes = np.unique(tuple_keys(codes_NL[:, :-1]).numpy(), return_inverse=True, return_counts=True)
    order = np.argsort(group_N, kind="stable")
    left = 0
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        last_G = codes[members, -1]
        if len(np.unique(last_G)) == len(members):
            continue
        if len(members) > distances.shape[1]:
            left += len(members)
            continue
        codes[members, -1] = choose(last_G, distances[members])
    moved = np.flatnonzero(codes[:, -1] != codes_NL[:, -1].numpy())
    grown = distances[moved, codes[moved, -1]] - distances[moved, codes_NL[:, -1].numpy()[moved]]
    return Reassigned(torch.from_numpy(codes), len(moved), float(grown.mean()) if len(moved) else 0.0, left)


def _assigned(last_G: np.ndarray, distances_GK: np.ndarray) -> np.ndarray:
    """(G,) different codes of least cost: an unchanged code is worth more than any distances, then places decide."""
    places_GK = np.arange(distances_GK.size).reshape(distances_GK.shape)
    change = distances_GK.shape[1] * (distances_GK.max() + 1e-6)
    cost_GK = distances_GK + TIE * places_GK + change * (np.arange(distances_GK.shape[1]) != last_G[:, None])
    return linear_sum_assignment(cost_GK)[1]


def _greedy(last_G: np.ndarray, distances_GK: np.ndarray) -> np.ndarray:
    """(G,) different codes, items in the order of their distance to their old code."""
    chosen_G, old_G = last_G.copy(), distances_GK[np.arange(len(last_G)), last_G]
    order = np.argsort(old_G, kind="stable")
    _, keepers = np.unique(last_G[order], return_index=True)
    losers = np.delete(order, keepers)
    free_K = np.ones(distances_GK.shape[1], dtype=bool)
    free_K[last_G] = False
    for item in losers:
        chosen_G[item] = np.where(free_K, distances_GK[item], np.inf).argmin()
        free_K[chosen_G[item]] = False
    return chosen_G
