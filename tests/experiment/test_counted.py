"""Estimates from counts. Oracles: operations that torch counts, and arithmetic by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.config import merged
from harness.data.dataset import Dataset, Sequences
from harness.errors import UsageError
from harness.experiment.counted import (
    CARDS,
    LAUNCH_SECONDS,
    SHARE_OF_PEAK,
    Card,
    card_named,
    card_of,
    counted_seconds,
)
from harness.experiment.estimate import estimated
from harness.experiment.place import Place
from harness.experiment.plan import Settings, make_plan
from harness.generative.counted import STEP_KERNELS, generator_counts, generator_operations, tokenizer_counts
from harness.generative.generator import Batch, token_loss
from harness.generative.tokenizer.fit import TokenizerConfig
from harness.generative.tokenizer.rqvae import RQVAE, tokenizer_loss
from harness.interfaces import FitContext
from harness.methods import methods
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.nn.kernels.switch import plain_kernels
from harness.nn.t5 import T5Config
from harness.sequence.sasrec import SASREC, SASRecConfig
from harness.sequence.training import Batches, batch_losses
from harness.testing import planted

CPU = torch.device("cpu")


def with_lengths(dataset: Dataset, lengths: list[int]) -> Dataset:
    return replace(dataset, train=Sequences.from_rows([[1 + i % 7 for i in range(n)] for n in lengths]))


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "caser", "bert4rec"])
def test_an_item_scoring_methods_operations_are_within_a_factor_of_two_of_torchs(name: str, tmp_path: Path) -> None:
    method, dataset = methods()[name], planted.planted_dataset()
    config = merged(method.presets["lite"], {**method.tiny, "epochs": 3})
    model = method.fit.__self__  # type: ignore[attr-defined]
    network = model.new(config, dataset, FitContext(0, tmp_path)).network.train()
    objective = model.objective(config, dataset)
    with plain_kernels(), FlopCounterMode(display=False) as counter:
        for pieces in Batches(objective, config.batch_size, CPU)(np.random.default_rng(0)):
            for losses in batch_losses(network, objective.loss, pieces):
                losses["total"].backward()
    counts = method.counts(config, dataset)
    assert counts is not None
    assert 1 / 2 < counts.operations / 3 / counter.get_total_flops() < 2


def test_kernels_of_sasrecs_step_are_about_those_of_the_stand_in() -> None:
    config = SASRecConfig()
    dataset = with_lengths(planted.planted_dataset(), [9] * 1024)  # 8 targets of each user: four steps
    counts = SASREC.counts(config, dataset)
    assert counts.kernels / (4 * config.epochs) == pytest.approx(131, rel=0.15)


def test_a_generators_operations_are_about_those_that_torch_counts() -> None:
    sizes = T5Config(dropout=0.0)
    dataset = with_lengths(planted.planted_dataset(), [4, 6, 2])
    histories = Sequences.from_rows([[1] * n for length in (4, 6, 2) for n in range(1, length)])
    torch.manual_seed(0)
    model = CodeSeq2Seq(sizes, (256,) * 4)
    codes_NL = torch.zeros(dataset.num_items, 4, dtype=torch.long)
    with plain_kernels(), FlopCounterMode(display=False) as counter:
        batch = Batch(histories, np.ones(len(histories), dtype=np.int64))
        output = model(histories, codes_NL, codes_NL[torch.from_numpy(batch.targets)])
        token_loss(output.logits_LBK, codes_NL[torch.from_numpy(batch.targets)]).backward()
    counts = generator_counts(sizes, dataset, epochs=2, batch_size=512)
    assert counts.operations / 2 == pytest.approx(counter.get_total_flops(), rel=0.2)
    assert counts.kernels == 2 * STEP_KERNELS["tiger"]  # a step an epoch


def test_histories_of_a_generator_are_cut_at_the_longest() -> None:
    dataset = replace(with_lengths(planted.planted_dataset(), [6]), max_history=2)  # 1, 2, 2, 2, 2 items
    alike = with_lengths(planted.planted_dataset(), [2, 3, 3, 3, 3])  # 1; 1, 2; 1, 2; ...
    one, two = (generator_operations(T5Config(), each) for each in (dataset, alike))
    alone = generator_operations(T5Config(), with_lengths(planted.planted_dataset(), [2]))
    assert one == pytest.approx(two - 4 * alone)


def test_kernels_of_generative_methods_are_those_of_their_steps() -> None:
    """1,024 users of 4 items: 3,072 samples of 8 tokens on average, so that a batch of any size runs at once."""
    dataset = with_lengths(planted.planted_dataset(), [4] * 1024)
    tiger, etegrec = (methods()[name].presets["paper"] for name in ("tiger", "etegrec"))
    tiger = merged(tiger, {"training": {"epochs": 5, "batch_size": 1024}})
    assert methods()["tiger"].counts(tiger, dataset).kernels == 5 * 3 * STEP_KERNELS["tiger"]
    config = merged(etegrec, {"epochs": 8, "cycle": 4, "evaluate_every": 4, "finetuning": {"epochs": 3}})
    expected = 6 * (2 * STEP_KERNELS["tokenizer"] + 6 * STEP_KERNELS["recommender"]) + 3 * 2 * STEP_KERNELS["tiger"]
    assert methods()["etegrec"].counts(config, dataset).kernels == expected  # chunks of 512, batches of 2,048
    joint = methods()["etegrec"].ablations["at"].change(config)
    assert methods()["etegrec"].counts(joint, dataset).kernels == 6 * 8 * STEP_KERNELS["joint"]


def test_long_histories_run_in_several_pieces() -> None:
    dataset = replace(with_lengths(planted.planted_dataset(), [129] * 16), max_history=200)  # 64.5 items on average
    counts = generator_counts(T5Config(), dataset, epochs=1, batch_size=1024)
    assert counts.kernels == 2 * 3 * STEP_KERNELS["tiger"]  # 264,192 tokens a batch, 131,072 at once


def test_a_tokenizers_operations_are_about_those_that_torch_counts() -> None:
    config, dataset = TokenizerConfig(epochs=1), planted.planted_dataset()
    rqvae, vectors_NZ = RQVAE(256, config.rqvae), torch.randn(dataset.num_items, 256)
    with plain_kernels(), FlopCounterMode(display=False) as counter:
        tokenizer_loss(rqvae(vectors_NZ), vectors_NZ, config.rqvae).backward()
    counts = tokenizer_counts(config, config.rqvae, dataset, step="pre-training")
    assert 1 / 2 < counts.operations / counter.get_total_flops() < 2
    assert counts.kernels == STEP_KERNELS["pre-training"]


def test_the_slower_of_card_and_host_counts() -> None:
    dataset = planted.planted_dataset()
    plan = make_plan(dataset, method_names=["sasrec"], ablation_names=[], seeds=[0], settings=Settings(preset="paper"))
    (stage,) = plan.stages
    counts = SASREC.counts(stage.config, dataset)
    assert counted_seconds(stage, dataset, CARDS["h100"]) == pytest.approx(counts.kernels * LAUNCH_SECONDS)
    slow = Card("slow", 1e9, 1e9)
    assert counted_seconds(stage, dataset, slow) == pytest.approx(counts.operations / (1e9 * SHARE_OF_PEAK["fp32"]))
    assert counted_seconds(replace(stage, kind="unknown", effort=math.inf), dataset, slow) is None


def test_a_card_is_known_by_its_drivers_name() -> None:
    assert card_of("NVIDIA H100 80GB HBM3") == CARDS["h100"]
    assert card_of("NVIDIA L40S") == CARDS["l40s"]
    assert card_of("NVIDIA GeForce RTX 4090") == CARDS["rtx4090"]
    assert card_of("") is card_of("NVIDIA K80") is None
    with pytest.raises(UsageError, match="did you mean 'a100'"):
        card_named("a10")


def test_an_estimate_on_a_card_takes_no_pace_from_a_cpu(tmp_path: Path) -> None:
    dataset = planted.planted_dataset()
    folder = planted.prepared(tmp_path / "data")
    plan = make_plan(dataset, method_names=["sasrec"], ablation_names=[], seeds=[0], settings=Settings(preset="paper"))
    place = Place(folder, tmp_path / "cache", tmp_path / "runs", jobs=2)
    assert estimated(plan, place).unknown_stages == 1
    found = estimated(plan, place, CARDS["h100"])
    assert found.card == "H100"
    assert found.known_seconds == found.wall_seconds > 0  # one card does one job at a time
