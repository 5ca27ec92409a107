"""SASRec, trained, saved and asked for recommendations; and its item table as vectors for the tokenizers.

It has two roles (METHODS B.1): a baseline of its own, and the source of the collaborative item vectors that ETEGRec,
TIGER-SAS and LETTER start from.

Shape legend: B rows or users, T tokens of packed rows, M targets, J drawn items, N items, D width,
k places of a ranked list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.config import Config, digest
from harness.data.dataset import Catalog, Dataset, Sequences
from harness.data.text.vectors import save_vectors
from harness.distributed import ALONE, Group
from harness.errors import StageError
from harness.evaluation.outcomes import SELECTION_K
from harness.evaluation.ranking import Scores, all_ranks, ranked
from harness.interfaces import ArtifactKind, FitContext, Recommendations
from harness.nn.sasrec import PackedRows, SASRec, Softmax, Style, pack
from harness.seeding import derive_seed
from harness.sequence.targets import ItemDraws, TrainingRows, UnseenItems
from harness.stages import read_json, write_json
from harness.training.checkpoints import load_tensors, save_tensors
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan, train
from results.statistics.metrics.ndcg import ndcg

STAGE = "sasrec"
PIECE_TOKENS = 16_384  # tokens whose activations are held at a time; more of a batch waits for the next piece
ENCODE_USERS = 2_048  # users encoded at a time
SCORE_ELEMENTS = 2**22  # scores in memory at a time,
LEAST_SCORED_USERS = 32  # but of so many users at least: each chunk of users reads the whole item table


class SASRecConfig(Config):
    """SASRec's sizes and schedule; the defaults are the RecBole form at the paper's item dimension (METHODS B.1)."""

    style: Style = Field(
        "recbole",
        description="recbole: post-norm GELU layers, full softmax; original: pre-norm ReLU layers, one negative",
    )
    hidden_size: int = Field(128, ge=1, description="width of items and states")
    inner_size: int = Field(256, ge=1, description="width of the feed-forward layers")
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(2, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1, description="on embeddings, attention weights and sub-layer outputs")
    legacy_pad: bool = Field(False, description="padding is a trained class of the softmax, as in RecBole")
    softmax: Softmax = Field(
        "full",
        description="full: over all items; chunked: the same numbers up to rounding, items a chunk at a time, for "
        "large catalogs; sampled: over drawn items, which is another loss",
    )
    num_negatives: int = Field(1024, ge=1, description="items drawn for a piece of a batch (softmax=sampled)")
    negatives: Literal["uniform", "popularity"] = Field(
        "uniform", description="from what they are drawn: all items alike, or by training interactions + 1"
    )
    learning_rate: float = Field(1e-3, gt=0)
    beta2: float = Field(0.999, gt=0, lt=1, description="Adam's second decay")
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(
        2048, ge=1, description="recbole: targets of an optimiser step; original: users of an optimiser step"
    )
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
    def _heads_divide_the_width(self) -> SASRecConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads must divide hidden_size, but got num_heads={self.num_heads}, "
                f"hidden_size={self.hidden_size}; change one of them"
            )
        if self.legacy_pad and self.style == "original":
            raise ValueError(
                "legacy_pad needs a softmax, but got style='original'; choose style='recbole' or drop legacy_pad"
            )
        if self.softmax != "full" and self.style == "original":
            raise ValueError(
                f"softmax={self.softmax!r} needs the recbole form, but got style='original', whose loss is no softmax; "
                "choose style='recbole' or softmax='full'"
            )
        if self.softmax == "sampled" and self.legacy_pad:
            raise ValueError(
                "legacy_pad needs a softmax over all classes, but got softmax='sampled'; choose chunked or drop "
                "legacy_pad"
            )
        return self


def softmax_assumptions(config: SASRecConfig) -> list[str]:
    """What stands in for the published loss, as one line; none where it is the published one."""
    if config.softmax != "sampled":
        return []
    how = {"uniform": "uniformly", "popularity": "by popularity"}[config.negatives]
    return [
        f"SASRec: a sampled softmax over {config.num_negatives} items drawn {how}, logits corrected for it (logQ), "
        "stands in for the softmax over all items; the published loss is another"
    ]


def original_form(config: SASRecConfig) -> SASRecConfig:
    """The config with the form and the schedule of the SASRec paper's own code (METHODS B.1)."""
    return config.replace(
        style="original",
        num_heads=1,
        inner_size=config.hidden_size,
        beta2=0.98,
        batch_size=128,
        legacy_pad=False,
        softmax="full",
    )


def sasrec_effort(config: SASRecConfig) -> float:
    """About how long the training takes, in epochs of a generator: one of its own takes an eighth of that."""
    return config.epochs / 8


PAPER = SASRecConfig()
# Small data sets give few batches of 2048: with smaller ones SASRec leaves its popularity plateau within an epoch or
# two, before a short patience runs out.
LITE = SASRecConfig(hidden_size=64, dropout=0.4, learning_rate=2e-3, batch_size=512, epochs=60, patience=5)
LITE_VECTORS = LITE  # where another method only needs the item table


def vectors_config(hidden_size: int, base: SASRecConfig = PAPER) -> SASRecConfig:
    """The config of a SASRec whose item table has this width: 256 (ETEGRec, TIGER-SAS; 4 heads), 32 (LETTER; 2)."""
    return base.replace(hidden_size=hidden_size, num_heads=4 if hidden_size >= 256 else 2, inner_size=256)


class Piece(NamedTuple):
    """A part of a batch that is worked on at once."""

    rows: PackedRows
    states_M: Tensor  # int64 place of each target's state on the flat axis
    targets_M: Tensor  # int64 item ids
    negatives_M: Tensor | None  # int64 item ids outside the user's history (original form)
    drawn: tuple[Tensor, Tensor] | None  # int64 items (J,), log of their expected counts (sampled softmax)
    batch_targets: int  # targets of the whole batch, other pieces and other processes included


@dataclass(frozen=True)
class Batches:
    """An epoch's shuffled rows, cut into batches, and each batch into pieces of bounded size."""

    rows: TrainingRows
    max_history: int
    style: Style
    size: int  # recbole: targets; original: users
    device: torch.device
    unseen: UnseenItems | None  # where negatives come from (original form)
    draws: ItemDraws | None = None  # where the classes of a sampled softmax come from
    group: Group = ALONE  # each process takes its own rows of every piece

    @classmethod
    def of(cls, dataset: Dataset, config: SASRecConfig, device: torch.device, group: Group = ALONE) -> Batches:
        """All training rows of the data set, in the form that the config's style learns from."""
        if config.style == "recbole":
            rows, unseen = TrainingRows.of_all_prefixes(dataset), None
        else:
            rows = TrainingRows.of_latest_items(dataset)
            unseen = UnseenItems.of(dataset.train, dataset.num_items)
        draws = ItemDraws.of(dataset, config.negatives, config.num_negatives) if config.softmax == "sampled" else None
        return cls(rows, dataset.max_history, config.style, config.batch_size, device, unseen, draws, group)

    def __call__(self, stream: np.random.Generator) -> Iterator[list[Piece]]:
        """One epoch, in as many batches as separate prefix samples would fill, or one fewer."""
        order = stream.permutation(len(self.rows))
        weights = self.rows.targets[order] if self.style == "recbole" else np.ones(len(order), dtype=np.int64)
        batch_of = (np.cumsum(weights) - weights) // self.size
        for batch in np.split(order, np.flatnonzero(np.diff(batch_of)) + 1):
            count = int(self.rows.targets[batch].sum())
            pieces = (self._piece(rows, count, stream) for rows in self._by_length(batch))
            yield [piece for piece in pieces if piece is not None]

    def _by_length(self, batch: np.ndarray) -> list[np.ndarray]:
        """The batch's rows in runs of like lengths and about `PIECE_TOKENS` tokens at most."""
        batch = batch[np.argsort(self.rows.lengths[batch], kind="stable")]
        piece_of = (np.cumsum(self.rows.lengths[batch]) - 1) // PIECE_TOKENS
        return np.split(batch, np.flatnonzero(np.diff(piece_of)) + 1)

    def _piece(self, rows: np.ndarray, batch_targets: int, stream: np.random.Generator) -> Piece | None:
        """This process's rows of a piece, None where it has none; negatives are drawn for the whole piece."""
        drawn = self.draws.draw(stream) if self.draws else None
        row_M, back_M, targets_M = self.rows.next_items(rows)
        negatives_M = self.unseen.draw(self.rows.users[rows][row_M], stream) if self.unseen else None
        if self.group.size > 1:
            is_own_M = row_M % self.group.size == self.group.rank
            rows = rows[self.group.own]
            row_M, back_M, targets_M = row_M[is_own_M] // self.group.size, back_M[is_own_M], targets_M[is_own_M]
            negatives_M = None if negatives_M is None else negatives_M[is_own_M]
        if not len(rows):
            return None
        packed = pack(self.rows.histories(rows), self.max_history, self.style, self.device)
        return Piece(
            packed,
            packed.ends_B[self._tensor(row_M)] - self._tensor(back_M),
            self._tensor(targets_M),
            None if negatives_M is None else self._tensor(negatives_M),
            None if drawn is None else (self._tensor(drawn[0]), self._tensor(drawn[1])),
            batch_targets,
        )

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def batch_losses(network: SASRec, pieces: list[Piece]) -> Iterator[Losses]:
    """The mean loss per target, in pieces whose gradients add up to the batch's."""
    for piece in pieces:
        states_MD = network(piece.rows).index_select(0, piece.states_M)
        if piece.drawn is not None:
            total = network.sampled_softmax_loss(states_MD, piece.targets_M, *piece.drawn)
        elif piece.negatives_M is None:
            total = network.next_item_loss(states_MD, piece.targets_M)
        else:
            total = network.sampled_loss(states_MD, piece.targets_M, piece.negatives_M)
        yield {"total": total / piece.batch_targets}


def build_network(config: SASRecConfig, dataset: Dataset, context: FitContext) -> SASRec:
    """The network with its initial weights, drawn from the run's stream `sasrec/init`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(context.seed, STAGE, "init"))
        network = SASRec(
            dataset.num_items,
            dataset.max_history,
            style=config.style,
            hidden_size=config.hidden_size,
            inner_size=config.inner_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout=config.dropout,
            legacy_pad=config.legacy_pad,
            softmax=config.softmax,
        )
    return network.to(context.device)


class SASRecRecommender:
    """A fitted SASRec."""

    def __init__(self, network: SASRec, catalog: Catalog, group: Group = ALONE):
        self.network = network
        self.catalog = catalog
        self.group = group

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Scores:
        """Scores of all items for each history's next item, a chunk of users at a time (users by history length).

        A process of a group serves its own users, in the same chunks as one process would make.
        """
        self.network.eval()
        histories = histories.last(self.network.max_history)
        table_ND = self.network.item_vectors_ND
        size = max(LEAST_SCORED_USERS, SCORE_ELEMENTS // len(table_ND))
        by_length = np.argsort(histories.lengths, kind="stable")
        buffer_BN = table_ND.new_empty(min(size, len(by_length)), len(table_ND))
        for start in range(0, len(by_length), ENCODE_USERS)[self.group.own]:
            users = by_length[start : start + ENCODE_USERS]
            packed = pack(histories.take(users), self.network.max_history, self.network.style, table_ND.device)
            states_BD = self.network(packed).index_select(0, packed.ends_B)
            for first in range(0, len(users), size):
                chunk_BD = states_BD[first : first + size]
                scores_BN = torch.mm(chunk_BD, table_ND.T, out=buffer_BN[: len(chunk_BD)])
                yield users[first : first + size], scores_BN

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The k items with the highest scores; equal scores by item id."""
        return ranked(self.scores, histories, k, self.group)

    def save(self, folder: Path) -> None:
        """Writes `sasrec.safetensors`, and `sasrec.json` with what the table's rows stand for."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / "sasrec.safetensors", self.network.state_dict())
        write_json(folder / "sasrec.json", catalog_mark(self.catalog))

    def health(self) -> dict[str, Any]:
        """Number of parameters, and mean norm of the item rows."""
        return {
            "num_parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "item_norm": float(self.network.item_vectors_ND.detach().norm(dim=1).mean()),
        }


def catalog_mark(catalog: Catalog) -> dict[str, Any]:
    """What tells one item numbering from another: the number of items and a digest of their keys in order."""
    return {"num_items": len(catalog), "keys": digest(list(catalog.keys))}


def load_sasrec(folder: Path, config: SASRecConfig, dataset: Dataset, context: FitContext) -> SASRecRecommender:
    """The recommender that `save` wrote; `StageError` when it was fitted on other items than the data set's."""
    path = folder / "sasrec.json"
    saved, expected = read_json(path), catalog_mark(dataset.catalog)
    if saved != expected:
        raise StageError(
            f"{path}: the saved items must be those of data set '{dataset.name}', but {saved} is not {expected}; "
            "fit the method again on this data set"
        )
    network = build_network(config, dataset, context)
    network.load_state_dict(load_tensors(folder / "sasrec.safetensors"))
    return SASRecRecommender(network, dataset.catalog, context.group)


def fit_sasrec(config: SASRecConfig, dataset: Dataset, context: FitContext) -> SASRecRecommender:
    """A trained recommender, selected by validation NDCG@10 (the last epoch's where `patience` is none)."""
    network = build_network(config, dataset, context)
    recommender = SASRecRecommender(network, dataset.catalog, context.group)
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )

    def begin() -> None:
        network.train()

    def score() -> float:
        return float(ndcg(all_ranks(recommender.scores, dataset.validation, context.group), SELECTION_K).mean())

    phase = Phase("train", (STAGE,), partial(batch_losses, network), begin)
    selects = config.patience is not None
    train(
        TrainingPlan(
            name=STAGE,
            model=network,
            learners={STAGE: Learner(optimizer)},
            phase_of=lambda epoch: phase,
            batches=Batches.of(dataset, config, context.device, context.group),
            epochs=config.epochs,
            score=score if selects else None,
            score_every=config.evaluate_every,
            # `train` stops at this many scores without improvement, the config's rule after more than them.
            patience=config.patience + 1 if config.patience is not None else None,
            ties_improve=config.ties_improve,
        ),
        context,
    )
    network.eval()
    return recommender


def build_sasrec_vectors(
    config: SASRecConfig, dataset: Dataset, inputs: Mapping[str, Path], context: FitContext
) -> None:
    """Writes the trained item table, row i - 1 for item i, not normalised, with the item keys (METHODS B.1).

    Items without training interactions have rows too: what the softmax made of them.
    """
    recommender = fit_sasrec(config, dataset, context)
    if context.group.is_main:
        vectors_ND = recommender.network.item_vectors_ND.detach().cpu().numpy()
        save_vectors(context.folder, dataset.catalog.keys, vectors_ND)


SASREC_VECTORS = ArtifactKind(
    "sasrec-vectors", build_sasrec_vectors, effort=sasrec_effort, is_distributed=True, version=2
)
