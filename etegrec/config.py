"""ETEGRec's config. Where the paper and the released code differ, each choice has a name here (METHODS C.5)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from harness.artifacts import ReadsItemVectors
from harness.config import Config
from harness.generative.generator import GeneratorTraining
from harness.generative.tokenizer.fit import TokenizerConfig
from harness.nn.t5 import T5Config


class FineTuning(Config):
    """The last stage: the tokenizer frozen for good, the recommender annealed (METHODS C.3 step 5)."""

    epochs: int = Field(default=100, ge=0, description="0: no fine-tuning")
    learning_rate: float = Field(default=5e-4, gt=0)
    evaluate_every: int = Field(default=1, ge=1)
    patience: int | None = Field(default=10, ge=1)
    keep_alignments: bool = Field(default=False, description="C.5 #18: keep SIA and PSA in the loss")


class ETEGRecConfig(ReadsItemVectors):
    """ETEGRec: item vectors, pre-trained tokenizer, alternating stage, fine-tuning stage."""

    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    generator: T5Config = Field(default_factory=T5Config)

    # Weights of the alignments, the same in both phases.
    mu: float = Field(default=3e-4, ge=0, description="weight of SIA")
    lambda_: float = Field(default=1e-4, ge=0, description="weight of PSA")
    tau: float = Field(default=0.07, gt=0, description="PSA's temperature (C.5 #8)")
    alignment_warmup_epochs: int = Field(default=10, ge=0, description="epochs without SIA and PSA (C.5 #11)")
    sia_sign: Literal["minus", "plus"] = Field(default="minus", description="of the distances in SIA (C.5 #1)")
    sia_levels: Literal["mean", "sum"] = Field(default="mean", description="SIA over levels (C.5 #4)")
    sia_entry: Literal["quantizer", "encoder"] = Field(
        default="quantizer", description="where z^E enters the tokenizer (C.5 #2)"
    )
    adapter_hidden: tuple[int, ...] = Field(default=(), description="hidden widths of both adapters (C.5 #3)")
    sia_adapter_in_tokenizer_epochs: bool = Field(
        default=True, description="train the SIA adapter in tokenizer epochs too (C.5 #23)"
    )
    adapters_while_off: Literal["idle", "decay"] = Field(
        default="idle",
        description="what an adapter does while its alignment is off; decay: its gradient is 0 instead of none, so "
        "weight decay and the optimiser's step count go on (C.5 #39)",
    )
    rec_tokens: Literal["mean", "sum"] = Field(default="mean", description="L_REC over a target's codes (C.5 #12)")
    unique_targets: bool = Field(default=True, description="a target counts once in SIA, PSA and L_SQ (C.5 #9)")
    tokenizer_items: Literal["targets", "all"] = Field(
        default="targets", description="items whose L_SQ is minimised in tokenizer epochs (C.5 #35)"
    )

    # The alternating stage (METHODS C.3 step 3).
    alternating: bool = Field(default=True, description="false: w/o AT, both parts move in every step (D.1)")
    joint_refresh: Literal["step", "epoch"] = Field(default="step", description="when w/o AT renews the codes")
    cycle: int = Field(default=2, ge=2, description="C: a tokenizer epoch, then C-1 recommender epochs")
    epochs: int = Field(default=400, ge=1, description="of both kinds together, at most")
    evaluate_every: int = Field(default=2, ge=1, description="epochs")
    patience: int | None = Field(default=15, ge=1, description="evaluations without improvement")
    batch_size: int = Field(default=2048, ge=1)
    chunk_size: int = Field(default=512, ge=2, description="samples that are each other's negatives (C.5 #10)")
    learning_rate_recommender: float = Field(default=5e-3, gt=0, description="lr_rec")
    learning_rate_tokenizer: float = Field(default=1e-4, gt=0, description="lr_id")
    warmup_epochs: float = Field(default=15.7, ge=0, description="of the recommender's schedule, in its epochs")
    weight_decay: float = Field(default=0.05, ge=0)
    decay_norms: bool = Field(default=True, description="weight decay on norms and biases too (C.5 #26)")
    max_norm: float = Field(default=1.0, gt=0)

    finetuning: FineTuning = Field(default_factory=FineTuning)

    # w/o ETE (METHODS D.1).
    end_to_end: bool = Field(default=True, description="false: w/o ETE, a new recommender on the final codes")
    rebuilt: GeneratorTraining = Field(
        default_factory=GeneratorTraining, description="how w/o ETE trains its new recommender"
    )

    @model_validator(mode="after")
    def _rules_between_fields(self) -> ETEGRecConfig:
        if self.chunk_size > self.batch_size:
            raise ValueError(
                f"chunk_size <= batch_size must hold, but got chunk_size={self.chunk_size}, "
                f"batch_size={self.batch_size}; lower chunk_size"
            )
        # C.5 #34: right after a tokenizer epoch the recommender has not seen the new codes.
        if self.alternating and (math.gcd(self.evaluate_every, self.cycle) == 1 or self.epochs % self.cycle == 1):
            raise ValueError(
                "an evaluation must not follow a tokenizer epoch, the first of each cycle, but got "
                f"evaluate_every={self.evaluate_every}, epochs={self.epochs}, cycle={self.cycle}; make both multiples "
                "of cycle"
            )
        return self
