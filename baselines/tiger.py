"""TIGER (from item text) and TIGER-SAS (from SASRec vectors): RQ-VAE codes, frozen, and the generator (METHODS B.3)."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from harness.artifacts import (
    LITE_TOKENIZER,
    OWN_CODES,
    PAPER_ENCODER,
    TEXT_VECTORS,
    TINY_TOKENIZER,
    TOKENIZER,
    OwnCodes,
    ReadsItemVectors,
    item_vectors,
    item_vectors_assumptions,
    text_assumptions,
)
from harness.config import Config
from harness.data.dataset import Dataset
from harness.data.text.own import pinned, short_name
from harness.data.text.vectors import TextConfig
from harness.generative.generator import (
    LITE_T5,
    LITE_TRAINING,
    TINY_T5,
    TINY_TRAINING,
    CodeRecommender,
    GeneratorTraining,
    code_method,
    fit_on_codes,
)
from harness.generative.tokenizer.fit import TokenizerConfig
from harness.interfaces import Artifacts, FitContext, Need
from harness.nn.t5 import T5Config
from harness.sequence.sasrec import LITE_VECTORS, TINY, vectors_config


class TIGERConfig(Config):
    """TIGER: text vectors, tokenizer, generator; or codes of one's own, and the generator."""

    added_later: ClassVar[frozenset[str]] = frozenset({"codes"})

    text: TextConfig = Field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    generator: T5Config = Field(default_factory=T5Config)
    training: GeneratorTraining = Field(default_factory=GeneratorTraining)
    codes: str | None = Field(
        None, pattern="^file:.", description="file:PATH takes item codes from a file, as `harness codes` reads them"
    )

    def pinned(self) -> Self:
        """The config with the content of the file that it names."""
        config = super().pinned()
        return config if config.codes is None else config.replace(codes=f"file:{pinned(config.codes[len('file:') :])}")


class TIGERSASConfig(ReadsItemVectors):
    """TIGER-SAS: ETEGRec's initial tokenizer, frozen, and TIGER's generator: no alignment, no alternation."""

    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    generator: T5Config = Field(default_factory=T5Config)
    training: GeneratorTraining = Field(default_factory=GeneratorTraining)


def tiger_needs(config: TIGERConfig) -> dict[str, Need]:
    """A tokenizer of the text vectors, or the codes of a file."""
    if config.codes is not None:
        return {"tokenizer": Need(OWN_CODES, OwnCodes(file=config.codes.removeprefix("file:")))}
    return {"tokenizer": Need(TOKENIZER, config.tokenizer, {"vectors": Need(TEXT_VECTORS, config.text)})}


def tiger_sas_needs(config: TIGERSASConfig) -> dict[str, Need]:
    """A tokenizer of the item vectors; the same stage as ETEGRec's, if the configs agree."""
    return {"tokenizer": Need(TOKENIZER, config.tokenizer, {"vectors": item_vectors(config)})}


def fit(
    config: TIGERConfig | TIGERSASConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext
) -> CodeRecommender:
    """The generator trained on the tokenizer's codes; those of a file are taken as they are."""
    own = isinstance(config, TIGERConfig) and config.codes is not None
    return fit_on_codes(
        artifacts["tokenizer"], config.generator, config.training, dataset, context, has_dedup_level=not own
    )


def tiger_assumptions(config: TIGERConfig) -> list[str]:
    """What stands in for the published, as one line each."""
    if config.codes is None:
        return text_assumptions(config.text)
    return [f"item codes from the file {short_name(config.codes)} instead of an RQ-VAE of item texts"]


# The learning rates of METHODS B.3; how strongly the generator is held back is not published, so a light grid.
GRID = {"training.learning_rate": (5e-3, 3e-3, 1e-3), "generator.dropout": (0.1, 0.2, 0.3)}

TIGER = code_method(
    name="tiger",
    title="TIGER",
    groups=("core", "paper", "generative"),
    inputs=("text",),
    place=300,
    config=TIGERConfig,
    fit=fit,
    version=3,
    needs=tiger_needs,
    presets={
        "paper": TIGERConfig(text=TextConfig(encoder=PAPER_ENCODER)),
        "lite": TIGERConfig(tokenizer=LITE_TOKENIZER, generator=LITE_T5, training=LITE_TRAINING),
    },
    tiny={
        "text": {"dim": 8},
        "tokenizer": TINY_TOKENIZER,
        "generator": TINY_T5,
        # Codes that come from texts alone know nothing of the pattern, so they take longer.
        "training": {**TINY_TRAINING, "epochs": 80, "evaluate_every": 40},
    },
    grid=GRID,
    assumptions=tiger_assumptions,
)

TIGER_SAS = code_method(
    name="tiger-sas",
    title="TIGER-SAS",
    groups=("core", "paper", "generative"),
    place=310,
    config=TIGERSASConfig,
    fit=fit,
    version=3,
    needs=tiger_sas_needs,
    presets={
        "paper": TIGERSASConfig(vectors=vectors_config(256)),
        "lite": TIGERSASConfig(
            vectors=LITE_VECTORS, tokenizer=LITE_TOKENIZER, generator=LITE_T5, training=LITE_TRAINING
        ),
    },
    tiny={"vectors": TINY, "tokenizer": TINY_TOKENIZER, "generator": TINY_T5, "training": TINY_TRAINING},
    grid=GRID,
    assumptions=item_vectors_assumptions,
)
