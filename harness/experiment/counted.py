"""How long a training takes on a card, from counts: matrix operations and kernel launches, and the card's figures.

Nothing is measured here. Operations are those of matrix products, forward and backward; a card reaches a part of its
peak (`SHARE_OF_PEAK`), and a host that launches kernel after kernel may be slower than the card. The estimate is the
larger of the two, and may be wrong by a factor of three: widths of 128 use a card badly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.data.dataset import Dataset
from harness.errors import UsageError, nearest
from harness.interfaces import Counts
from harness.methods import methods
from harness.nn.t5 import T5Config
from harness.stages import Stage

SHARE_OF_PEAK = {"fp32": 0.4, "bf16": 0.15}  # of matrix products as narrow as these
LAUNCH_SECONDS = 7e-6  # of a host: Python, autograd and the launch itself
FORWARD_AND_BACKWARD = 3  # the backward pass of a product is two products

# A generator's step of 512 samples at the paper's sizes, counted on a stand-in for a GPU (docs/gpu.md).
GENERATOR_BATCH, GENERATOR_KERNELS = 512, 3_500
GENERATOR_LEVELS = 4  # tokens of an item


@dataclass(frozen=True)
class Card:
    """A GPU's peaks as its maker gives them, dense: operations per second."""

    title: str
    fp32: float
    bf16: float

    def peak(self, precision: str) -> float:
        """Operations per second in that precision."""
        return self.bf16 if precision == "bf16" else self.fp32


CARDS = {
    "h100": Card("H100", 67e12, 989e12),
    "a100": Card("A100", 19.5e12, 312e12),
    "l40s": Card("L40S", 91.6e12, 362e12),
    "l4": Card("L4", 30.3e12, 121e12),
    "rtx4090": Card("RTX 4090", 82.6e12, 165e12),
}


def card_named(name: str) -> Card:
    """The card of that name; `UsageError` for an unknown one."""
    if name not in CARDS:
        raise UsageError(f"no figures are known of the card '{name}'; {nearest(name, CARDS)}")
    return CARDS[name]


def card_of(gpu: str) -> Card | None:
    """The card that a driver names so; None where its figures are not known."""
    plain = gpu.lower().replace(" ", "")
    return next((card for name, card in sorted(CARDS.items(), reverse=True) if name in plain), None)


def counted_seconds(stage: Stage, dataset: Dataset, card: Card) -> float | None:
    """Seconds of all epochs that the stage may train, without its evaluations; None where nothing is counted."""
    method = methods().get(stage.kind)
    counts = method.counts(stage.config, dataset) if method else None
    if counts is None:
        if not math.isfinite(stage.effort):
            return None
        counts = generator_counts(dataset, stage.effort)
    precision = str(stage.conditions.get("precision", "fp32"))
    computed = counts.operations / (card.peak(precision) * SHARE_OF_PEAK[precision])
    return max(computed, counts.kernels * LAUNCH_SECONDS)


def generator_counts(dataset: Dataset, epochs: float) -> Counts:
    """Of so many epochs of a generator of the paper's sizes over all prefix samples: what a stage's effort counts."""
    sizes, lengths = T5Config(), dataset.train.lengths
    samples = int((lengths - 1).clip(min=0).sum())
    longest = dataset.max_history
    # A sequence of n items has histories of 1 to n - 1 items, cut at the longest.
    short = lengths.clip(max=longest + 1) - 1
    items = int((short * (short + 1) // 2).clip(min=0).sum() + ((lengths - 1 - longest).clip(min=0) * longest).sum())
    attention, forward = 4 * sizes.d_model * sizes.num_heads * sizes.d_head, 2 * sizes.d_model * sizes.d_ff
    encoder = sizes.encoder_layers * (attention + forward) + sizes.decoder_layers * attention // 2
    decoder = sizes.decoder_layers * (attention + attention // 2 + forward)
    products = GENERATOR_LEVELS * (items * encoder + samples * decoder)
    steps = math.ceil(samples / GENERATOR_BATCH)
    return Counts(steps * GENERATOR_KERNELS * epochs, 2 * FORWARD_AND_BACKWARD * products * epochs)
