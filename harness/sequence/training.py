"""How an item-scoring network is trained: its settings, its objective, and batches in pieces of bounded size.

Shape legend: B rows, M targets, N items, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.config import Config
from harness.data.dataset import Dataset
from harness.distributed import ALONE, Group
from harness.nn.encoder import Encoder, PackedRows, pack_with
from harness.sequence.losses import (
    chunked_cross_entropy,
    drawn_cross_entropy,
    linear_cross_entropy,
    sampled_cross_entropy,
)
from harness.sequence.targets import Draws, ItemDraws, OwnDraws, Rows, TrainingRows
from harness.training.loop import Losses

# Tokens whose activations are held at a time; more of a batch waits for the next piece.
PIECE_TOKENS = 16_384
DEVICE_PIECE_TOKENS = 2**17  # on a device that is not the CPU, which likes few large steps

# The light grid of all classical baselines (METHODS B.5).
GRID = {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}
# The schedule of `Method.tiny`.
TINY_SCHEDULE = {"dropout": 0.1, "learning_rate": 1e-2, "batch_size": 64, "epochs": 20, "patience": "none"}

Softmax = Literal["full", "chunked", "sampled", "drawn"]
# Summed over the targets, from states_MD, the item rows (N + 1, D), targets_M (int64 item ids), and what was drawn.
Loss = Callable[..., Tensor]


class SequenceTraining(Config):
    """The softmax over the items and the schedule; the defaults are RecBole's (METHODS B.1, B.5)."""

    legacy_pad: bool = Field(False, description="padding is a trained class of the softmax, as in RecBole")
    softmax: Softmax = Field(
        "full",
        description="full: over all items; chunked: the same numbers up to rounding, items a chunk at a time, for "
        "large catalogs; sampled: over drawn items, which is another loss; drawn: over items drawn for each target "
        "alone, logits not corrected, which is another loss too",
    )
    num_negatives: int = Field(
        1024, ge=1, description="items drawn for a piece of a batch (softmax=sampled), or for a target (drawn)"
    )
    negatives: Literal["uniform", "popularity"] = Field(
        "uniform", description="from what they are drawn: all items alike, or by training interactions + 1"
    )
    learning_rate: float = Field(1e-3, gt=0)
    beta2: float = Field(0.999, gt=0, lt=1, description="Adam's second decay")
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(2048, ge=1, description="targets of an optimiser step")
    epochs: int = Field(300, ge=1, description="at most")
    evaluate_every: int = Field(1, ge=1, description="epochs between validation scores")
    patience: int | None = Field(
        10,
        ge=0,
        description="stop after more than this many scores in a row without improvement; "
        "none: train all epochs, keep the last, never look at the validation targets",
    )
    ties_improve: bool = Field(True, description="an equal score counts as an improvement")

    @model_validator(mode="after")
    def _padding_has_a_softmax_to_be_in(self) -> Self:
        if self.softmax in ("sampled", "drawn") and self.legacy_pad:
            raise ValueError(
                f"legacy_pad needs a softmax over all classes, but got softmax={self.softmax!r}; choose chunked or "
                "drop legacy_pad"
            )
        return self


def effort(config: SequenceTraining) -> float:
    """About how long the training takes, in epochs of a generator: one of its own takes an eighth of that."""
    return config.epochs / 8


def softmax_assumptions(config: SequenceTraining, title: str = "SASRec") -> list[str]:
    """What stands in for the published loss, as one line; none where it is the published one."""
    if config.softmax == "drawn":
        return [
            f"{title}: a softmax over the target and {config.num_negatives} items drawn uniformly for it alone stands "
            "in for the softmax over all items; the published loss is another"
        ]
    if config.softmax != "sampled":
        return []
    how = {"uniform": "uniformly", "popularity": "by popularity"}[config.negatives]
    return [
        f"{title}: a sampled softmax over {config.num_negatives} items drawn {how}, logits corrected for it (logQ), "
        "stands in for the softmax over all items; the published loss is another"
    ]


def open_choices(title: str, choices: str, remark: str = "") -> Callable[[Any], list[str]]:
    """The `Method.assumptions` of a baseline of which the paper gives only the width of items.

    `choices` tells what was chosen besides, fields of the config in braces; `remark` stands at the line's end.
    """

    def assumptions(config: SequenceTraining) -> list[str]:
        chosen = choices.format_map(dict(config))
        line = f"{title}: the paper gives only the item dimension (128); {chosen} are assumed{remark}"
        return [line, *softmax_assumptions(config, title)]

    return assumptions


class Objective(NamedTuple):
    """What a network learns from: rows with targets, and what a target costs."""

    rows: Rows
    loss: Loss
    draws: Draws | None = None  # what the loss contrasts the targets with; None: with all items


def softmax_objective(
    config: SequenceTraining,
    dataset: Dataset,
    rows_of: Callable[[Dataset], Rows] = TrainingRows.every_next_item,
) -> Objective:
    """The rows' targets under the config's softmax over the items."""
    rows = rows_of(dataset)
    if config.softmax == "sampled":
        draws = ItemDraws.of(dataset, config.negatives, config.num_negatives)
        return Objective(rows, sampled_cross_entropy, draws)
    if config.softmax == "drawn":
        return Objective(rows, drawn_cross_entropy, OwnDraws(dataset.num_items, config.num_negatives))
    cross_entropy = chunked_cross_entropy if config.softmax == "chunked" else linear_cross_entropy
    return Objective(rows, cross_entropy if config.legacy_pad else partial(_without_padding, cross_entropy))


def _without_padding(cross_entropy: Loss, states_MD: Tensor, item_rows_VD: Tensor, targets_M: Tensor) -> Tensor:
    return cross_entropy(states_MD, item_rows_VD[1:], targets_M - 1)


class Piece(NamedTuple):
    """A part of a batch that is worked on at once."""

    rows: PackedRows
    places_M: Tensor  # int64 place of each target's state on the flat axis
    targets_M: Tensor  # int64 item ids
    drawn: tuple[Tensor, ...]  # what the loss takes besides
    batch_targets: int  # targets of the whole batch, other pieces and other processes included


@dataclass(frozen=True)
class Batches:
    """An epoch's shuffled rows, cut into batches, and each batch into pieces of bounded size."""

    objective: Objective
    size: int  # about what the weights of a batch's rows add up to
    device: torch.device
    group: Group = ALONE  # each process takes its own rows of every piece
    piece_tokens: int | None = None  # none: what the device likes best

    def __call__(self, stream: np.random.Generator) -> Iterator[list[Piece]]:
        """One epoch, in as many batches as rows of weight 1 would fill, or one fewer."""
        rows = self.objective.rows.for_epoch(stream)
        return replace(self, objective=self.objective._replace(rows=rows))._cut(stream)

    def _cut(self, stream: np.random.Generator) -> Iterator[list[Piece]]:
        rows = self.objective.rows
        order = stream.permutation(len(rows))
        weights = rows.weights[order]
        batch_of = (np.cumsum(weights) - weights) // self.size
        for batch in np.split(order, np.flatnonzero(np.diff(batch_of)) + 1):
            count = int(rows.targets[batch].sum())
            pieces = (self._piece(part, count, stream) for part in self._by_length(batch))
            yield [piece for piece in pieces if piece is not None]

    def _by_length(self, batch: np.ndarray) -> list[np.ndarray]:
        """The batch's rows in runs of like lengths and about `piece_tokens` tokens at most."""
        piece_tokens = self.piece_tokens or (PIECE_TOKENS if self.device.type == "cpu" else DEVICE_PIECE_TOKENS)
        lengths = self.objective.rows.lengths
        batch = batch[np.argsort(lengths[batch], kind="stable")]
        piece_of = (np.cumsum(lengths[batch]) - 1) // piece_tokens
        return np.split(batch, np.flatnonzero(np.diff(piece_of)) + 1)

    def _piece(self, chosen: np.ndarray, batch_targets: int, stream: np.random.Generator) -> Piece | None:
        """This process's rows of a piece, None where it has none; what is drawn is drawn for the whole piece."""
        rows, _, draws = self.objective
        row_M, back_M, targets_M = rows.next_items(chosen)
        drawn = draws.draw(rows.users[chosen][row_M], stream) if draws else ()
        if self.group.size > 1:
            is_own_M = row_M % self.group.size == self.group.rank
            chosen = chosen[self.group.own]
            row_M, back_M, targets_M = row_M[is_own_M] // self.group.size, back_M[is_own_M], targets_M[is_own_M]
            drawn = tuple(each if draws and draws.is_shared else each[is_own_M] for each in drawn)
        if not len(chosen):
            return None
        histories = rows.histories(chosen)
        arrays = {"places": histories.offsets[1:][row_M] - 1 - back_M, "targets": targets_M}
        arrays |= {f"drawn {place}": each for place, each in enumerate(drawn)}
        packed, (places, targets, *others) = pack_with(histories, arrays, self.device)
        return Piece(packed, places, targets, tuple(others), batch_targets)


def batch_losses(network: Encoder, loss: Loss, pieces: list[Piece]) -> Iterator[Losses]:
    """The mean loss per target, in pieces whose gradients add up to the batch's; logits in full precision."""
    for piece in pieces:
        states_MD = network(piece.rows, piece.places_M)
        with torch.autocast(states_MD.device.type, enabled=False):
            rows_VD = network.item_rows_VD
            total = loss(states_MD.to(rows_VD.dtype), rows_VD, piece.targets_M, *piece.drawn) / piece.batch_targets
            penalty = network.penalty()
            if penalty is not None:
                total = total + penalty * (len(piece.targets_M) / piece.batch_targets)
        yield {"total": total}
