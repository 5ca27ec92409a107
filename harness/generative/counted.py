"""What trainings of generators and tokenizers ask of a device, from kernels that were counted on a stand-in for a GPU.

At the paper's numbers of layers, levels and codes; `tests/devices` holds the numbers. Widths change none of them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from harness.data.dataset import Dataset
from harness.generative.tokenizer.fit import TokenizerTraining
from harness.generative.tokenizer.rqvae import RQVAEConfig
from harness.interfaces import Counts
from harness.nn.pieces import LARGE
from harness.nn.t5 import T5Config

# At most, of a step with all samples at once: forward, backward and optimiser.
STEP_KERNELS = {
    "tiger": 2_700,  # a generator on its own
    "recommender": 2_900,  # with SIA and PSA
    "tokenizer": 1_300,  # SIA and PSA, the generator running forward
    "joint": 3_200,  # both move, and all codes are made anew
    "pre-training": 210,  # of an RQ-VAE
    "letter": 710,  # of LETTER's
}
LEVELS = 4  # tokens of an item
FORWARD_AND_BACKWARD = 3  # the backward pass of a product is two products


def num_samples(dataset: Dataset) -> int:
    """Prefix samples of an epoch."""
    return int((dataset.train.lengths - 1).clip(min=0).sum())


def generator_counts(sizes: T5Config, dataset: Dataset, epochs: float, batch_size: int) -> Counts:
    """Of so many epochs of a generator over all prefix samples, in pieces of a batch as a GPU takes them."""
    tokens = LEVELS * history_items(dataset) * batch_size / max(1, num_samples(dataset))  # of a batch
    steps = math.ceil(num_samples(dataset) / batch_size) * max(1, math.ceil(tokens / LARGE.trained_tokens))
    return Counts(steps * STEP_KERNELS["tiger"] * epochs, generator_operations(sizes, dataset) * epochs)


def counts_on_codes(config: Any, dataset: Dataset) -> Counts:
    """Of a method that trains its `generator` on frozen codes, as its `training` says."""
    return generator_counts(config.generator, dataset, config.training.epochs, config.training.batch_size)


def generator_operations(sizes: T5Config, dataset: Dataset) -> float:
    """Multiplications and additions of an epoch of a generator, forward and backward."""
    attention, forward = 4 * sizes.d_model * sizes.num_heads * sizes.d_head, 2 * sizes.d_model * sizes.d_ff
    encoder = sizes.encoder_layers * (attention + forward) + sizes.decoder_layers * attention // 2
    decoder = sizes.decoder_layers * (attention + attention // 2 + forward)
    products = LEVELS * (history_items(dataset) * encoder + num_samples(dataset) * decoder)
    return 2 * FORWARD_AND_BACKWARD * products


def history_items(dataset: Dataset) -> int:
    """Items of the histories of all prefix samples: 1 to n - 1 of a sequence of n, cut at the longest."""
    lengths, longest = dataset.train.lengths, dataset.max_history
    short = lengths.clip(max=longest + 1) - 1
    whole = (short * (short + 1) // 2).clip(min=0).sum()
    return int(whole + ((lengths - 1 - longest).clip(min=0) * longest).sum())


def tokenizer_counts(config: TokenizerTraining, rqvae: RQVAEConfig, dataset: Dataset, *, step: str) -> Counts:
    """Of all epochs of a tokenizer's training over all items; `step` is its name in `STEP_KERNELS`.

    Products with the item vectors, whose width the config does not tell, are left out.
    """
    steps = config.epochs * math.ceil(dataset.num_items / config.batch_size)
    widths = (*rqvae.hidden_sizes, rqvae.code_dim)
    layers = 2 * sum(a * b for a, b in pairwise(widths))
    distances = rqvae.num_levels * rqvae.codebook_size * rqvae.code_dim
    products = config.epochs * dataset.num_items * (layers + distances)
    return Counts(steps * STEP_KERNELS[step], 2 * FORWARD_AND_BACKWARD * products)
