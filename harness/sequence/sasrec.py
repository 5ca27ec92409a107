"""SASRec's config and model (METHODS B.1), below the baselines, since some of these start from its item table."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from harness.data.dataset import Dataset
from harness.interfaces import ArtifactKind, Need
from harness.nn.sasrec import SASRec, SASRecSizes
from harness.sequence.losses import binary_cross_entropy
from harness.sequence.model import SequenceModel, build_item_vectors
from harness.sequence.targets import TrainingRows, UnseenItems
from harness.sequence.training import (
    TINY_SCHEDULE,
    Objective,
    SequenceTraining,
    softmax_assumptions,
    softmax_objective,
)


class SASRecConfig(SequenceTraining, SASRecSizes):
    """SASRec's sizes and schedule; the defaults are the RecBole form at the paper's item dimension (METHODS B.1)."""

    added_later: ClassVar[frozenset[str]] = frozenset({"batches", "stride"})

    batch_size: int = Field(
        2048, ge=1, description="recbole: targets of an optimiser step; original: users of an optimiser step"
    )
    batches: Literal["users", "prefixes"] = Field(
        "users",
        description="recbole: what is shuffled; users: rows whose positions all have targets and share dropout masks; "
        "prefixes: each prefix a row with masks of its own, as RecBole does",
    )
    stride: int = Field(
        1,
        ge=1,
        description="recbole, batches=users: targets of each window beyond a user's first; above 1 some of their "
        "histories are up to stride - 1 items shorter than the evaluation's",
    )

    @model_validator(mode="after")
    def _original_form_has_no_softmax(self) -> Self:
        if self.style == "original" and (self.legacy_pad or self.softmax != "full"):
            raise ValueError(
                f"the original form has no softmax, but got style='original', softmax={self.softmax!r}, "
                f"legacy_pad={self.legacy_pad}; choose style='recbole', or softmax='full' and no legacy_pad"
            )
        return self


def network(config: SASRecConfig, dataset: Dataset) -> SASRec:
    """The network with drawn weights."""
    return SASRec(dataset.num_items, dataset.max_history, config, legacy_pad=config.legacy_pad)


def training_rows(config: SASRecConfig, dataset: Dataset) -> TrainingRows:
    """The rows of RecBole's form: every next item once an epoch."""
    if config.batches == "prefixes":
        return TrainingRows.prefix_samples(dataset)
    return TrainingRows.every_next_item(dataset, config.stride)


def objective(config: SASRecConfig, dataset: Dataset) -> Objective:
    """recbole: every next item under the softmax; original: the latest window, one unseen item against each target."""
    if config.style == "recbole":
        return softmax_objective(config, dataset, partial(training_rows, config))
    unseen = UnseenItems.of(dataset.train, dataset.num_items)
    return Objective(TrainingRows.latest_window(dataset), binary_cross_entropy, unseen)


def sasrec_assumptions(config: SASRecConfig) -> list[str]:
    """What a SASRec, a row or below another method, learns from that the published one does not; one line each."""
    lines = softmax_assumptions(config)
    if config.style == "recbole" and config.batches == "users" and config.stride > 1:
        lines.append(
            f"SASRec: of a history longer than the context, {config.stride} targets share a window (stride), where "
            f"RecBole gives each a window of its own; the earlier ones see up to {config.stride - 1} items less"
        )
    return lines


SASREC = SequenceModel("sasrec", network, objective)
SASREC_VECTORS = ArtifactKind(
    "sasrec-vectors", partial(build_item_vectors, model=SASREC), effort=lambda config: 0.0, version=2
)

PAPER = SASRecConfig()
# Small data sets give few batches of 2048: with smaller ones SASRec leaves its popularity plateau within an epoch or
# two, before a short patience runs out.
LITE = SASRecConfig(hidden_size=64, dropout=0.4, learning_rate=2e-3, batch_size=512, epochs=60, patience=5)
TINY = {**TINY_SCHEDULE, "hidden_size": 16, "inner_size": 32, "num_layers": 1, "num_heads": 1}
LITE_VECTORS = LITE  # where another method only needs the item table


def vectors_config(hidden_size: int) -> SASRecConfig:
    """The config of a SASRec whose item table has this width: 256 (ETEGRec, TIGER-SAS; 4 heads), 32 (LETTER; 2)."""
    return PAPER.replace(hidden_size=hidden_size, num_heads=4 if hidden_size >= 256 else 2, inner_size=256)


def sasrec_vectors(config: SASRecConfig) -> Need:
    """The item table of the method `sasrec` with this config: of the same fit as its row in the tables."""
    return Need(SASREC_VECTORS, config, {"model": Need(SASREC.name, config)})
