"""Rows of item-scoring methods: beside RecBole's same model, our SASRec, or a plain reference."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from baselines import bsarec, esasrec, hstu
from baselines.s3rec import S3RecConfig
from harness.bench.bsarec_reference import PlainBSARec, left_padded
from harness.bench.rates import Training, evaluation_rate
from harness.bench.recbole_models import MODELS, RecBoleModel, started_model
from harness.bench.rows import Contest, Report, Row, in_turns
from harness.bench.workload import LIST, Rate, Workload
from harness.config import merged
from harness.interfaces import Method
from harness.sequence.model import SequenceModel
from harness.sequence.sasrec import SASREC
from harness.sequence.training import SequenceTraining

STEPS_PER_ROUND = 3  # of ours for each one of a peer that is slower
RANKING_AIM = 3.0  # times as fast as RecBole
REFERENCE_AIM = 3.0  # times as fast as the plain reference
NO_RECBOLE = "RecBole is not installed"


def model_rows(workload: Workload, report: Report) -> Iterator[Row]:
    """The rows that the setup names; `report` is told what is measured next."""
    chosen = workload.setup.rows
    for one in MODELS:
        if one.method.name in chosen:
            yield from _beside_recbole(one, workload, report)
    for method, model in ((hstu.METHOD, hstu.HSTU_MODEL), (esasrec.METHOD, esasrec.ESASREC)):
        if method.name in chosen:
            report(f"{method.title} training")
            yield _beside_sasrec(method, model, workload)
    if bsarec.METHOD.name in chosen:
        report("BSARec training")
        yield _beside_reference(workload)


def _beside_recbole(one: RecBoleModel, workload: Workload, report: Report) -> Iterator[Row]:
    """Training, and full ranking with lists as long as an evaluation stores."""
    config, dataset, repeats = (
        one.config(tiny=workload.sizes.tiny_models),
        workload.with_features,
        workload.setup.repeats,
    )
    with started_model(one, config, workload) as recbole:

        def contest(task: str) -> Contest:
            rate = None if recbole is None else lambda step: recbole(task, {"k": np.array(LIST)})
            return Contest("RecBole", rate, NO_RECBOLE)

        report(one.title)
        ours, rivals = in_turns(_training(one, config, workload).rate, [contest("training")], repeats, STEPS_PER_ROUND)
        yield Row(one.title, "samples/s", ours, rivals, aim_ratio=one.aim)
        if one.pretrains:
            return
        what = f"{one.method.title} full ranking"
        report(what)
        rate = evaluation_rate(one.model.new(config, dataset, workload.context), workload, LIST)
        ours, rivals = in_turns(rate, [contest("ranking")], repeats, ours_per_round=1)
        yield Row(what, "users/s", ours, rivals, aim_ratio=RANKING_AIM)


def _training(one: RecBoleModel, config: SequenceTraining, workload: Workload) -> Training:
    if one.pretrains:
        assert isinstance(config, S3RecConfig)
        return Training.of_first_stage(config, workload.with_features, workload)
    return Training.of(one.model, config, workload.with_features, workload)


def _sized(method: Method, workload: Workload) -> SequenceTraining:
    """The method's config at the paper's sizes, or at those of its tests."""
    config = merged(method.presets["paper"], method.tiny if workload.sizes.tiny_models else {})
    assert isinstance(config, SequenceTraining)
    return config


def _beside_sasrec(method: Method, model: SequenceModel, workload: Workload) -> Row:
    """Training beside our SASRec of the same width; the aim is SASRec's rate by the ratio of their operations."""
    config = _sized(method, workload)
    width = int(config.model_dump()["hidden_size"])
    training = Training.of(model, config, workload.dataset, workload)
    other = Training.of(SASREC, workload.sizes.sasrec.replace(hidden_size=width), workload.dataset, workload)
    ratio = training.operations() / other.operations()
    name = f"SASRec of width {width}; {method.title} has {ratio:.3g} × its operations a sample"
    other.rate(0)  # warms up
    ours, rivals = in_turns(training.rate, [Contest(name, other.rate, "")], workload.setup.repeats, ours_per_round=1)
    implied = rivals[0].spread.median / ratio if rivals[0].spread else None
    return Row(f"{method.title} training", "samples/s", ours, rivals, aim=implied, aim_ratio=1 / ratio)


def _beside_reference(workload: Workload) -> Row:
    """BSARec beside the plain module on batches that are padded beforehand."""
    config = _sized(bsarec.METHOD, workload).replace(legacy_pad=True)
    assert isinstance(config, bsarec.BSARecConfig)
    training = Training.of(bsarec.BSAREC, config, workload.dataset, workload)
    rate = reference_rate(config, workload)
    rate(0)  # warms up
    contest = Contest("plain reference, padded batches", rate, "")
    ours, rivals = in_turns(training.rate, [contest], workload.setup.repeats, STEPS_PER_ROUND)
    return Row("BSARec training", "samples/s", ours, rivals, aim_ratio=REFERENCE_AIM)


def reference_rate(config: bsarec.BSARecConfig, workload: Workload) -> Rate:
    """Samples per second of the plain module's training."""
    weights = bsarec.BSAREC.new(config, workload.dataset, workload.context).network.state_dict()
    reference = PlainBSARec.like(weights, config).train()
    optimizer = torch.optim.Adam(reference.parameters(), lr=config.learning_rate, fused=True)

    def rate(step: int) -> float:
        batch = workload.prefix_samples(step, config.batch_size)
        items_BS = left_padded(batch.histories, workload.dataset.max_history)
        targets_B = torch.from_numpy(batch.targets)
        started = time.perf_counter()
        optimizer.zero_grad()
        reference.loss(items_BS, targets_B).backward()
        optimizer.step()
        return len(batch.targets) / (time.perf_counter() - started)

    return rate
