"""Popularity: every user gets the items with the most training interactions (METHODS A.7). The floor of every table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from harness.config import Config
from harness.data.dataset import Dataset, Sequences
from harness.evaluation.ranking import best_items
from harness.interfaces import Artifacts, FitContext, Method, Recommendations
from harness.training.checkpoints import load_tensors, save_tensors


class PopularityConfig(Config):
    """Popularity has nothing to set."""


class PopularityRecommender:
    """The same list for everyone."""

    def __init__(self, counts_N: np.ndarray):
        self.counts_N = counts_N

    def shared_scores(self) -> np.ndarray:
        """The counts."""
        return self.counts_N.astype(np.float64)

    def own_scores(self, histories: Sequences) -> sparse.csr_array:
        """No user has a score of their own."""
        return sparse.csr_array((len(histories), len(self.counts_N)))

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The k items with the most interactions, equal counts by item id; scores are the counts."""
        items_1K, counts_1K = best_items(torch.from_numpy(self.counts_N)[None], k)
        return Recommendations(
            items_1K.numpy().repeat(len(histories), axis=0),
            counts_1K.numpy().astype(np.float32).repeat(len(histories), axis=0),
        )

    def save(self, folder: Path) -> None:
        """Writes `popularity.safetensors`."""
        save_tensors(folder / "popularity.safetensors", {"counts": torch.from_numpy(self.counts_N)})

    def health(self) -> dict[str, Any]:
        """How many items no training interaction has."""
        return {"items_without_interactions": int((self.counts_N == 0).sum())}


def fit_popularity(
    config: PopularityConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext
) -> PopularityRecommender:
    """Counts the training interactions."""
    return PopularityRecommender(dataset.item_counts)


def load_popularity(
    folder: Path, config: PopularityConfig, dataset: Dataset, context: FitContext
) -> PopularityRecommender:
    """The recommender that `save` wrote."""
    return PopularityRecommender(load_tensors(folder / "popularity.safetensors")["counts"].numpy())


METHOD = Method(
    name="popularity",
    title="Popularity",
    family="no training",
    groups=("core",),
    place=10,
    follows_contract=False,
    config=PopularityConfig,
    fit=fit_popularity,
    load=load_popularity,
    presets={"paper": PopularityConfig(), "lite": PopularityConfig()},
    effort=lambda config: 0.0,
)
