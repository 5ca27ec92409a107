"""The speed of each part of the harness, as a function of the step, which names its random batch.

Shape legend: B rows, Z width of an item vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.s3rec import S3RecConfig, first_stage
from baselines.s3rec_pretraining import pretraining_losses
from etegrec.training import ETEGRecTraining
from harness.bench.workload import SEED, K, Rate, Workload, timed, wait_for_device
from harness.data.dataset import Dataset
from harness.generative.generator import CodeRecommender, adamw
from harness.generative.tokenizer.fit import TokenizerConfig
from harness.generative.tokenizer.rqvae import tokenizer_loss
from harness.nn.kernels.products import HAS_ONEDNN
from harness.seeding import numpy_stream
from harness.sequence.model import SequenceModel, SequenceRecommender, learner_of
from harness.sequence.sasrec import SASREC
from harness.sequence.training import Batches, SequenceTraining, batch_losses
from harness.training.learner import Learner
from harness.training.loop import Losses


def etegrec_rate(training: ETEGRecTraining, phase: Literal["recommender", "tokenizer"], workload: Workload) -> Rate:
    """Samples per second of a phase's epochs with both alignments (METHODS C.3)."""
    training.thaw(phase)
    learner = training.recommender_learner() if phase == "recommender" else training.tokenizer_learner()

    def rate(step: int) -> float:
        batch = workload.batch(step)
        losses = training.losses(phase, batch, aligned=True)
        return timed(lambda: workload.step(learner, losses), len(batch.targets))

    return rate


def evaluation_rate(recommender: CodeRecommender | SequenceRecommender, workload: Workload, places: int = K) -> Rate:
    """Users per second of ranked lists, by beam 20 over the trie or by the scores of all items."""
    k = min(places, workload.dataset.num_items)

    def rate(part: int) -> float:
        histories = workload.users(part)
        return timed(lambda: recommender.recommend(histories, k), len(histories))

    return rate


def pretraining_rate(workload: Workload) -> Rate:
    """Samples per second of the RQ-VAE's own training (METHODS B.2)."""
    rqvae = workload.tokenizer().to(workload.context.device)
    config, vectors_NZ = TokenizerConfig(rqvae=workload.sizes.rqvae), workload.vectors_NZ.to(workload.context.device)
    learner = Learner(adamw(rqvae.parameters(), config.learning_rate, config.weight_decay), max_norm=config.max_norm)

    def losses(vectors_BZ: Tensor) -> Iterator[Losses]:
        yield {"total": tokenizer_loss(rqvae(vectors_BZ), vectors_BZ, rqvae.config)}

    def rate(step: int) -> float:
        rows = numpy_stream(SEED, "bench", "items", step).integers(
            workload.dataset.num_items, size=workload.sizes.tokenizer_batch
        )
        rows_B = torch.from_numpy(rows).to(workload.context.device)
        step_losses = losses(vectors_NZ.index_select(0, rows_B))
        return timed(lambda: workload.step(learner, step_losses), len(rows))

    return rate


def sasrec_rate(recommender: SequenceRecommender, workload: Workload) -> Rate:
    """Samples (targets) per second of SASRec's training (METHODS B.1), whose batches are made beforehand."""
    network, config = recommender.network.train(), workload.sizes.sasrec
    learner, objective = learner_of(network, config), SASREC.objective(config, workload.dataset)
    make = Batches(objective, config.batch_size, workload.context.device)
    batches = cycle(make(numpy_stream(SEED, "bench", "sasrec")))

    def rate(step: int) -> float:
        pieces = next(batches)
        targets = sum(len(piece.targets_M) for piece in pieces)
        return timed(lambda: workload.step(learner, batch_losses(network, objective.loss, pieces)), targets)

    return rate


@dataclass(frozen=True)
class Training:
    """An item-scoring method's training, step by step; the making of batches is a part of a step."""

    step: Callable[[], int]  # → targets of the step: next items, or masked ones
    model: nn.Module

    @classmethod
    def of(cls, model: SequenceModel, config: SequenceTraining, dataset: Dataset, workload: Workload) -> Training:
        """Of next items, or of masked ones where the method learns from them."""
        network = model.new(config, dataset, workload.context).network.train()
        learner, objective = learner_of(network, config), model.objective(config, dataset)
        batches = endless(Batches(objective, config.batch_size, workload.context.device), model.name)

        def step() -> int:
            pieces = next(batches)
            workload.step(learner, batch_losses(network, objective.loss, pieces))
            return sum(len(piece.targets_M) for piece in pieces)

        return cls(step, network)

    @classmethod
    def of_first_stage(cls, config: S3RecConfig, dataset: Dataset, workload: Workload) -> Training:
        """Of S3-Rec's first stage; its targets are masked items."""
        heads, batches_of = first_stage(config, dataset, workload.context)
        learner = Learner(torch.optim.Adam(heads.parameters(), lr=config.pretraining.learning_rate, fused=True))
        batches = endless(batches_of, "s3-rec-pretraining")

        def step() -> int:
            pieces = next(batches)
            workload.step(learner, (pretraining_losses(heads, piece, config.pretraining) for piece in pieces))
            return sum(len(piece.negatives_M) for piece in pieces)

        return cls(step, heads)

    def rate(self, step: int) -> float:
        """Targets per second of one step."""
        wait_for_device()
        started = time.perf_counter()
        targets = self.step()
        wait_for_device()
        return targets / (time.perf_counter() - started)

    def operations(self) -> float:
        """Of the matrix products of one step, for each target: multiplications and additions, backward included."""
        uncounted: dict[Any, Any] = {torch.ops.aten.addmm_: _product_operations}
        if HAS_ONEDNN:
            uncounted[torch.ops.mkldnn._linear_pointwise] = _linear_operations
        with FlopCounterMode(display=False, custom_mapping=uncounted) as counter:
            targets = self.step()
        return counter.get_total_flops() / targets


def _product_operations(added: Any, left: Any, right: Any, *, out_shape: Any, **others: Any) -> int:
    """Of `added + left @ right`, from their shapes."""
    return 2 * int(left[0]) * int(left[1]) * int(right[1])


def _linear_operations(x: Any, weight: Any, *others: Any, out_shape: Any, **named: Any) -> int:
    """Of `x @ weight.T`, from their shapes."""
    return 2 * int(x[0]) * int(x[1]) * int(weight[0])


def endless(batches: Callable[[np.random.Generator], Iterator[Any]], name: str) -> Iterator[Any]:
    """The batches of epoch after epoch."""
    for epoch in count():
        yield from batches(numpy_stream(SEED, "bench", name, epoch))
