"""Item ids of P5: numbers in the order of first appearance (SID), and paths of a tree of clusters (CID) (METHODS B.6).

Both are made from training interactions alone.

Shape legend: N items, L levels.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from harness.artifacts import CODES_FILE
from harness.config import Config
from harness.data.dataset import Dataset, Sequences
from harness.generative.tokenizer.codes import CodeTable
from harness.interfaces import Artifacts, FitContext

NO_NODE = 0  # the code of the levels below a path's last node


class SequentialIds(Config):
    """SID: users' training sequences one after another, items numbered as they first appear."""

    first: int = Field(1001, ge=0, description="the first item's number")
    base: int = Field(100, ge=2, description="a number's digits are read in groups of so many values, one token each")


class CollaborativeIds(Config):
    """CID: items that stand together in training sequences share the beginning of their ids."""

    clusters: int = Field(20, ge=2, description="groups that a group is split into")
    largest: int = Field(500, ge=2, description="a group of more items is split again")
    max_depth: int = Field(8, ge=1, description="splits one below another at most")


def first_appearances(train: Sequences, num_items: int) -> np.ndarray:
    """(N,) int64 the place of item i + 1 in the order of first appearance; items without interactions come last."""
    items, first = np.unique(train.items, return_index=True)
    moments_N = np.arange(num_items) + len(train.items)
    moments_N[items - 1] = first
    places_N = np.empty(num_items, dtype=np.int64)
    places_N[np.argsort(moments_N, kind="stable")] = np.arange(num_items)
    return places_N


def digit_codes(numbers_N: np.ndarray, base: int) -> np.ndarray:
    """(N, L) int64 the digits of numbers to a base, the most significant first, as many as the largest needs."""
    powers = [1]
    while powers[-1] * base <= numbers_N.max():
        powers.append(powers[-1] * base)
    return np.stack([numbers_N // power % base for power in reversed(powers)], axis=1)


def co_occurrences(train: Sequences, num_items: int) -> sparse.csr_array:
    """(N, N) float64 symmetric: how many pairs of places of all sequences hold the two items, in either order."""
    users = np.repeat(np.arange(len(train)), train.lengths)
    counts_UN = sparse.csr_array(
        (np.ones(len(users)), (users, train.items - 1)), shape=(len(train), num_items)
    )  # equal entries are added up
    pairs_NN = (counts_UN.T @ counts_UN).tolil()
    pairs_NN.setdiag(0)
    return pairs_NN.tocsr()


def cluster_paths(affinity_NN: sparse.csr_array, config: CollaborativeIds) -> list[tuple[int, ...]]:
    """Of each item the numbers of its groups from the root down; an item that occurs with no other has a group alone.

    Spectral clustering, seed 0, labels by `cluster_qr`; a group of more than `largest` items is split again.
    """
    paths: list[tuple[int, ...]] = [() for _ in range(affinity_NN.shape[0])]
    is_alone_N = np.asarray(affinity_NN.sum(axis=1)).ravel() == 0
    groups = [np.flatnonzero(~is_alone_N)]
    for _ in range(config.max_depth):
        split = [group for group in groups if len(group) > max(config.largest, config.clusters)]
        groups = []
        for group in split:
            part = affinity_NN[group][:, group]
            with warnings.catch_warnings():  # parts that are not connected are groups of their own
                warnings.filterwarnings("ignore", "Graph is not fully connected")
                from sklearn.cluster import spectral_clustering  # over a second, which most commands need not wait

                labels = spectral_clustering(
                    part, n_clusters=config.clusters, assign_labels="cluster_qr", random_state=0
                )
            for label in np.unique(labels):
                members = group[labels == label]
                for item in members:
                    paths[item] += (int(label),)
                groups.append(members)
    for number, item in enumerate(np.flatnonzero(is_alone_N)):
        paths[item] = (config.clusters + number,)
    return paths


def path_codes(paths: list[tuple[int, ...]]) -> tuple[np.ndarray, tuple[int, ...]]:
    """(N, L) int64 codes and the sizes of their levels: a code for each node of the tree, and one for the leaf.

    A node is named by its whole path, so that groups of different parents share no code. The last level numbers the
    items of a leaf in id order, with codes that all leaves share.
    """
    levels = []
    for level in range(1, max(map(len, paths)) + 1):
        nodes = sorted({path[:level] for path in paths if len(path) >= level})
        codes = {node: code for code, node in enumerate(nodes, start=NO_NODE + 1)}
        levels.append([codes.get(path[:level], NO_NODE) for path in paths])
    taken: dict[tuple[int, ...], int] = {}
    leaves = []
    for path in paths:
        leaves.append(taken.get(path, 0))
        taken[path] = leaves[-1] + 1
    codes_NL = np.array([*levels, leaves], dtype=np.int64).T
    return codes_NL, tuple(int(size) for size in codes_NL.max(axis=0) + 1)


def build_ids(
    config: SequentialIds | CollaborativeIds, dataset: Dataset, inputs: Artifacts, context: FitContext
) -> None:
    """Writes the items' codes."""
    if isinstance(config, SequentialIds):
        numbers_N = config.first + first_appearances(dataset.train, dataset.num_items)
        codes_NL = digit_codes(numbers_N, config.base)
        sizes = (config.base,) * codes_NL.shape[1]
    else:
        codes_NL, sizes = path_codes(cluster_paths(co_occurrences(dataset.train, dataset.num_items), config))
    CodeTable.of(torch.from_numpy(codes_NL), sizes).save(context.folder / CODES_FILE, dataset.catalog.keys)
