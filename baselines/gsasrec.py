"""gSASRec: SASRec's original form with many negatives and a binary cross-entropy made fit for them (METHODS B.9).

Shape legend: V items with padding, D width.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from harness.data.dataset import PADDING, Dataset
from harness.nn.sasrec import SASRec, SASRecSizes, TransformerSizes
from harness.sequence.losses import generalised_binary_cross_entropy
from harness.sequence.model import SequenceModel
from harness.sequence.targets import OwnDraws, TrainingRows
from harness.sequence.training import TINY_SCHEDULE, Objective, SequenceTraining


class GSASRecConfig(SequenceTraining, TransformerSizes):
    """gSASRec's sizes and schedule; the defaults are SASRec's original form at the paper's item dimension."""

    inner_size: int = Field(128, ge=1, description="width of the feed-forward layers")
    num_heads: int = Field(1, ge=1)
    tied: bool = Field(False, description="items have one vector as inputs and as candidates, not one for each")
    num_negatives: int = Field(256, ge=1, description="items drawn for a target")
    calibration: float = Field(0.75, ge=0, le=1, description="t: 0 is the plain binary cross-entropy")
    legacy_pad: Literal[False] = Field(False, description="padding is no class")
    softmax: Literal["full"] = Field("full", description="not used: the loss is gBCE")
    batch_size: int = Field(128, ge=1, description="users of an optimiser step")
    patience: int | None = Field(
        200, ge=0, description="as in SASRec; the loss may stay at popularity's level for long"
    )


class GSASRec(SASRec):
    """SASRec's original form with a table of its own for the candidates, unless `tied`."""

    def __init__(self, config: GSASRecConfig, dataset: Dataset):
        sizes = {name: getattr(config, name) for name in TransformerSizes.model_fields}
        super().__init__(dataset.num_items, dataset.max_history, SASRecSizes(style="original", **sizes))
        self.output_table = self.item_table
        if not config.tied:
            self.output_table = nn.Embedding(dataset.num_items + 1, config.hidden_size)
            nn.init.xavier_uniform_(self.output_table.weight)
            self.output_table.weight.data[PADDING] = 0

    @property
    def item_rows_VD(self) -> Tensor:
        """(V, D) the table of the candidates."""
        return self.output_table.weight


def objective(config: GSASRecConfig, dataset: Dataset) -> Objective:
    """Every next item of each user's latest window against items drawn for it alone."""
    loss = partial(generalised_binary_cross_entropy, num_items=dataset.num_items, calibration=config.calibration)
    return Objective(TrainingRows.latest_window(dataset), loss, OwnDraws(dataset.num_items, config.num_negatives))


GSASREC = SequenceModel("gsasrec", GSASRec, objective)


def assumptions(config: GSASRecConfig) -> list[str]:
    """What the authors leave open for these data, as one line."""
    return [
        f"gSASRec: the authors give no values for Amazon data; width {config.hidden_size}, {config.num_layers} layers, "
        f"dropout {config.dropout}, and SASRec's initial weights are assumed"
    ]


METHOD = GSASREC.method(
    title="gSASRec",
    place=230,
    groups=("strong",),
    config=GSASRecConfig,
    lite=GSASRecConfig(hidden_size=64, inner_size=64, epochs=60, patience=10),
    tiny={**TINY_SCHEDULE, "hidden_size": 16, "inner_size": 32, "num_negatives": 8, "batch_size": 16},
    grid={"calibration": (0.0, 0.5, 0.75, 1.0), "learning_rate": (1e-3, 5e-4), "dropout": (0.2, 0.5)},
    assumptions=assumptions,
)
