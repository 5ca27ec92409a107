"""The speed of each part of the harness, as a function of the step, which names its random batch.

Shape legend: B rows, Z width of an item vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Literal

import torch
from torch import Tensor

from etegrec.training import ETEGRecTraining
from harness.bench.workload import SEED, K, Rate, Workload, timed
from harness.generative.generator import CodeRecommender, adamw
from harness.generative.tokenizer.fit import TokenizerConfig
from harness.generative.tokenizer.rqvae import tokenizer_loss
from harness.seeding import numpy_stream
from harness.sequence.model import SequenceRecommender, learner_of
from harness.sequence.sasrec import SASREC
from harness.sequence.training import Batches, batch_losses
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


def evaluation_rate(recommender: CodeRecommender | SequenceRecommender, workload: Workload) -> Rate:
    """Users per second of ranked lists, by beam 20 over the trie or by the scores of all items."""
    k = min(K, workload.dataset.num_items)

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
    """Samples (targets) per second of SASRec's training (METHODS B.1)."""
    network, config = recommender.network.train(), workload.sizes.sasrec
    learner, objective = learner_of(network, config), SASREC.objective(config, workload.dataset)
    make = Batches(objective, config.batch_size, workload.context.device)
    batches = cycle(make(numpy_stream(SEED, "bench", "sasrec")))

    def rate(step: int) -> float:
        pieces = next(batches)
        targets = sum(len(piece.targets_M) for piece in pieces)
        return timed(lambda: workload.step(learner, batch_losses(network, objective.loss, pieces)), targets)

    return rate
