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
from harness.generative.counted import generator_counts
from harness.methods import kinds
from harness.nn.t5 import T5Config
from harness.stages import Stage

SHARE_OF_PEAK = {"fp32": 0.4, "bf16": 0.15}  # of matrix products as narrow as these
LAUNCH_SECONDS = 7e-6  # of a host: Python, autograd and the launch itself

EPOCH_BATCH = 512  # of the epoch of a generator in which an effort is told


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
    kind = kinds().get(stage.kind)
    counts = kind.counts(stage.config, dataset) if kind else None
    if counts is None:
        if not math.isfinite(stage.effort):
            return None
        counts = generator_counts(T5Config(), dataset, stage.effort, EPOCH_BATCH)
    precision = str(stage.conditions.get("precision", "fp32"))
    computed = counts.operations / (card.peak(precision) * SHARE_OF_PEAK[precision])
    return max(computed, counts.kernels * LAUNCH_SECONDS)
