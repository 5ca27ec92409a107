"""The code generator on frozen item codes: how TIGER, TIGER-SAS, LETTER and ETEGRec w/o ETE train and recommend.

Shape legend: B samples, N items, L code levels, K codes of a level, k places of a ranked list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from harness.artifacts import CODES_FILE
from harness.config import Config
from harness.data.dataset import Dataset, Sequences
from harness.data.samples import PrefixSamples, shuffled_batches
from harness.distributed import Group
from harness.evaluation.outcomes import validation_score
from harness.evaluation.ranking import Scorer, ranked
from harness.generative.counted import counts_on_codes
from harness.generative.decoding.beam import Search, recommend_by_codes
from harness.generative.decoding.exact import Wanted, exact_scores
from harness.generative.decoding.trie import Trie
from harness.generative.tokenizer.codes import CodeTable, code_health, tuple_keys
from harness.interfaces import FitContext, Method, Recommendations
from harness.nn.code_seq2seq import CodeSeq2Seq, LaidOut
from harness.nn.kernels.precision import full_precision, widened
from harness.nn.moving import moved
from harness.nn.t5 import T5Config
from harness.seeding import derive_seed
from harness.stages import read_json, write_json
from harness.training.checkpoints import load_tensors, save_tensors
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan, train
from harness.training.schedules import warmup_then_cosine

GENERATOR_FILE = "generator.safetensors"


class GeneratorTraining(Config):
    """How a generator is trained on frozen codes (METHODS B.3): AdamW, warm-up, one cosine to zero.

    The cosine always finishes unless `patience` says otherwise: a generator that is stopped at a high learning rate
    would be handicapped against ETEGRec, which anneals in its last stage.
    """

    learning_rate: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    batch_size: int = Field(default=1024, ge=1)
    epochs: int = Field(default=200, ge=1)
    warmup_epochs: float = Field(default=10.0, ge=0)
    max_norm: float = Field(default=1.0, gt=0)
    evaluate_every: int = Field(default=2, ge=1, description="epochs")
    patience: int | None = Field(default=None, ge=1, description="evaluations without improvement; none: never stop")
    temperature: float = Field(default=1.0, gt=0, description="divides the logits; LETTER's ranking-guided loss")


class Batch(NamedTuple):
    """Prefix samples of one training step."""

    histories: Sequences  # B rows
    targets: np.ndarray  # (B,) int64

    def rows(self, rows: range) -> Batch:
        """A part of the batch."""
        return Batch(self.histories.take(np.asarray(rows)), self.targets[rows.start : rows.stop])


def own_share(batch: Batch, group: Group) -> tuple[Batch, float]:
    """This process's samples of a batch, with histories as long as the other processes', and their share of it."""
    if group.size == 1:
        return batch, 1.0
    rows = np.argsort(batch.histories.lengths, kind="stable")[group.own]
    return Batch(batch.histories.take(rows), batch.targets[rows]), len(rows) / len(batch.targets)


class OwnSamples(NamedTuple):
    """This process's samples of a batch, where its network is."""

    histories: Sequences | LaidOut
    targets_B: Tensor
    share: float  # of the batch; 0 where a small batch leaves this process none


def own_samples(model: CodeSeq2Seq, batch: Batch, device: torch.device, group: Group) -> OwnSamples:
    """What of the work on a batch can be done before its step."""
    own, share = own_share(batch, group)
    histories = model.prepared(own.histories, device) if share else own.histories
    return OwnSamples(histories, moved({"targets": own.targets}, device)["targets"], share)


def prefix_batches(samples: PrefixSamples, batch_size: int, stream: np.random.Generator) -> Iterator[Batch]:
    """One epoch of shuffled training batches; every sample once."""
    for indices in shuffled_batches(len(samples), batch_size, stream):
        yield Batch(*samples.batch(indices))


def token_loss(logits_LBK: Tensor, codes_BL: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the target's codes in nats, averaged over samples and levels (METHODS C.2).

    A temperature under 1 gives hard negatives more weight: LETTER's ranking-guided loss (METHODS B.4).
    """
    if temperature != 1:
        logits_LBK = logits_LBK / temperature
    with full_precision(logits_LBK.device):
        return functional.cross_entropy(widened(logits_LBK).flatten(0, 1), codes_BL.T.flatten())


def token_losses(
    model: CodeSeq2Seq,
    histories: Sequences | LaidOut,
    targets_B: Tensor,
    codes_NL: Tensor,
    temperature: float = 1.0,
    *,
    max_tokens: int | None = None,
) -> Iterator[Tensor]:
    """The batch's token loss in parts that add up to it, histories of like length together.

    Where samples do not meet in the loss, the graph of one part is freed before the next is built.
    """
    laid_out = model.laid_out(histories, codes_NL.device, max_tokens)
    for chunk, chunk_targets_B in zip(laid_out.chunks, laid_out.split(targets_B), strict=True):
        target_codes_BL = codes_NL[chunk_targets_B]
        encoded = model.encode(chunk, codes_NL)
        logits_LBK = model.logits(model.teacher_forced(encoded, target_codes_BL))
        yield len(chunk_targets_B) / len(targets_B) * token_loss(logits_LBK, target_codes_BL, temperature)


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all the parameters, norms and embeddings included (METHODS C.5 #26), in its fused form."""
    return torch.optim.AdamW(list(parameters), lr=learning_rate, weight_decay=weight_decay, fused=True)


def new_generator(config: T5Config, codes: CodeTable, context: FitContext) -> CodeSeq2Seq:
    """A generator with freshly drawn weights; the same seed draws the same ones."""
    torch.manual_seed(derive_seed(context.seed, "generator", "init"))
    return CodeSeq2Seq(config, codes.sizes).to(context.device)


def fit_generator(
    recommender: CodeRecommender, config: GeneratorTraining, dataset: Dataset, context: FitContext
) -> CodeRecommender:
    """The recommender, its model trained by token cross-entropy on every prefix and selected by validation NDCG@10."""
    model, codes_NL = recommender.model, recommender.codes.codes
    samples = PrefixSamples.of(dataset)
    steps_per_epoch = -(-len(samples) // config.batch_size)

    def prepare(batch: Batch) -> OwnSamples:
        return own_samples(model, batch, context.device, context.group)

    def losses(own: OwnSamples) -> Iterator[Losses]:
        if not own.share:
            return
        for loss in token_losses(model, own.histories, own.targets_B, codes_NL, config.temperature):
            yield {"total": own.share * loss}

    learner = Learner(
        adamw(model.parameters(), config.learning_rate, config.weight_decay),
        warmup_then_cosine(config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch),
        config.max_norm,
    )
    phase = Phase("generator", ("generator",), losses, model.train, prepare=prepare)
    train(
        TrainingPlan(
            name="generator",
            model=model,
            learners={"generator": learner},
            phase_of=lambda epoch: phase,
            batches=lambda stream: prefix_batches(samples, config.batch_size, stream),
            epochs=config.epochs,
            score=lambda: validation_score(recommender, dataset),
            score_every=config.evaluate_every,
            patience=config.patience,
            present=lambda: recommender,
        ),
        context,
    )
    return recommender


class CodeRecommender:
    """Recommends by generating code tuples with a beam search."""

    def __init__(
        self,
        model: CodeSeq2Seq,
        codes: CodeTable,
        context: FitContext,
        *,
        item_keys: tuple[str, ...],
        has_dedup_level: bool = True,
    ):
        self.model = model
        self.codes = codes.to(next(model.parameters()).device)
        # Made on the CPU, which sorts without being waited for.
        self.trie = Trie.of(self.codes.codes[1:].cpu(), codes.sizes).to(self.codes.codes.device)
        self.num_beams = context.contract.num_beams
        self.is_constrained = context.is_constrained
        self.group = context.group
        self.item_keys = item_keys
        self.has_dedup_level = has_dedup_level
        self.is_exact = context.contract.decoding == "exact"

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The items of the k best code tuples; 0 where a freely generated tuple is no item's."""
        scorer = self.wanted_scores(k)
        return self._searched(histories, k, fills=True) if scorer is None else ranked(scorer, histories, k, self.group)

    def found(self, histories: Sequences, places: int) -> Recommendations:
        """The same for any number of places, of which the beams may leave the last ones empty."""
        return self._searched(histories, places, fills=False)

    def wanted_scores(self, places: int, targets_U: np.ndarray | None = None) -> Scorer | None:
        """Where items are decoded exactly, scores of those that matter (`exact_scores`); else None."""
        if not self.is_exact:
            return None
        wanted = Wanted(places, targets_U)
        return lambda them: exact_scores(self.model, them, self.codes.codes, self.trie, wanted, group=self.group)

    def _searched(self, histories: Sequences, k: int, *, fills: bool) -> Recommendations:
        search = Search(num_beams=self.num_beams, k=k, constrained=self.is_constrained, fills=fills)
        found = recommend_by_codes(self.model, histories, self.codes.codes, self.trie, search, self.group)
        return Recommendations(*found)

    def save(self, folder: Path) -> None:
        """Writes `generator.safetensors`, `generator.json` and `codes.safetensors`."""
        save_tensors(folder / GENERATOR_FILE, self.model.state_dict())
        shape = {"t5": self.model.config.model_dump(mode="json"), "has_dedup_level": self.has_dedup_level}
        write_json(folder / "generator.json", shape)
        self.codes.save(folder / CODES_FILE, self.item_keys)

    @classmethod
    def load(cls, folder: Path, dataset: Dataset, context: FitContext) -> CodeRecommender:
        """The recommender that `save` wrote; `DataError` when it was made for other items."""
        shape = read_json(folder / "generator.json")
        keys = dataset.catalog.keys
        codes = CodeTable.load(folder / CODES_FILE, keys)
        model = CodeSeq2Seq(T5Config.model_validate(shape["t5"]), codes.sizes)
        model.load_state_dict(load_tensors(folder / GENERATOR_FILE))
        has_dedup_level = shape["has_dedup_level"]
        return cls(model.to(context.device), codes, context, item_keys=keys, has_dedup_level=has_dedup_level)

    @property
    def semantic_levels(self) -> int:
        """Code levels, the de-duplication level left aside."""
        return self.codes.num_levels - self.has_dedup_level

    def item_sharers(self) -> np.ndarray:
        """(N,) int64: how many items, itself included, have item i + 1's codes without the de-duplication level."""
        return self.codes.sharers(self.semantic_levels).cpu().numpy()

    def item_tuples(self) -> np.ndarray:
        """(N,) int64 a number for item i + 1's whole tuple, equal exactly where the tuples are."""
        return tuple_keys(self.codes.codes[1:]).unique(return_inverse=True)[1].cpu().numpy()

    def health(self) -> dict[str, Any]:
        """Parameters and the state of the codes: use per level, perplexity, collisions."""
        num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        semantic_codes = self.codes.codes[1:, : self.semantic_levels].cpu()
        size = max(self.codes.sizes)
        return {"num_parameters": num_parameters, "codebook_size": size, **code_health(semantic_codes, size)}


def fit_on_codes(
    folder: Path,
    generator: T5Config,
    training: GeneratorTraining,
    dataset: Dataset,
    context: FitContext,
    *,
    has_dedup_level: bool = True,
    start: Callable[[CodeSeq2Seq], None] | None = None,
) -> CodeRecommender:
    """A new generator trained on the frozen codes that `folder` holds (METHODS B.3).

    `start` gives it other weights than the drawn ones.
    """
    keys = dataset.catalog.keys
    codes = CodeTable.load(folder / CODES_FILE, keys)
    model = new_generator(generator, codes, context)
    if start is not None:
        start(model)
    recommender = CodeRecommender(model, codes, context, item_keys=keys, has_dedup_level=has_dedup_level)
    return fit_generator(recommender, training, dataset, context)


def load_recommender(folder: Path, config: Config, dataset: Dataset, context: FitContext) -> CodeRecommender:
    """The `Method.load` of every method that recommends by codes."""
    return CodeRecommender.load(folder, dataset, context)


# A `Method` that recommends by codes, with what such methods have in common.
code_method = partial(
    Method,
    family="generative",
    is_distributed=True,
    load=load_recommender,
    effort=lambda config: config.training.epochs,
    counts=counts_on_codes,
)

# The lite preset: the same code with sizes for two CPU cores, chosen by validation NDCG@10. Narrow and shallow, because
# on a few thousand samples the number of steps decides; the standard deviation keeps signals' size at width 64.
LITE_T5 = T5Config(
    d_model=64, d_ff=128, num_heads=4, d_head=16, encoder_layers=1, decoder_layers=1, dropout=0.1, init_std=0.125
)
LITE_TRAINING = GeneratorTraining(
    learning_rate=3e-3, weight_decay=0.05, batch_size=64, epochs=24, warmup_epochs=1, evaluate_every=8
)
# Changes to both for `Method.tiny`.
TINY_T5 = {"d_model": 32, "d_ff": 64, "num_heads": 2, "dropout": 0.0}
TINY_TRAINING = {"learning_rate": 5e-3, "batch_size": 32, "epochs": 30, "warmup_epochs": 2, "evaluate_every": 15}
