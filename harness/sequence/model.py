"""An item-scoring method from its network and its objective: fit, scores, files, and its item table as vectors.

Shape legend: B users, N items, D width, k places of a ranked list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from harness.config import digest
from harness.data.dataset import Catalog, Dataset, Sequences
from harness.data.text.vectors import save_vectors
from harness.distributed import ALONE, Group
from harness.errors import StageError
from harness.evaluation.outcomes import SELECTION_K
from harness.evaluation.ranking import Scores, all_ranks, ranked
from harness.interfaces import Artifacts, Counts, FitContext, Method, Recommendations
from harness.nn.encoder import Encoder, pack
from harness.nn.kernels.products import scores_of_all
from harness.seeding import derive_seed
from harness.sequence.training import (
    GRID,
    Batches,
    Objective,
    SequenceTraining,
    batch_losses,
    effort,
    softmax_objective,
)
from harness.stages import read_json, write_json
from harness.training.checkpoints import load_tensors, save_tensors
from harness.training.learner import Learner
from harness.training.loop import Phase, TrainingPlan, train
from results.statistics.metrics.ndcg import ndcg

OPERATIONS = 6  # of a multiplication with a weight: with the addition, and twice as many in the backward pass
KERNELS_PER_WEIGHT = 4  # of a step, about: SASRec has 131 with 36 weights (docs/gpu.md)


class ServingSizes(NamedTuple):
    """How many users are served at once."""

    encoded: int  # users encoded at a time
    scores: int  # scores in memory at a time,
    least_scored: int = 32  # but of so many users at least: each chunk of users reads the whole item table


CPU_SIZES = ServingSizes(encoded=2_048, scores=2**22)
DEVICE_SIZES = ServingSizes(encoded=2**14, scores=2**27)  # 512 MiB: few large steps, each of few waits


@dataclass(frozen=True)
class SequenceRecommender:
    """A fitted network. Each process of a group serves its own users, in the same chunks as one process would make."""

    name: str  # of its files
    network: Encoder
    catalog: Catalog
    group: Group = ALONE
    sizes: ServingSizes | None = None  # none: what the device likes best

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Scores:
        """Scores of all items for each history's next item, a chunk of users at a time (users by history length)."""
        self.network.eval()
        histories = self.network.read_rows(histories)
        table_ND = self.network.item_vectors_ND
        sizes = self.sizes or (CPU_SIZES if table_ND.device.type == "cpu" else DEVICE_SIZES)
        size = max(sizes.least_scored, sizes.scores // len(table_ND))
        by_length = np.argsort(histories.lengths, kind="stable")
        buffer_BN = table_ND.new_empty(min(size, len(by_length)), len(table_ND))
        for start in range(0, len(by_length), sizes.encoded)[self.group.own]:
            users = by_length[start : start + sizes.encoded]
            packed = pack(histories.take(users), table_ND.device)
            states_BD = self.network(packed, packed.ends_B)
            for first in range(0, len(users), size):
                chunk_BD = states_BD[first : first + size]
                scores_BN = scores_of_all(chunk_BD, table_ND, buffer_BN[: len(chunk_BD)])
                yield users[first : first + size], scores_BN

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The k items with the highest scores; equal scores by item id."""
        return ranked(self.scores, histories, k, self.group)

    def save(self, folder: Path) -> None:
        """Writes the weights, and what the table's rows stand for."""
        save_tensors(folder / f"{self.name}.safetensors", self.network.state_dict())
        write_json(folder / f"{self.name}.json", catalog_mark(self.catalog))

    def health(self) -> dict[str, Any]:
        """Number of parameters, and mean norm of the item rows."""
        return {
            "num_parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "item_norm": float(self.network.item_vectors_ND.detach().norm(dim=1).mean()),
        }


def catalog_mark(catalog: Catalog) -> dict[str, Any]:
    """What tells one item numbering from another: the number of items and a digest of their keys in order."""
    return {"num_items": len(catalog), "keys": digest(list(catalog.keys))}


def drawn_weights(network: Encoder, artifacts: Artifacts) -> None:
    """Leaves the weights as they were drawn; a function with a name, since models travel to worker processes."""


@dataclass(frozen=True)
class SequenceModel:
    """What tells one item-scoring method from another. `fit` and `load` are those of its `Method`."""

    name: str  # of its stage, its files and its random streams
    network: Callable[[Any, Dataset], Encoder]  # from its config; initial weights from torch's default generator
    objective: Callable[[Any, Dataset], Objective] = softmax_objective
    start: Callable[[Encoder, Artifacts], None] = drawn_weights  # weights that come from artifacts

    def new(self, config: SequenceTraining, dataset: Dataset, context: FitContext) -> SequenceRecommender:
        """The method before its training, with initial weights from the run's stream `<name>/init`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(context.seed, self.name, "init"))
            network = self.network(config, dataset)
        return SequenceRecommender(self.name, network.to(context.device), dataset.catalog, context.group)

    def load(
        self, folder: Path, config: SequenceTraining, dataset: Dataset, context: FitContext
    ) -> SequenceRecommender:
        """The recommender that was saved; `StageError` when it was fitted on other items than the data set's."""
        path = folder / f"{self.name}.json"
        saved, expected = read_json(path), catalog_mark(dataset.catalog)
        if saved != expected:
            raise StageError(
                f"{path}: the saved items must be those of data set '{dataset.name}', but {saved} is not {expected}; "
                "fit the method again on this data set"
            )
        recommender = self.new(config, dataset, context)
        recommender.network.load_state_dict(load_tensors(folder / f"{self.name}.safetensors"))
        return recommender

    def fit(
        self, config: SequenceTraining, dataset: Dataset, artifacts: Artifacts, context: FitContext
    ) -> SequenceRecommender:
        """A trained recommender, selected by validation NDCG@10 (the last epoch's where `patience` is none)."""
        recommender = self.new(config, dataset, context)
        network, objective = recommender.network, self.objective(config, dataset)
        self.start(network, artifacts)

        def score() -> float:
            return float(ndcg(all_ranks(recommender.scores, dataset.validation, context.group), SELECTION_K).mean())

        phase = Phase("train", (self.name,), partial(batch_losses, network, objective.loss), network.train)
        selects = config.patience is not None
        train(
            TrainingPlan(
                name=self.name,
                model=network,
                learners={self.name: learner_of(network, config)},
                phase_of=lambda epoch: phase,
                batches=Batches(objective, config.batch_size, context.device, context.group),
                epochs=config.epochs,
                score=score if selects else None,
                score_every=config.evaluate_every,
                # `train` stops at this many scores without improvement, the config's rule after more than them.
                patience=config.patience + 1 if config.patience is not None else None,
                ties_improve=config.ties_improve,
                present=lambda: recommender,
            ),
            context,
        )
        network.eval()
        return recommender

    def counts(self, config: SequenceTraining, dataset: Dataset) -> Counts:
        """What all epochs ask of a device: products of the network at each item, and of targets with classes."""
        rows = self.objective(config, dataset).rows
        with torch.random.fork_rng(devices=[]):
            network = self.network(config, dataset)
        tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
        weights = [weight for weight in network.parameters() if id(weight) not in tables]
        classes = dataset.num_items if config.softmax in ("full", "chunked") else config.num_negatives
        of_targets = int(rows.targets.sum()) * classes * network.item_table.embedding_dim
        of_items = int(rows.lengths.sum()) * sum(weight.numel() for weight in weights)
        steps = math.ceil(int(rows.weights.sum()) / config.batch_size)
        kernels = KERNELS_PER_WEIGHT * len(list(network.parameters())) * steps
        return Counts(config.epochs * kernels, config.epochs * OPERATIONS * (of_items + of_targets))

    def method(
        self, title: str, config: type[SequenceTraining], lite: SequenceTraining | None = None, **facts: Any
    ) -> Method:
        """The model as a method; `facts` are fields of `Method`, those that are given here already included.

        With a `lite` config the presets are that and, for `paper`, the defaults.
        """
        # The beams of a contract change nothing here, and processes share the batches and the users.
        shared: dict[str, Any] = {"is_distributed": True, "follows_contract": False, "grid": GRID, "effort": effort}
        shared |= {"counts": self.counts, "presets": {"paper": config(), "lite": lite} if lite else {}}
        return Method(self.name, title, config, self.fit, self.load, **{**shared, **facts})


def learner_of(network: Encoder, config: SequenceTraining) -> Learner:
    """Adam with the config's settings."""
    betas = (0.9, config.beta2)
    return Learner(
        torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True
        )
    )


def build_item_vectors(
    config: SequenceTraining, dataset: Dataset, inputs: Artifacts, context: FitContext, *, model: SequenceModel
) -> None:
    """Writes the item table of the fitted input `model`, (N, D) float32, with the item keys (METHODS B.1).

    Row i - 1 is item i's, not normalised. Items without training interactions have rows too: what the loss made of
    them.
    """
    network = model.load(inputs["model"], config, dataset, context).network
    save_vectors(context.folder, dataset.catalog.keys, network.item_vectors_ND.detach().cpu().numpy())
