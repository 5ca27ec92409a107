"""What is measured: sizes, and random batches, users, codes and vectors on a real data set.

Random numbers say nothing about quality, and speed does not depend on them.

Shape legend: N items, L code levels, Z width of an item vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from etegrec.config import ETEGRecConfig
from etegrec.model import ETEGRec
from etegrec.training import ETEGRecTraining
from harness.data.dataset import Dataset, Sequences
from harness.data.prepare import load_dataset
from harness.data.samples import PrefixSamples
from harness.generative.generator import Batch, new_generator
from harness.generative.tokenizer.codes import CodeTable, deduplicate
from harness.generative.tokenizer.fit import TokenizerConfig, kmeans, start_codebooks
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig
from harness.interfaces import FitContext
from harness.nn.t5 import T5Config
from harness.provenance import peak_gpu_memory, peak_memory_mb
from harness.seeding import numpy_stream, torch_stream
from harness.sequence.sasrec import SASRecConfig, vectors_config
from harness.training.learner import Learner
from harness.training.loop import Losses, autocast, each_within

SEED = 0
K = 10  # length of the ranked lists
LIST = 50  # of those of item-scoring models, as an evaluation stores them
# Drawn features of items, and RecBole's types of them: one to three of 64 kinds, one of 256 makers.
FEATURES = {"kind": "token_seq", "maker": "token"}
CORE = "core"  # the rows of ETEGRec, its parts and SASRec
# What can be measured: those, and methods beside peers of their own.
ALL_ROWS = (CORE, "gru4rec", "fdsa", "bert4rec", "s3-rec", "caser", "hgn", "hstu", "esasrec", "bsarec")

Rate = Callable[[int], float]  # number of a step or round → samples, targets or users per second in it


@dataclass(frozen=True)
class Sizes:
    """What is run; the defaults are the paper's sizes."""

    t5: T5Config = field(default_factory=T5Config)
    rqvae: RQVAEConfig = field(default_factory=RQVAEConfig)
    item_width: int = 256
    # Padding is a class, as RecBole has it, so that both compute the same loss.
    sasrec: SASRecConfig = field(default_factory=lambda: SASRecConfig(hidden_size=64, legacy_pad=True))
    batch_size: int = 512
    tokenizer_batch: int = 1024
    users: int = 1000  # served by ours in a round
    peer_users: int = 32  # served by `generate` in a round, in random batches;
    peer_sorted_users: int = 256  # and in batches of like length
    tiny_models: bool = False  # whether the models beside RecBole's have the sizes of their tests


QUICK = Sizes(
    t5=T5Config(d_model=16, d_ff=32, num_heads=2, d_head=8, encoder_layers=1, decoder_layers=1),
    rqvae=RQVAEConfig(hidden_sizes=(16,), code_dim=8, codebook_size=64),
    item_width=16,
    sasrec=SASRecConfig(hidden_size=16, inner_size=16, batch_size=64, legacy_pad=True),
    batch_size=32,
    tokenizer_batch=32,
    users=16,
    peer_users=4,
    peer_sorted_users=8,
    tiny_models=True,
)


@dataclass(frozen=True)
class Setup:
    """One benchmark."""

    folder: Path  # of the prepared data set
    threads: int
    sizes: Sizes = field(default_factory=Sizes)
    peer_batch: int | None = None  # samples of a peer's piece, whose gradients add up to the batch's; none: all at once
    all_users: bool = False
    with_peer: bool = True
    recbole_python: str | None = None  # the Python that has RecBole; none: RecBole is left out
    repeats: int = 5  # rounds in which ours and the peers take turns
    device: str = "cpu"  # of ours and of transformers' T5
    precision: Literal["fp32", "bf16"] = "fp32"
    rows: tuple[str, ...] = ALL_ROWS

    @property
    def has_aims(self) -> bool:
        """Whether the numbers are comparable with the aims, which are for the paper's sizes on a CPU."""
        return self.sizes == Sizes() and self.device == "cpu"


class Workload:
    """The data of all measurements. Whoever makes it from the same setup gets the same: the peer too."""

    def __init__(self, setup: Setup):
        self.setup, self.sizes = setup, setup.sizes
        self.dataset: Dataset = load_dataset(setup.folder)
        self.samples = PrefixSamples.of(self.dataset)
        # Nothing is trained to its end, so nothing is written.
        self.context = FitContext(SEED, setup.folder, device=torch.device(setup.device), precision=setup.precision)
        self.codes = self._random_codes()

    def _random_codes(self) -> CodeTable:
        size, levels = self.sizes.rqvae.codebook_size, self.sizes.rqvae.num_levels
        stream = torch_stream(SEED, "bench", "codes")
        codes_NL = torch.randint(size, (self.dataset.num_items, levels), generator=stream)
        return CodeTable.of(deduplicate(codes_NL, size), (size,) * (levels + 1))

    @cached_property
    def vectors_NZ(self) -> Tensor:
        """Random item vectors."""
        return torch.randn(
            self.dataset.num_items, self.sizes.item_width, generator=torch_stream(SEED, "bench", "vectors")
        )

    @cached_property
    def with_features(self) -> Dataset:
        """The data set with drawn item features in the place of its own."""
        stream, count = numpy_stream(SEED, "bench", "features"), self.dataset.num_items
        kinds = [
            tuple(f"k{kind}" for kind in dict.fromkeys(row)) for row in stream.integers(64, size=(count, 3)).tolist()
        ]
        makers = [(f"m{maker}",) for maker in stream.integers(256, size=count).tolist()]
        features = dict(zip(FEATURES, (tuple(kinds), tuple(makers)), strict=True))
        return replace(self.dataset, catalog=replace(self.dataset.catalog, features=features))

    def batch(self, step: int) -> Batch:
        """The random training batch of a step."""
        return self.prefix_samples(step, self.sizes.batch_size)

    def prefix_samples(self, step: int, size: int) -> Batch:
        """Random prefix samples of a step."""
        stream = numpy_stream(SEED, "bench", "batch", step)
        return Batch(*self.samples.batch(stream.choice(len(self.samples), size, replace=len(self.samples) < size)))

    def users(self, part: int) -> Sequences:
        """The histories of a round's random users; no user is in two rounds."""
        rounds, total = self.setup.repeats, len(self.dataset.validation)
        count = -(-total // rounds) if self.setup.all_users else min(self.sizes.users, total // rounds)
        order = numpy_stream(SEED, "bench", "users").permutation(total)
        return self.dataset.validation.histories.take(order[part * count : (part + 1) * count])

    def tokenizer(self) -> RQVAE:
        """An RQ-VAE with the start of a real one: k-means over the encoded items, cut short."""
        rqvae = RQVAE(self.sizes.item_width, self.sizes.rqvae, generator=torch_stream(SEED, "bench", "tokenizer"))
        start_codebooks(rqvae, self.vectors_NZ, kmeans(self.sizes.rqvae.codebook_size, SEED, iterations=5))
        return rqvae

    def etegrec(self) -> ETEGRecTraining:
        """ETEGRec's training with its real losses and optimisers, on the random codes."""
        config = ETEGRecConfig(
            vectors=vectors_config(self.sizes.item_width),
            tokenizer=TokenizerConfig(rqvae=self.sizes.rqvae),
            generator=self.sizes.t5,
            batch_size=self.sizes.batch_size,
            chunk_size=self.sizes.batch_size,
        )
        model = ETEGRec(config, self.vectors_NZ, self.tokenizer())
        model.generator.load_state_dict(new_generator(self.sizes.t5, self.codes, self.context).state_dict())
        model.codes_NL.copy_(self.codes.codes)
        return ETEGRecTraining(model.to(self.context.device), self.dataset, self.context)

    def step(self, learner: Learner, losses: Iterable[Losses]) -> None:
        """Forward passes in the setup's precision, backward through the pieces, clip, update."""
        training_step(learner, each_within(autocast(self.context), losses))


def timed(work: Callable[[], object], count: int) -> float:
    """`count` per second of work, a GPU's included."""
    wait_for_device()
    started = time.perf_counter()
    work()
    wait_for_device()
    return count / (time.perf_counter() - started)


def wait_for_device() -> None:
    """Returns when what was asked of a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory(setup: Setup) -> float:
    """The most memory that this process has held so far, MiB: of the GPU where it computes there."""
    return peak_gpu_memory(setup.device).get("peak_gpu_memory_mb", peak_memory_mb())


def training_step(learner: Learner, losses: Iterable[Losses]) -> None:
    """Backward through the pieces, clip, update."""
    for piece in losses:
        piece["total"].backward()
    learner.step()
