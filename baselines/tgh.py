"""TGH-1 and TGH-2: lists from the graph of what followed what, and from texts, without training (METHODS B.10).

A source is an item near the end of a history; its rings are those of `baselines.transition_rings`.

Shape legend: B histories, N items, V = N + 1 with padding in place 0, D width, K places of a quota.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize, pad

from baselines.transition_rings import filled, last_items, quota, rings_of, transition_counts
from harness.artifacts import PAPER_ENCODER, TEXT_VECTORS_IF_ANY
from harness.config import Config
from harness.data.dataset import Dataset, Sequences
from harness.data.text.vectors import TextConfig, load_vectors
from harness.evaluation.ranking import Scores, ranked
from harness.interfaces import Artifacts, FitContext, Method, Need, Recommendations
from harness.training.checkpoints import load_tensors, save_tensors

SCORE_ELEMENTS = 2**19  # scores in memory at a time, of each of a few tensors
PAD_SEED = 42
TIER = 8.0  # between the scores of two groups of items; scores within one lie between -1 and 1 + alpha


class TGHConfig(Config):
    """Which places of the list go to which ring of which source; the defaults are the published TGH-1."""

    budgets: tuple[tuple[int, ...], ...] = Field(
        ((7, 2, 1),),
        min_length=1,
        description="for the last item, the one before it, ...: places of its rings 1, 2, ...",
    )
    alpha: float = Field(0.5, ge=0, le=4, description="weight of the transition count in ring 1, beside the cosine")
    cosine: bool = Field(True, description="score by the texts' cosine; data without texts go without")
    last_n: int = Field(1, ge=1, description="last items whose mean text vector is compared with the items (TGH-1)")
    pad: Literal["random", "semantic"] = Field(
        "random", description="what fills up: items in a fixed random order, or by cosine outside rings and history"
    )
    pad_each_source: bool = Field(
        False, description="fill a source's places up before the next source is asked, as the published TGH-2 does"
    )
    text: TextConfig = Field(default_factory=lambda: TextConfig(dim=None), description="the text vectors")


def needs(config: TGHConfig) -> dict[str, Need]:
    """The text vectors, where they are used."""
    return {"texts": Need(TEXT_VECTORS_IF_ANY, config.text)} if config.cosine else {}


class TGHRecommender:
    """Scores that put each source's quota first, then what its rings hold besides, then all other items."""

    def __init__(self, counts_VV: sparse.csr_array, vectors_VD: Tensor, config: TGHConfig):
        """`vectors_VD`: of length 1, or 0 where there is no text."""
        self.counts_VV, self.vectors_VD, self.config = counts_VV, vectors_VD, config
        weights_VV = counts_VV.copy()
        weights_VV.data = np.log1p(counts_VV.data)
        largest_V = weights_VV.max(axis=1).toarray().ravel()
        self.weights_VV = sparse.diags_array(config.alpha / np.where(largest_V == 0, 1, largest_V)) @ weights_VV
        order_V = np.random.default_rng(PAD_SEED).permutation(counts_VV.shape[0])
        self.random_V = torch.from_numpy(order_V / len(order_V))

    def scores(self, histories: Sequences, max_elements: int = SCORE_ELEMENTS) -> Scores:
        """float64 scores of all items, a chunk of histories at a time; only their order means something."""
        size = max(1, max_elements // len(self.random_V))
        for start in range(0, len(histories), size):
            rows = np.arange(start, min(start + size, len(histories)))
            yield rows, self._scores(histories.take(rows))[:, 1:]

    def _scores(self, histories: Sequences) -> Tensor:
        config, num_sources = self.config, len(self.config.budgets)
        recent_BL = last_items(histories, max(config.last_n, num_sources))
        more_than_rings = max(map(len, config.budgets)) + 1
        quotas: list[Tensor] = []
        for back, budgets in enumerate(config.budgets):
            sources_B = recent_BL[:, -1 - back]
            own_BV = self._cosines(recent_BL[:, -config.last_n :] if back == 0 else sources_B[:, None])
            pad_BV = self._pad_scores(own_BV, histories)
            if back == 0:
                score_BV, is_chosen_BV = pad_BV, torch.zeros_like(pad_BV, dtype=torch.bool)
            ring_BV = rings_of(self.counts_VV, sources_B, len(budgets)).masked_fill_(is_chosen_BV, 0)
            own_BV = own_BV + torch.from_numpy(self.weights_VV[sources_B].toarray())
            quotas.append(quota(ring_BV, own_BV, budgets))
            if config.pad_each_source:
                quotas[-1] = filled(quotas[-1], pad_BV.masked_fill(is_chosen_BV | (ring_BV > 0), -torch.inf))
            is_chosen_BV = is_chosen_BV.scatter(1, quotas[-1], True)
            # What the rings hold besides comes before all other items, that of an earlier source first.
            tier_BV = TIER * (more_than_rings * (num_sources - back) - ring_BV)
            score_BV = torch.where((ring_BV > 0) & (score_BV < TIER - 2), tier_BV + own_BV, score_BV)
        chosen_BK = torch.cat(quotas, 1)
        places_K = torch.arange(chosen_BK.shape[1], 0, -1).double()
        return score_BV.scatter(1, chosen_BK, (TIER * more_than_rings * num_sources + places_K).expand_as(chosen_BK))

    def _cosines(self, items_BL: np.ndarray) -> Tensor:
        """(B, V) float64: of each item with the mean of the given ones."""
        anchors_BD = normalize(self.vectors_VD[torch.from_numpy(items_BL)].sum(1), dim=1)
        return (anchors_BD @ self.vectors_VD.T).double()

    def _pad_scores(self, cosine_BV: Tensor, histories: Sequences) -> Tensor:
        """(B, V) float64, below all that rings hold."""
        if self.config.pad == "random":
            return self.random_V.expand_as(cosine_BV)
        rows = torch.from_numpy(np.repeat(np.arange(len(histories)), histories.lengths))
        return cosine_BV.index_put(
            (rows, torch.from_numpy(histories.items.astype(np.int64))), torch.tensor(-TIER).double()
        )

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The k items with the highest scores; equal scores by item id."""
        return ranked(self.scores, histories, k)

    def save(self, folder: Path) -> None:
        """Writes `tgh.safetensors`."""
        arrays = {"indptr": self.counts_VV.indptr, "indices": self.counts_VV.indices, "counts": self.counts_VV.data}
        tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}
        save_tensors(folder / "tgh.safetensors", {**tensors, "vectors": self.vectors_VD})

    def health(self) -> dict[str, Any]:
        """Edges of the graph, items without one, and whether texts are compared."""
        return {
            "edges": int(self.counts_VV.nnz),
            "items_without_successor": int((np.diff(self.counts_VV.indptr)[1:] == 0).sum()),
            "text_cosine": bool(self.vectors_VD.any()),
        }


def fit(config: TGHConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> TGHRecommender:
    """Counts the transitions of the training sequences, and takes the text vectors where there are any."""
    vectors_VD = torch.zeros(dataset.num_items + 1, 1)
    if config.cosine and dataset.catalog.texts is not None:
        vectors_ND = torch.from_numpy(load_vectors(artifacts["texts"], dataset.catalog.keys))
        vectors_VD = normalize(pad(vectors_ND, (0, 0, 1, 0)), dim=1)
    return TGHRecommender(transition_counts(dataset), vectors_VD, config)


def load(folder: Path, config: TGHConfig, dataset: Dataset, context: FitContext) -> TGHRecommender:
    """The recommender that `save` wrote."""
    saved = load_tensors(folder / "tgh.safetensors")
    counts, indices, indptr = (saved[name].numpy() for name in ("counts", "indices", "indptr"))
    size = dataset.num_items + 1
    counts_VV = sparse.csr_array((counts.astype(np.float64), indices, indptr), shape=(size, size))
    return TGHRecommender(counts_VV, saved["vectors"], config)


def assumptions(config: TGHConfig) -> list[str]:
    """What stands in for what the paper uses."""
    return [f"TGH: text vectors from {config.text.encoder} instead of flan-t5-xl"] if config.cosine else []


def _method(number: int, **budgets: Any) -> Method:
    lite = TGHConfig(**budgets)
    paper = lite.replace(text=TextConfig(encoder=PAPER_ENCODER, dim=None))
    return Method(
        name=f"tgh-{number}",
        title=f"TGH-{number}",
        family="no training",
        place=29 + number,
        groups=("strong",),
        follows_contract=False,
        config=TGHConfig,
        fit=fit,
        load=load,
        needs=needs,
        presets={"paper": paper, "lite": lite},
        grid={"alpha": (0.0, 0.25, 0.5, 1.0), "pad": ("random", "semantic")},
        assumptions=assumptions,
        effort=lambda config: 0.0,
    )


TGH_1 = _method(1)
TGH_2 = _method(2, budgets=((5, 1), (3, 1)))
