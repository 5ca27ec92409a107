"""DIGER: the generator and the codebooks trained in every step, the codes tried out under noise (METHODS B.12).

Codes enter the generator as whole numbers, those of all items as they were at the end of the epoch before: its loss
does not reach the codebooks, in either of the code bases that the method is known from.

Shape legend: B samples, N items, L levels, K codes of a level, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from baselines.diger_tokenizer import Exploration, Noise, explore, hot_rows, item_codes, latent_loss, uncertainty
from harness.artifacts import LITE_TOKENIZER, PAPER_ENCODER, TEXT_VECTORS, TINY_TOKENIZER, TOKENIZER
from harness.config import Config
from harness.data.dataset import Dataset
from harness.data.samples import PrefixSamples
from harness.data.text.own import short_name
from harness.data.text.vectors import TextConfig, load_vectors
from harness.evaluation.outcomes import validation_score
from harness.generative.generator import (
    LITE_T5,
    LITE_TRAINING,
    TINY_T5,
    TINY_TRAINING,
    Batch,
    CodeRecommender,
    GeneratorTraining,
    OwnSamples,
    adamw,
    code_method,
    new_generator,
    own_samples,
    prefix_batches,
    token_losses,
)
from harness.generative.tokenizer.codes import CodeTable, flat_health, replace_codes
from harness.generative.tokenizer.fit import TokenizerConfig, load_tokenizer
from harness.generative.tokenizer.rqvae import RQVAE
from harness.interfaces import Artifacts, FitContext, Need, not_counted
from harness.nn.kernels.precision import full_precision
from harness.nn.moving import moved
from harness.nn.t5 import T5Config
from harness.seeding import numpy_stream
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan, train
from harness.training.schedules import warmup_then_cosine

STAGE = "joint"


class DIGERConfig(Config):
    """DIGER: text vectors, a tokenizer to start from, and one stage in which all is trained (METHODS B.12)."""

    text: TextConfig = Field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    generator: T5Config = Field(default_factory=T5Config)
    training: GeneratorTraining = Field(
        default=GeneratorTraining(learning_rate=1e-3, batch_size=256, epochs=120, warmup_epochs=1, evaluate_every=1),
        description="of the generator; batches, epochs, schedule, weight decay and clip are the tokenizer's too",
    )
    exploration: Exploration = Field(default_factory=Exploration)
    learning_rate_tokenizer: float = Field(default=1e-5, gt=0, description="of the codebooks")
    learning_rate_sigma: float = Field(default=1e-3, gt=0, description="of the noise's scale, where it is learned")
    trained_encoder_layers: int = Field(
        default=0, ge=0, description="upper layers of the tokenizer's encoder that move with the codebooks"
    )

    @model_validator(mode="after")
    def _the_encoder_has_these_layers(self) -> DIGERConfig:
        layers = len(self.tokenizer.rqvae.hidden_sizes) + 1
        if self.trained_encoder_layers > layers:
            raise ValueError(
                f"trained_encoder_layers <= {layers} must hold, the layers of the tokenizer's encoder, but got "
                f"{self.trained_encoder_layers}; lower it"
            )
        return self


class DIGER(nn.Module):
    """Tokenizer, generator, the noise's scale, how often first codes are used, and the items' present codes."""

    vectors_ND: Tensor
    usage_K: Tensor
    codes_NL: Tensor

    def __init__(self, config: DIGERConfig, vectors: Tensor, tokenizer: RQVAE, context: FitContext):
        """`vectors` is (N, D), one row per item in id order."""
        super().__init__()
        self.config = config
        rqvae = config.tokenizer.rqvae
        self.codebook_sizes = (rqvae.codebook_size,) * (rqvae.num_levels + 1)
        self.tokenizer = tokenizer
        self.sigma_L = nn.Parameter(torch.full((rqvae.num_levels,), config.exploration.sigma))
        self.register_buffer("usage_K", torch.full((rqvae.codebook_size,), 1 / rqvae.codebook_size))
        self.register_buffer("vectors_ND", torch.cat([torch.zeros(1, vectors.shape[1]), vectors]), persistent=False)
        self.register_buffer("codes_NL", torch.zeros(len(vectors) + 1, len(self.codebook_sizes), dtype=torch.int64))
        self.refresh_codes()
        self.generator = new_generator(config.generator, self.code_table(), context)

    @torch.no_grad()
    def refresh_codes(self) -> float:
        """The share of items whose code tuple changes when all items are tokenised anew, without noise."""
        semantic = item_codes(self.tokenizer, self.vectors_ND[1:], self.config.exploration, self.config.tokenizer)
        return replace_codes(self.codes_NL, semantic, self.codebook_sizes[-1])

    def code_table(self) -> CodeTable:
        """The items' present codes, as a table that does not change with the model."""
        return CodeTable(self.codes_NL.clone(), self.codebook_sizes)

    def scale_L(self) -> Tensor:
        """The scale of the noise at each level."""
        return self.sigma_L.abs()

    def moving(self) -> list[nn.Parameter]:
        """The tokenizer's parameters that are trained: the codebooks, and upper layers of the encoder."""
        linear = [layer for layer in self.tokenizer.encoder if isinstance(layer, nn.Linear)]
        upper = linear[len(linear) - self.config.trained_encoder_layers :]
        return [self.tokenizer.codebooks_LKD, *(parameter for layer in upper for parameter in layer.parameters())]

    def quantisation(self, targets_B: Tensor, gumbel_LBK: Tensor) -> Tensor:
        """How far the targets' codes under noise are from their latents; counts the use of first codes, where asked."""
        exploration, tokenizer = self.config.exploration, self.tokenizer
        with full_precision(targets_B.device):  # codes under noise turn on little
            latents_BD = tokenizer.encode(self.vectors_ND.index_select(0, targets_B))
        first_KD = tokenizer.codebooks_LKD[0]
        explores_B = (
            hot_rows(latents_BD, first_KD, self.usage_K, exploration) if exploration.spares_rare_codes else None
        )
        noise = Noise(gumbel_LBK, self.scale_L(), explores_B)
        return latent_loss(
            explore(latents_BD, tokenizer.codebooks_LKD, noise, exploration), latents_BD, tokenizer.config
        )


class Prepared(NamedTuple):
    """A batch's targets and their noise, and what of its samples the generator works on in this process."""

    targets_B: Tensor
    gumbel_LBK: Tensor
    own: OwnSamples


class DIGERTraining:
    """The one stage of a fit."""

    noise: np.random.Generator  # of the present epoch, the same in all processes

    def __init__(self, model: DIGER, dataset: Dataset, context: FitContext):
        self.model, self.config, self.dataset, self.context = model, model.config, dataset, context
        self.samples = PrefixSamples.of(dataset)

    def recommender(self) -> CodeRecommender:
        """The recommender with the present weights and codes."""
        keys = self.dataset.catalog.keys
        return CodeRecommender(self.model.generator, self.model.code_table(), self.context, item_keys=keys)

    def plan(self) -> TrainingPlan:
        """Every step moves both parts; all items are tokenised anew at the end of every epoch."""
        training = self.config.training
        return TrainingPlan(
            name=STAGE,
            model=self.model,
            learners=self.learners(),
            phase_of=self.phase_of,
            batches=lambda stream: prefix_batches(self.samples, training.batch_size, stream),
            epochs=training.epochs,
            score=lambda: validation_score(self.recommender(), self.dataset),
            score_every=training.evaluate_every,
            patience=training.patience,
            present=self.recommender,
        )

    def phase_of(self, epoch: int) -> Phase:
        """The same for all epochs, each with noise of its own."""
        begin = partial(self.begin, epoch)
        return Phase(STAGE, ("tokenizer", "generator"), self.losses, begin, self.end, self.prepared)

    def begin(self, epoch: int) -> None:
        """Lets everything move but what of the tokenizer is frozen."""
        self.noise = numpy_stream(self.context.seed, STAGE, "noise", epoch)
        self.model.train()
        self.model.tokenizer.requires_grad_(False)
        for parameter in self.model.moving():
            parameter.requires_grad_(True)
        self.model.sigma_L.requires_grad_(self.config.exploration.learns_sigma)

    def end(self) -> dict[str, float]:
        """Tokenises all items anew; what became of codes and noise."""
        model, exploration = self.model, self.config.exploration
        measures = {"codes_changed": model.refresh_codes(), "sigma": model.scale_L().mean().item()}
        if exploration.spares_rare_codes:
            measures["hot_codes"] = float((model.usage_K > exploration.hot / len(model.usage_K)).sum())
        return measures | flat_health(model.codes_NL[1:, :-1], model.codebook_sizes[0])

    def prepared(self, batch: Batch) -> Prepared:
        """A batch as `losses` takes it, with the next of the epoch's noise."""
        rqvae, device = self.config.tokenizer.rqvae, self.context.device
        gumbel_LBK = self.noise.gumbel(size=(rqvae.num_levels, len(batch.targets), rqvae.codebook_size))
        there = moved({"targets": batch.targets, "noise": gumbel_LBK.astype(np.float32)}, device)
        own = own_samples(self.model.generator, batch, device, self.context.group)
        return Prepared(there["targets"], there["noise"], own)

    def losses(self, batch: Prepared) -> Iterator[Losses]:
        """The tokenizer's, then the generator's in parts.

        Every process makes the tokenizer's of the whole batch, under the same noise: usage, scaled distances and
        balanced codes are those of all its samples.
        """
        model, exploration, group = self.model, self.config.exploration, self.context.group
        latent = model.quantisation(batch.targets_B, batch.gumbel_LBK) / group.size
        penalty = torch.zeros_like(latent)
        if exploration.learns_sigma:
            penalty = uncertainty(model.scale_L(), exploration.offset)[1] / group.size
        yield {"latent": latent, "rec": torch.zeros_like(latent), "total": latent + penalty}
        own, temperature = batch.own, self.config.training.temperature
        if not own.share:
            return
        for loss in token_losses(model.generator, own.histories, own.targets_B, model.codes_NL, temperature):
            rec = own.share * loss
            weighted = rec
            if exploration.learns_sigma:
                weighted = uncertainty(model.scale_L(), exploration.offset)[0] * rec
            yield {"rec": rec, "total": weighted}

    def learners(self) -> dict[str, Learner]:
        """Generator, and codebooks with the noise's scale; each is clipped by itself."""
        config, training, model = self.config, self.config.training, self.model
        steps = -(-len(self.samples) // training.batch_size)
        schedule = warmup_then_cosine(training.warmup_epochs * steps, training.epochs * steps)

        def learner(optimizer: torch.optim.Optimizer) -> Learner:
            return Learner(optimizer, schedule, training.max_norm)

        tokenizer = adamw(model.moving(), config.learning_rate_tokenizer, training.weight_decay)
        if config.exploration.learns_sigma:
            tokenizer.add_param_group({"params": [model.sigma_L], "lr": config.learning_rate_sigma})
        generator = adamw(model.generator.parameters(), training.learning_rate, training.weight_decay)
        return {"tokenizer": learner(tokenizer), "generator": learner(generator)}


def needs(config: DIGERConfig) -> dict[str, Need]:
    """Text vectors, and a tokenizer of them; the same stages as TIGER's, if the configs agree."""
    text = Need(TEXT_VECTORS, config.text)
    return {"vectors": text, "tokenizer": Need(TOKENIZER, config.tokenizer, {"vectors": text})}


def fit(config: DIGERConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> CodeRecommender:
    """Generator and codebooks trained together, from a tokenizer that is trained already."""
    vectors = torch.from_numpy(load_vectors(artifacts["vectors"], dataset.catalog.keys))
    model = DIGER(config, vectors, load_tokenizer(artifacts["tokenizer"]), context).to(context.device)
    training = DIGERTraining(model, dataset, context)
    train(training.plan(), context)
    return training.recommender()


def official_recipe(config: DIGERConfig) -> DIGERConfig:
    """The released count of usage; all else is as released, but for sizes and vectors."""
    return config.replace(exploration=config.exploration.replace(usage="balanced"))


def assumptions(config: DIGERConfig) -> list[str]:
    """What stands in for the published, and what two code bases leave open, as one line each."""
    text = config.text.encoder if config.text.file is None else f"the file {short_name(config.text.file)}"
    lines = [
        f"DIGER: text vectors from {text}; its authors take a language model's, 4,096 wide, RecBoard sentence-t5-xl's",
        "DIGER: starts from TIGER's tokenizer; the authors' is pre-trained with balanced codes at each level",
    ]
    if config.exploration.spares_rare_codes and config.exploration.usage == "nearest":
        lines.append("DIGER: FrqUD counts nearest codes; the released code counts balanced ones, which are used alike")
    return lines


METHOD = code_method(
    name="diger",
    title="DIGER",
    groups=("strong", "generative"),
    inputs=("text",),
    place=360,
    config=DIGERConfig,
    fit=fit,
    needs=needs,
    presets={
        "paper": DIGERConfig(
            text=TextConfig(encoder=PAPER_ENCODER),
            training=DIGERConfig().training.replace(patience=15),
        ),
        "lite": DIGERConfig(
            tokenizer=LITE_TOKENIZER,
            generator=LITE_T5,
            training=LITE_TRAINING,
            learning_rate_tokenizer=1e-4,
        ),
    },
    tiny={
        "text": {"dim": 8},
        "tokenizer": TINY_TOKENIZER,
        "generator": TINY_T5,
        "training": {**TINY_TRAINING, "epochs": 80, "evaluate_every": 40},
    },
    recipes={"official": official_recipe},
    # The decays of both code bases, their values of sigma's offset, and learning rates around the released ones.
    grid={
        "training.learning_rate": (5e-3, 3e-3, 1e-3),
        "learning_rate_tokenizer": (1e-3, 1e-4, 1e-5),
        "exploration.decay": ("frqud", "sdud", "both", "none"),
        "exploration.offset": (0.3, 0.5, 1.7),
    },
    assumptions=assumptions,
    effort=lambda config: 1.1 * config.training.epochs,
    counts=not_counted,  # the quantiser's part of a step
)
