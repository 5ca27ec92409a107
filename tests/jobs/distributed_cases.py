"""What two processes do together in the tests of `harness.distributed`, and one process alone: the same functions."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from baselines.bert4rec import BERT4REC
from baselines.bsarec import BSAREC
from baselines.caser import CASER
from baselines.diger import DIGER, DIGERTraining
from baselines.esasrec import ESASREC
from baselines.gru4rec import GRU4REC, GRU4RecConfig
from baselines.gsasrec import GSASREC
from baselines.hstu import HSTU_MODEL
from baselines.sasrec import original_form
from etegrec.config import ETEGRecConfig
from etegrec.method import LITE
from etegrec.model import ETEGRec
from etegrec.training import ETEGRecTraining
from harness.config import merged
from harness.data.dataset import Dataset, Sequences
from harness.distributed import ALONE, Group
from harness.evaluation.outcomes import evaluate
from harness.generative.generator import LITE_T5, TINY_T5, CodeRecommender, GeneratorTraining, fit_generator
from harness.generative.tokenizer.codes import CodeTable
from harness.generative.tokenizer.fit import kmeans, start_codebooks
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig
from harness.interfaces import FitContext
from harness.jobs.torchrun import World
from harness.methods import methods
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.sequence.model import CPU_SIZES, SequenceModel
from harness.sequence.sasrec import SASREC, SASRecConfig
from harness.testing import planted
from harness.training.learner import Learner
from harness.training.loop import TrainingPlan, train

NUM_PROCESSES = 2
TINY_SASREC = merged(SASRecConfig(), {**methods()["sasrec"].tiny, "dropout": 0.0, "epochs": 1, "batch_size": 100})
TINY_GRU4REC = merged(GRU4RecConfig(), {**methods()["gru4rec"].tiny, "dropout": 0.0, "epochs": 1, "batch_size": 100})
# 300 samples make three batches and one of 3 samples; a full batch has chunks of 40, 40 and 19.
ETEGREC = merged(LITE, methods()["etegrec"].tiny).replace(
    cycle=2, alignment_warmup_epochs=0, batch_size=99, chunk_size=40, mu=0.5, lambda_=0.5
)

Steps = list[list[Tensor | None]]  # the gradients that each update of a learner saw


def recorded_gradients(run: Callable[[], object]) -> Steps:
    """The gradients of all steps of a training whose weights never move."""
    steps: Steps = []

    def step(learner: Learner) -> None:
        steps.append([None if p.grad is None else p.grad.clone() for p in learner.parameters()])
        learner.optimizer.zero_grad(set_to_none=True)
        learner.steps += 1

    with mock.patch.object(Learner, "step", step):
        run()
    return steps


def generator_recommender(dataset: Dataset, context: FitContext, dropout: float = 0.0) -> CodeRecommender:
    """Drawn weights, and codes in the order of the items."""
    torch.manual_seed(0)
    codes = CodeTable.of(torch.tensor([[i // 4, i % 4] for i in range(dataset.num_items)]), (4, 4))
    model = CodeSeq2Seq(merged(LITE_T5, {**TINY_T5, "dropout": dropout}), codes.sizes)
    return CodeRecommender(model, codes, context, item_keys=dataset.catalog.keys)


def drawn_tokenizer(width: int, config: RQVAEConfig) -> tuple[Tensor, RQVAE]:
    """Random item vectors and a tokenizer with codes for them, the same at each call."""
    stream = torch.Generator().manual_seed(0)
    vectors_ND = torch.randn(planted.NUM_ITEMS, width, generator=stream)
    tokenizer = RQVAE(width, config, generator=stream)
    start_codebooks(tokenizer, vectors_ND, kmeans(config.codebook_size, seed=0))
    return vectors_ND, tokenizer


def etegrec_training(config: ETEGRecConfig, context: FitContext) -> ETEGRecTraining:
    """A training with the same weights and codes at each call."""
    vectors_ND, tokenizer = drawn_tokenizer(config.vectors.hidden_size, config.tokenizer.rqvae)
    torch.manual_seed(0)
    return ETEGRecTraining(ETEGRec(config, vectors_ND, tokenizer), planted.planted_dataset(), context)


def diger_epoch(context: FitContext, decay: str) -> None:
    """300 samples: two batches of 149, and one of 2; a code is hot soon."""
    method = methods()["diger"]
    training = {**method.tiny["training"], "epochs": 1, "batch_size": 149}
    noise = {"decay": decay, "momentum": 0.5}
    config = merged(method.presets["lite"], {**method.tiny, "training": training, "exploration": noise})
    model = DIGER(config, *drawn_tokenizer(8, config.tokenizer.rqvae), context)
    plan = DIGERTraining(model, planted.planted_dataset(), context).plan()
    train(replace(plan, score=None), context)


def generator_fit(context: FitContext) -> None:
    """300 samples: two batches of 149, and one of 2."""
    dataset = planted.planted_dataset()
    config = GeneratorTraining(batch_size=149, epochs=1, warmup_epochs=0)
    fit_generator(generator_recommender(dataset, context), config, dataset, context)


def sasrec_fit(context: FitContext, style: str) -> None:
    """One epoch in one of SASRec's two forms."""
    config = TINY_SASREC if style == "recbole" else original_form(TINY_SASREC).replace(batch_size=59)
    SASREC.fit(config, planted.planted_dataset(), {}, context)


def tiny_fit(model: SequenceModel, size: int, context: FitContext) -> None:
    """One epoch without dropout, in batches of this size."""
    method = methods()[model.name]
    rates = {name: 0.0 for name in method.config.model_fields if name.endswith("dropout") and name != "table_dropout"}
    changes = {**method.tiny, **rates, "epochs": 1, "batch_size": size}
    config = merged(method.presets["lite"], changes)
    model.fit(config, planted.planted_dataset(), {}, context)


def etegrec_epoch(context: FitContext, epoch: int, **changes: Any) -> None:
    """One epoch of the alternating stage (0: tokenizer, 1: recommender) or of the joint one."""
    training = etegrec_training(ETEGREC.replace(**changes), context)
    plan = training.first_stage()
    phase = training.phase_of(epoch)
    train(replace(plan, phase_of=lambda _: phase, epochs=1, score=None), context)


GRADIENT_CASES: dict[str, Callable[[FitContext], None]] = {
    "generator": generator_fit,
    "sasrec-recbole": lambda context: sasrec_fit(context, "recbole"),
    "gru4rec": lambda context: GRU4REC.fit(TINY_GRU4REC, planted.planted_dataset(), {}, context),
    "bert4rec": lambda context: tiny_fit(BERT4REC, 40, context),
    "caser": lambda context: tiny_fit(CASER, 100, context),
    "hstu": lambda context: tiny_fit(HSTU_MODEL, 40, context),
    "bsarec": lambda context: tiny_fit(BSAREC, 100, context),
    "esasrec": lambda context: tiny_fit(ESASREC, 40, context),
    "gsasrec": lambda context: tiny_fit(GSASREC, 40, context),
    "diger-frqud": lambda context: diger_epoch(context, "frqud"),
    "diger-sdud": lambda context: diger_epoch(context, "sdud"),
    "sasrec-original": lambda context: sasrec_fit(context, "original"),
    "etegrec-tokenizer": lambda context: etegrec_epoch(context, 0),
    "etegrec-recommender": lambda context: etegrec_epoch(context, 1),
    "etegrec-generation": lambda context: etegrec_epoch(context, 1, alignment_warmup_epochs=9),
    "etegrec-joint": lambda context: etegrec_epoch(context, 0, alternating=False),
}


def gradients(group: Group, folder: Path) -> dict[str, Steps]:
    """All cases' gradients."""
    return {
        name: recorded_gradients(lambda case=case, name=name: case(FitContext(0, folder / name, group=group)))
        for name, case in GRADIENT_CASES.items()
    }


def evaluations(group: Group, folder: Path) -> dict[str, list[np.ndarray]]:
    """Ranks, lists, and scores of recommenders with drawn weights; both processes have users to serve."""
    dataset = planted.planted_dataset()
    context = FitContext(0, folder, group=group)
    cases = planted.held_out(dataset)
    recommenders = {
        "generator": generator_recommender(dataset, context),
        "sasrec": replace(SASREC.new(TINY_SASREC, dataset, context), sizes=CPU_SIZES._replace(encoded=16)),
    }
    found = {name: [*evaluate(one, cases, 5)] for name, one in recommenders.items()}
    for name, one in recommenders.items():
        found[name].append(one.recommend(cases.histories, 5).scores)
    nobody = Sequences.from_rows([[1]])
    found["one user"] = [one.recommend(nobody, 3).items for one in recommenders.values()]
    return found


@dataclass
class Watched:
    """What a process saw of a training after each epoch."""

    states: list[dict[str, Tensor]]
    seeds: list[int]
    history: list[dict[str, Any]]


def watched_training(group: Group, folder: Path, stop_after: int = 0) -> Watched:
    """A first stage of ETEGRec with dropout and scores; cut off by an exception after some epochs if asked."""
    seen = Watched([], [], [])

    def report(_: object) -> None:
        seen.states.append({name: tensor.clone() for name, tensor in training.model.state_dict().items()})
        seen.seeds.append(torch.initial_seed())
        if len(seen.states) == stop_after:
            raise KeyboardInterrupt

    context = FitContext(0, folder, report=report, group=group)
    t5 = ETEGREC.generator.replace(dropout=0.1)
    training = etegrec_training(ETEGREC.replace(generator=t5, epochs=4, evaluate_every=2), context)
    plan: TrainingPlan = training.first_stage()
    try:
        seen.history = [without_seconds(row) for row in train(plan, context)]
    except KeyboardInterrupt:
        group.barrier()
    seen.states.append({name: tensor.clone() for name, tensor in training.model.state_dict().items()})
    return seen


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a history but for its times."""
    return {name: value for name, value in row.items() if not name.endswith("_seconds")}


def everything(group: Group, folder: Path) -> dict[str, Any]:
    """All that the tests compare."""
    return {
        "gradients": gradients(group, folder / "gradients"),
        "evaluations": evaluations(group, folder),
        "whole": watched_training(group, folder / "whole"),
        "cut": watched_training(group, folder / "cut", stop_after=3),
        "continued": watched_training(group, folder / "cut"),
    }


def together(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.methods"])
    worlds = [World(rank, NUM_PROCESSES, rank, "127.0.0.1", store.port) for rank in range(NUM_PROCESSES)]
    processes = [context.Process(target=_work, args=(world, folder)) for world in worlds]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(NUM_PROCESSES)]


def alone(folder: Path) -> dict[str, Any]:
    """What one process finds."""
    return everything(ALONE, folder)


def _work(world: World, folder: Path) -> None:
    torch.set_num_threads(1)
    with world.joined("test", torch.device("cpu")) as group:
        torch.save(everything(group, folder / "together"), folder / f"{world.rank}.pt")
