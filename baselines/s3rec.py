"""S3-Rec as a baseline of the paper's Table 3: pre-training, then next items under the softmax (METHODS B.5).

Shape legend: M asked places, V items with padding, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from baselines.s3rec_pretraining import Heads, PretrainingBatches, PretrainingConfig, attributes_of, pretraining_losses
from harness.data.dataset import Dataset
from harness.interfaces import ArtifactKind, Artifacts, FitContext, Need
from harness.nn.bert import BertEncoder
from harness.nn.encoder import Encoder, PackedRows
from harness.nn.sasrec import TransformerSizes, draw_normal
from harness.seeding import derive_seed
from harness.sequence.features import obstacle_to_features
from harness.sequence.masking import windows_of
from harness.sequence.model import SequenceModel
from harness.sequence.targets import UnseenItems
from harness.sequence.training import TINY_SCHEDULE, SequenceTraining, softmax_assumptions
from harness.training.checkpoints import load_tensors, save_tensors
from harness.training.learner import Learner
from harness.training.loop import Phase, TrainingPlan, train

STAGE = "s3-rec-pretraining"


class FirstStageConfig(TransformerSizes):
    """What the first stage depends on."""

    legacy_pad: bool = Field(False, description="padding's row is drawn like an item's, as in RecBole")
    pretraining: PretrainingConfig = PretrainingConfig()


class S3RecConfig(SequenceTraining, FirstStageConfig):
    """S3-Rec's sizes and schedules; the defaults are RecBole's form at the paper's item dimension (METHODS B.5)."""


class S3Rec(BertEncoder):
    """The encoder of both stages: SASRec's in RecBole's form, with a row more in its item table for the mask."""

    def __init__(self, config: FirstStageConfig, dataset: Dataset, *, is_causal: bool = True):
        super().__init__(dataset.num_items + 2, dataset.max_history, config, is_causal=is_causal)
        draw_normal(self, item_table=None if config.legacy_pad else self.item_table)

    @property
    def item_rows_VD(self) -> Tensor:
        """(V, D) without the mask's row, which is no class of the softmax."""
        return self.item_table.weight[:-1]

    def forward(self, rows: PackedRows, places_M: Tensor) -> Tensor:
        """(M, D). Positions count from a row's first item."""
        return self.states(rows, "start").index_select(0, places_M)


def first_stage(config: FirstStageConfig, dataset: Dataset, context: FitContext) -> tuple[Heads, PretrainingBatches]:
    """The bidirectional encoder with its heads, weights as drawn, and the batches that they learn from."""
    first, (attributes_NK, count) = config.pretraining, attributes_of(dataset, config.pretraining)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(context.seed, STAGE, "init"))
        network = S3Rec(config, dataset, is_causal=False)
        heads = Heads(network, attributes_NK, count, config.hidden_size).to(context.device)
    unseen = UnseenItems.of(dataset.train, dataset.num_items)
    batches = PretrainingBatches(*windows_of(dataset), unseen, dataset.num_items + 1, count, first, context.device)
    return heads, batches


def build_pretrained(config: FirstStageConfig, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Writes the encoder's weights after the first stage, those of the last epoch."""
    first, (heads, batches) = config.pretraining, first_stage(config, dataset, context)
    phase = Phase("pretrain", (STAGE,), lambda batch: (pretraining_losses(heads, piece, first) for piece in batch))
    plan = TrainingPlan(
        name=STAGE,
        model=heads.train(),
        learners={STAGE: Learner(torch.optim.Adam(heads.parameters(), lr=first.learning_rate, fused=True))},
        phase_of=lambda epoch: phase,
        batches=batches,
        epochs=first.epochs,
    )
    train(plan, context)
    save_tensors(context.folder / f"{STAGE}.safetensors", heads.network.state_dict())


def start(network: Encoder, artifacts: Artifacts) -> None:
    """Gives the second stage the weights of the first, where there was one."""
    if "pretrained" in artifacts:
        network.load_state_dict(load_tensors(artifacts["pretrained"] / f"{STAGE}.safetensors"))


PRETRAINED = ArtifactKind(
    STAGE,
    build_pretrained,
    effort=lambda config: config.pretraining.epochs / 8,
    obstacle=lambda config, dataset: obstacle_to_features(dataset, config.pretraining.features),
)


def needs(config: S3RecConfig) -> dict[str, Need]:
    """The first stage, unless it has no epochs."""
    first: dict[str, Any] = {name: getattr(config, name) for name in FirstStageConfig.model_fields}
    return {"pretrained": Need(PRETRAINED, FirstStageConfig(**first))} if config.pretraining.epochs else {}


S3REC = SequenceModel("s3-rec", S3Rec, start=start)


def assumptions(config: S3RecConfig) -> list[str]:
    """What the paper leaves open, as one line each."""
    first = config.pretraining
    return [
        f"S3-Rec: the paper gives only the item dimension (128); {config.num_layers} layers, {config.num_heads} heads, "
        f"dropout {config.dropout}, {first.epochs} epochs of pre-training on whole training sequences, attributes "
        f"({', '.join(first.features) or 'all of the metadata'}), learning rate {config.learning_rate} are assumed",
        *softmax_assumptions(config, "S3-Rec"),
    ]


FIRST = PretrainingConfig(epochs=20)
METHOD = S3REC.method(
    title="S3-Rec",
    groups=("paper",),
    inputs=("features",),
    inputs_of=lambda config: ("features",) if config.pretraining.epochs else (),
    place=170,
    config=S3RecConfig,
    needs=needs,
    lite=S3RecConfig(
        hidden_size=64, dropout=0.4, learning_rate=2e-3, batch_size=512, epochs=40, patience=4, pretraining=FIRST
    ),
    tiny={
        **TINY_SCHEDULE,
        **{"hidden_size": 16, "inner_size": 32, "num_layers": 1, "num_heads": 1},
        "pretraining": {"epochs": 4, "batch_size": 32},
    },
    assumptions=assumptions,
)
