"""ETEGRec's training procedure: alternating stage, then fine-tuning with the tokenizer frozen (METHODS C.3).

Shape legend: B samples, L code levels, U samples whose targets count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from etegrec.artifacts import adapters
from etegrec.model import ETEGRec
from etegrec.objectives import combined, first_occurrences, l_rec
from etegrec.phases import PHASES
from harness.data.dataset import Dataset, Sequences
from harness.data.samples import PrefixSamples
from harness.evaluation.outcomes import validation_score
from harness.generative.generator import (
    Batch,
    CodeRecommender,
    OwnSamples,
    adamw,
    own_samples,
    prefix_batches,
    token_losses,
)
from harness.generative.tokenizer.codes import flat_health
from harness.interfaces import FitContext
from harness.nn.code_seq2seq import GeneratorOutput, LaidOut
from harness.nn.moving import moved
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan, no_measures
from harness.training.schedules import warmup_then_cosine


class Chunk(NamedTuple):
    """Samples that are each other's negatives, on the device."""

    histories: Sequences | LaidOut  # B rows
    targets_B: Tensor
    counted_U: Tensor  # rows whose targets count in SIA, PSA and L_SQ: those where a target stands for the first time
    share: float  # of the batch


class ETEGRecTraining:
    """The stages of one fit: which losses move which part in which epoch (METHODS C.4)."""

    def __init__(self, model: ETEGRec, dataset: Dataset, context: FitContext):
        self.model = model
        self.config = model.config
        self.dataset = dataset
        self.context = context
        self.samples = PrefixSamples.of(dataset)
        self.recommender_parts = nn.ModuleList([model.generator, model.sia_adapter, model.psa_adapter])
        self.rec_weight = len(model.codebook_sizes) if self.config.rec_tokens == "sum" else 1  # of the mean over codes
        self.steps_per_epoch = -(-len(self.samples) // self.config.batch_size)

    def recommender(self) -> CodeRecommender:
        """The recommender with the present weights and codes."""
        keys = self.dataset.catalog.keys
        return CodeRecommender(self.model.generator, self.model.code_table(), self.context, item_keys=keys)

    def first_stage(self) -> TrainingPlan:
        """Alternating optimisation (METHODS C.3 step 3), or w/o AT joint optimisation (D.1)."""
        config = self.config
        return TrainingPlan(
            name="alternating" if config.alternating else "joint",
            model=self.model,
            learners={"tokenizer": self.tokenizer_learner(), "recommender": self.recommender_learner()},
            phase_of=self.phase_of,
            batches=self.batches,
            epochs=config.epochs,
            score=self.score,
            # The end of a recommender epoch: never right after a tokenizer epoch, whose codes are new to R (C.5 #34).
            score_every=config.evaluate_every,
            patience=config.patience,
            present=self.recommender,
        )

    def finetuning_stage(self) -> TrainingPlan:
        """The tokenizer frozen for good, the recommender annealed with a fresh optimiser (METHODS C.3 step 5)."""
        config, finetuning = self.config, self.config.finetuning
        phase = self.phase("recommender", aligned=finetuning.keep_alignments)
        learner = Learner(
            self.optimizer([*self.recommender_parts.parameters()], finetuning.learning_rate),
            warmup_then_cosine(0, finetuning.epochs * self.steps_per_epoch),
            config.max_norm,
        )
        return TrainingPlan(
            name="finetuning",
            model=self.model,
            learners={"recommender": learner},
            phase_of=lambda epoch: phase,
            batches=self.batches,
            epochs=finetuning.epochs,
            score=self.score,
            score_every=finetuning.evaluate_every,
            patience=finetuning.patience,
            present=self.recommender,
        )

    def batches(self, stream: np.random.Generator) -> Iterable[Batch]:
        """One epoch of shuffled prefix samples."""
        return prefix_batches(self.samples, self.config.batch_size, stream)

    def score(self) -> float:
        """Validation NDCG@10 with the present weights and codes."""
        return validation_score(self.recommender(), self.dataset)

    # Phases: who moves, and by what.

    def phase_of(self, epoch: int) -> Phase:
        """A tokenizer epoch at the start of each cycle, recommender epochs after it; w/o AT, joint epochs alone."""
        config = self.config
        alternate = "tokenizer" if epoch % config.cycle == 0 else "recommender"
        name = alternate if config.alternating else "joint"
        return self.phase(name, aligned=epoch >= config.alignment_warmup_epochs)

    def phase(self, name: str, *, aligned: bool) -> Phase:
        """The phase that a row of `PHASES` describes, with SIA and PSA or without."""
        rule = PHASES[name]
        end = self.refresh_codes if rule.refreshes_codes else no_measures
        losses, prepare = partial(self.losses_of, name, aligned=aligned), partial(self.prepared, name, aligned=aligned)
        return Phase(name, rule.learners, losses, partial(self.thaw, name), end, prepare)

    def thaw(self, name: str) -> None:
        """Lets the phase's parts move and freezes the rest; a frozen generator is in eval mode (C.5 #24)."""
        moves = PHASES[name].moves
        self.model.train("generator" in moves).requires_grad_(False)
        for part in moves:
            getattr(self.model, part).requires_grad_(True)
        if name == "tokenizer":
            self.model.sia_adapter.requires_grad_(self.config.sia_adapter_in_tokenizer_epochs)

    def refresh_codes(self) -> dict[str, float]:
        """Tokenises all items anew; the share of items whose code tuple changed, and the new codes' health.

        Of a training in bf16 also the share of items that would have other codes in bf16; what they get is fp32's.
        """
        changed, model = self.model.refresh_codes(), self.model
        measures = {"codes_changed": changed, **flat_health(model.codes_NL[1:, :-1], model.codebook_sizes[0])}
        if self.context.precision == "bf16":
            measures["codes_differing_in_bf16"] = model.tokenizer.differing_in_bf16(model.vectors_ND[1:])
        return measures

    # Losses, by chunks whose samples are each other's negatives (C.5 #10); chunks count by their size. Several
    # processes share a batch by whole chunks, and by samples where there are no negatives.

    def chunks(self, batch: Batch) -> Iterator[Chunk]:
        """This process's chunks of a batch."""
        size = self.config.chunk_size
        total = len(batch.targets)
        for start in range(0, total, size)[self.context.group.own]:
            rows = range(start, min(start + size, total))
            chunk = batch if len(rows) == total else batch.rows(rows)
            counted = first_occurrences(chunk.targets) if self.config.unique_targets else np.arange(len(rows))
            there = moved({"targets": chunk.targets, "counted": counted}, self.context.device)
            yield Chunk(chunk.histories, there["targets"], there["counted"], len(rows) / total)

    def prepared(self, name: str, batch: Batch, *, aligned: bool) -> OwnSamples | list[Chunk]:
        """A batch of the phase as `losses_of` takes it: what of the work can be done before the step."""
        device, generator = self.context.device, self.model.generator
        if name == "recommender" and not aligned:  # samples that do not meet in the loss
            return own_samples(generator, batch, device, self.context.group)
        chunks = self.chunks(batch)
        return [chunk._replace(histories=generator.prepared(chunk.histories, device)) for chunk in chunks]

    def generate(self, histories: Sequences | LaidOut, targets_B: Tensor) -> tuple[GeneratorOutput, Tensor]:
        """The generator's output under teacher forcing, and the targets' codes."""
        codes_BL = self.model.codes_NL[targets_B]
        return self.model.generator(histories, codes_BL, self.model.codes_NL), codes_BL

    def generation_losses(self, own: OwnSamples) -> Iterator[Losses]:
        """L_REC alone."""
        if own.share:
            for loss in token_losses(self.model.generator, own.histories, own.targets_B, self.model.codes_NL):
                yield {"total": own.share * self.rec_weight * loss}

    def losses(self, name: str, batch: Batch, *, aligned: bool) -> Iterator[Losses]:
        """The losses of a batch that was not prepared."""
        return self.losses_of(name, self.prepared(name, batch, aligned=aligned), aligned=aligned)

    def losses_of(self, name: str, prepared: OwnSamples | list[Chunk], *, aligned: bool) -> Iterator[Losses]:
        """The phase's own terms, with `aligned` mu L_SIA + lambda L_PSA too (METHODS C.2), a chunk at a time."""
        terms, model = PHASES[name].terms, self.model
        if "rec" in terms and self.config.adapters_while_off == "decay":
            self.start_adapters_at_zero()
        if isinstance(prepared, OwnSamples):
            yield from self.generation_losses(prepared)
            return
        if name == "joint" and self.config.joint_refresh == "step":
            model.refresh_codes()
            self.context.group.copy_from_main([model.codes_NL])
        aligned = aligned and bool(self.config.mu or self.config.lambda_)
        for chunk in prepared:
            losses: Losses = {}
            if "rec" in terms:
                output, codes_BL = self.generate(chunk.histories, chunk.targets_B)
                summary = output.summary
                losses["rec"] = self.rec_weight * l_rec(output.logits_LBK, codes_BL)
            elif aligned:  # R only runs forward
                with torch.no_grad():
                    summary = model.generator.summary(chunk.histories, model.codes_NL)
            if "sq" in terms:
                losses["sq"] = model.quantisation(chunk.targets_B, chunk.counted_U)
            if aligned:
                losses |= model.alignments(summary, chunk.targets_B, chunk.counted_U)
            yield self.weighted(losses, chunk.share)

    def start_adapters_at_zero(self) -> None:
        """Gives the adapters a gradient of 0 for the losses to add to, as alignments times 0 would (C.5 #39)."""
        for parameter in adapters(self.model).parameters():
            parameter.grad = torch.zeros_like(parameter)

    def weighted(self, losses: Losses, share: float) -> Losses:
        """The losses scaled by the chunk's share, and their weighted total."""
        total = combined(losses, self.config.mu, self.config.lambda_)
        return {name: share * loss for name, loss in {**losses, "total": total}.items()}

    # Optimisers and schedules.

    def optimizer(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
        """AdamW with the config's weight decay, on norms and biases too unless told otherwise (C.5 #26)."""
        decay = self.config.weight_decay
        if self.config.decay_norms:
            return adamw(parameters, learning_rate, decay)
        parameters = list(parameters)
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in parameters if parameter.ndim >= 2]},
            {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=decay, fused=True)

    def tokenizer_learner(self) -> Learner:
        """T, with the SIA adapter if its phase moves it too; a schedule over tokenizer steps alone (C.3)."""
        config = self.config
        parameters = [*self.model.tokenizer.parameters()]
        if config.alternating and config.sia_adapter_in_tokenizer_epochs:
            parameters += self.model.sia_adapter.parameters()
        steps = self.steps_per_epoch / config.cycle if config.alternating else self.steps_per_epoch
        schedule = warmup_then_cosine(config.warmup_epochs * steps, config.epochs * steps)
        return Learner(self.optimizer(parameters, config.learning_rate_tokenizer), schedule, config.max_norm)

    def recommender_learner(self) -> Learner:
        """R with both adapters; only (C-1)/C of the cosine is traversed, as released (C.3)."""
        config = self.config
        steps = self.steps_per_epoch
        schedule = warmup_then_cosine(config.warmup_epochs * steps, config.epochs * steps)
        parameters = self.recommender_parts.parameters()
        return Learner(self.optimizer(parameters, config.learning_rate_recommender), schedule, config.max_norm)
