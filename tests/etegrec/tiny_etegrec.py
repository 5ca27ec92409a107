"""An ETEGRec so small that an epoch takes a moment: 40 users, 20 items, a tokenizer with codes for all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from etegrec.config import ETEGRecConfig, FineTuning
from etegrec.model import ETEGRec
from etegrec.training import ETEGRecTraining
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.generative.generator import Batch, GeneratorTraining
from harness.generative.tokenizer.fit import TokenizerConfig, kmeans, start_codebooks
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig
from harness.interfaces import FitContext
from harness.nn.t5 import T5Config
from harness.sequence.sasrec import SASRecConfig
from harness.training.loop import TrainingPlan, train

NUM_USERS, NUM_ITEMS, ITEM_WIDTH = 40, 20, 12

TINY = ETEGRecConfig(
    vectors=SASRecConfig(hidden_size=ITEM_WIDTH, inner_size=16, num_layers=1, num_heads=1, epochs=2, patience=None),
    tokenizer=TokenizerConfig(
        rqvae=RQVAEConfig(hidden_sizes=(16,), code_dim=8, codebook_size=8), epochs=4, warmup_epochs=0, evaluate_every=2
    ),
    generator=T5Config(
        d_model=16, d_ff=32, num_heads=2, d_head=8, encoder_layers=1, decoder_layers=1, num_buckets=8, max_distance=16
    ),
    mu=0.5,
    lambda_=0.5,
    alignment_warmup_epochs=2,
    epochs=4,
    evaluate_every=2,
    batch_size=64,
    chunk_size=32,
    learning_rate_tokenizer=2e-2,
    learning_rate_recommender=1e-2,
    warmup_epochs=0,
    finetuning=FineTuning(epochs=2, learning_rate=1e-3),
    rebuilt=GeneratorTraining(batch_size=64, epochs=2, warmup_epochs=0),
)


def tiny_dataset() -> Dataset:
    """Random walks on a ring of 20 items, 5 training items each: 160 prefix samples."""
    stream = np.random.default_rng(0)
    walks = (stream.integers(NUM_ITEMS, size=(NUM_USERS, 1)) + stream.integers(1, 3, (NUM_USERS, 6)).cumsum(1)) + 1
    walks = (walks - 1) % NUM_ITEMS + 1
    keys = tuple(f"item-{item}" for item in range(1, NUM_ITEMS + 1))
    train_rows = Sequences.from_rows(walks[:, :5].tolist())
    cases = EvalCases(train_rows.last(4), walks[:, 5].astype(np.int32))
    return Dataset("tiny", "0123456789abcdef", Catalog(keys), train_rows, cases, max_history=4)


def tiny_training(folder: Path, config: ETEGRecConfig = TINY, context: FitContext | None = None) -> ETEGRecTraining:
    """A training with the same weights and the same codes at each call."""
    stream = torch.Generator().manual_seed(0)
    vectors = torch.randn(NUM_ITEMS, ITEM_WIDTH, generator=stream)
    tokenizer = RQVAE(ITEM_WIDTH, config.tokenizer.rqvae, generator=stream)
    start_codebooks(tokenizer, vectors, kmeans(config.tokenizer.rqvae.codebook_size, seed=0))
    torch.manual_seed(0)
    model = ETEGRec(config, vectors, tokenizer)
    return ETEGRecTraining(model, tiny_dataset(), context or FitContext(seed=0, folder=folder))


def one_batch(training: ETEGRecTraining) -> Batch:
    """The first batch of an epoch."""
    return next(iter(training.batches(np.random.default_rng(0))))


def weights(model: ETEGRec) -> dict[str, Tensor]:
    """A copy of all parameters, and of the codes, under `codes_NL`."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts (first names) of which at least one tensor is not the same to the bit."""
    return {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@dataclass
class Watched:
    """What was seen of a training: the weights before it and after each epoch, the codes at each step."""

    snapshots: list[dict[str, Tensor]] = field(default_factory=list)
    step_codes: list[list[Tensor]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


def watch(
    training: ETEGRecTraining,
    plan: TrainingPlan,
    folder: Path,
    seed: int = 0,
    at_step: Callable[[], object] = lambda: None,
) -> Watched:
    """Runs the plan, without scores, so that the last epoch's weights stay."""
    seen = Watched(snapshots=[weights(training.model)])

    def batches(stream: np.random.Generator) -> Iterator[Batch]:
        seen.step_codes.append([])
        for batch in training.batches(stream):
            yield batch
            seen.step_codes[-1].append(training.model.codes_NL.clone())
            at_step()

    context = FitContext(
        seed=seed, folder=folder, report=lambda progress: seen.snapshots.append(weights(training.model))
    )
    seen.history = train(replace(plan, score=None, patience=None, batches=batches), context)
    return seen
