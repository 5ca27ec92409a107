"""A Markov chain over items: what followed a user's last items in the training sequences, counted and never trained.

It takes seconds to fit and is hard to beat on sparse data, which makes it the second floor of every table.

Shape legend: U users, N items (item i in column i - 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from harness.config import Config
from harness.data.dataset import Dataset, Sequences
from harness.evaluation.sparse_ranking import sparse_ranked
from harness.interfaces import Artifacts, FitContext, Method, Recommendations
from harness.training.checkpoints import load_tensors, save_tensors


class MarkovConfig(Config):
    """How far transitions reach, and how fast they fade. The defaults were chosen on validation targets."""

    window: int = Field(
        10, ge=1, description="longest distance of a counted transition, and how many last items of a history speak"
    )
    distance_decay: float = Field(
        0.8, gt=0, le=1, description="a transition over d steps counts this to the power d - 1"
    )
    recency_decay: float = Field(
        0.3, gt=0, le=1, description="the item b steps before the last one weighs this to the power b"
    )
    shrinkage: float = Field(50.0, ge=0, description="added to an item's transition count before dividing by it")
    popularity_weight: float = Field(
        1e-3, ge=0, description="weight of an item's share of all training interactions: the fallback"
    )


def transitions(dataset: Dataset, window: int, distance_decay: float) -> sparse.csr_array:
    """(N, N) float64: decayed number of times that column's item came after row's item, up to `window` steps later.

    Only training sequences are counted: neither validation nor test targets take part in any pair.
    """
    items = dataset.train.items - 1
    users = np.repeat(np.arange(dataset.num_users), dataset.train.lengths)
    shape = (dataset.num_items, dataset.num_items)
    total = sparse.csr_array(shape, dtype=np.float64)
    for distance in range(1, min(window, int(dataset.train.lengths.max(initial=1)) - 1) + 1):
        together = users[distance:] == users[:-distance]
        pairs = (items[:-distance][together], items[distance:][together])
        weights = np.full(len(pairs[0]), distance_decay ** (distance - 1))
        total = total + sparse.coo_array((weights, pairs), shape=shape).tocsr()
    return total


def recency_weights(histories: Sequences, num_items: int, window: int, recency_decay: float) -> sparse.csr_array:
    """(U, N) float64: summed weights of each history's last `window` items."""
    recent = histories.last(window)
    back = np.repeat(recent.offsets[1:], recent.lengths) - 1 - np.arange(len(recent.items))
    users = np.repeat(np.arange(len(recent)), recent.lengths)
    cells = (users, recent.items - 1)
    return sparse.coo_array((recency_decay**back, cells), shape=(len(recent), num_items)).tocsr()


class MarkovRecommender:
    """score(j | history) = sum over last items i of recency · share of i's transitions that go to j, + popularity."""

    def __init__(self, shares_NN: sparse.csr_array, popularity_N: np.ndarray, config: MarkovConfig):
        self.shares_NN = shares_NN
        self.popularity_N = popularity_N
        self.config = config

    def shared_scores(self) -> np.ndarray:
        """The prior, which all items have."""
        return self.config.popularity_weight * self.popularity_N

    def own_scores(self, histories: Sequences) -> sparse.csr_array:
        """The scores of what followed the last items."""
        config, prior_N = self.config, self.shared_scores()
        weights_UN = recency_weights(histories, len(prior_N), config.window, config.recency_decay)
        own_UN = (weights_UN @ self.shares_NN).tocsr()
        own_UN.data += prior_N[own_UN.indices]
        return own_UN

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The k items with the highest scores; equal scores by item id."""
        return sparse_ranked(self, histories, k)

    def save(self, folder: Path) -> None:
        """Writes `markov.safetensors`."""
        tensors = {
            "indptr": torch.from_numpy(self.shares_NN.indptr.astype(np.int64)),
            "indices": torch.from_numpy(self.shares_NN.indices.astype(np.int64)),
            "shares": torch.from_numpy(self.shares_NN.data),
            "popularity": torch.from_numpy(self.popularity_N),
        }
        save_tensors(folder / "markov.safetensors", tensors)

    def health(self) -> dict[str, Any]:
        """Counted pairs of items, and items that nothing follows."""
        return {
            "transitions": int(self.shares_NN.nnz),
            "items_without_successor": int((np.diff(self.shares_NN.indptr) == 0).sum()),
        }


def fit_markov(config: MarkovConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> MarkovRecommender:
    """Counts the transitions of the training sequences and divides each row by its shrunken sum."""
    counts_NN = transitions(dataset, config.window, config.distance_decay)
    sums_N = counts_NN.sum(axis=1) + config.shrinkage
    # A row without transitions and without shrinkage has nothing to divide.
    inverse_N = np.divide(1.0, sums_N, out=np.zeros_like(sums_N), where=sums_N > 0)
    popularity_N = dataset.item_counts / max(1, len(dataset.train.items))
    return MarkovRecommender((sparse.diags_array(inverse_N) @ counts_NN).tocsr(), popularity_N, config)


def load_markov(folder: Path, config: MarkovConfig, dataset: Dataset, context: FitContext) -> MarkovRecommender:
    """The recommender that `save` wrote."""
    saved = {name: tensor.numpy() for name, tensor in load_tensors(folder / "markov.safetensors").items()}
    num_items = len(saved["popularity"])
    parts = (saved["shares"], saved["indices"], saved["indptr"])
    return MarkovRecommender(sparse.csr_array(parts, shape=(num_items, num_items)), saved["popularity"], config)


# Around the defaults; nothing is published.
GRID = {
    "window": (5, 10, 20),
    "distance_decay": (0.6, 0.8, 1.0),
    "recency_decay": (0.1, 0.3, 0.5),
    "shrinkage": (10.0, 50.0, 200.0),
}

METHOD = Method(
    name="markov",
    title="Markov",
    family="no training",
    groups=("core",),
    place=20,
    follows_contract=False,
    config=MarkovConfig,
    fit=fit_markov,
    load=load_markov,
    presets={"paper": MarkovConfig(), "lite": MarkovConfig()},
    grid=GRID,
    effort=lambda config: 0.0,
)
