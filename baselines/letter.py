"""LETTER: a tokenizer aligned with collaborative vectors and kept diverse, and a generator (METHODS B.4).

The tokenizer has four semantic levels and no de-duplication level, as the official code: the few items that still share
a code tuple are recommended one after another, in the order of their ids.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from baselines.letter_tokenizer import LetterTokenizerConfig, fit_letter_tokenizer, released, selection_assumptions
from harness.artifacts import (
    CODES_FILE,
    PAPER_ENCODER,
    TEXT_VECTORS,
    TINY_TOKENIZER,
    ReadsItemVectors,
    check_width,
    item_vectors,
    item_vectors_assumptions,
    text_assumptions,
)
from harness.data.dataset import Dataset
from harness.data.text.vectors import TextConfig, load_vectors
from harness.generative.counted import tokenizer_counts
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
from harness.generative.tokenizer.codes import CodeTable
from harness.generative.tokenizer.fit import save_tokenizer
from harness.generative.tokenizer.rqvae import RQVAEConfig
from harness.interfaces import ArtifactKind, Artifacts, FitContext, Need
from harness.nn.t5 import T5Config
from harness.sequence.sasrec import LITE_VECTORS, TINY, vectors_config


class LETTERConfig(ReadsItemVectors):
    """LETTER: text vectors, collaborative vectors, tokenizer, generator."""

    text: TextConfig = Field(default_factory=TextConfig)
    tokenizer: LetterTokenizerConfig = Field(default_factory=LetterTokenizerConfig)
    generator: T5Config = Field(default_factory=T5Config)
    training: GeneratorTraining = Field(description="its temperature is the one of the ranking-guided loss")

    @model_validator(mode="after")
    def _vectors_have_the_width_of_codes(self) -> LETTERConfig:
        if self.vectors.hidden_size != self.tokenizer.rqvae.code_dim:
            raise ValueError(
                "vectors.hidden_size = tokenizer.rqvae.code_dim must hold, but got "
                f"{self.vectors.hidden_size} and {self.tokenizer.rqvae.code_dim}; set both to the same width"
            )
        return self


def build_letter_tokenizer(
    config: LetterTokenizerConfig, dataset: Dataset, inputs: Artifacts, context: FitContext
) -> None:
    """Trains the tokenizer on the inputs `text` and `collaborative`; writes it and the items' codes."""
    keys = dataset.catalog.keys
    text, collaborative = (load_vectors(inputs[name], keys) for name in ("text", "collaborative"))
    rqvae, codes_NL = fit_letter_tokenizer(config, text, collaborative, context)
    save_tokenizer(rqvae, context.folder)
    sizes = (config.rqvae.codebook_size,) * codes_NL.shape[1]
    CodeTable.of(codes_NL.cpu(), sizes).save(context.folder / CODES_FILE, keys)


LETTER_TOKENIZER = ArtifactKind(
    "letter-tokenizer",
    build_letter_tokenizer,
    effort=lambda config: config.epochs / 12,
    counts=lambda config, dataset: tokenizer_counts(config, config.rqvae, dataset, step="letter"),
    version=3,
)


def needs(config: LETTERConfig) -> dict[str, Need]:
    """A tokenizer of the text vectors, aligned with the collaborative vectors."""
    text = Need(TEXT_VECTORS, config.text)
    return {
        "tokenizer": Need(
            LETTER_TOKENIZER,
            config.tokenizer,
            {"text": text, "collaborative": item_vectors(config)},
        )
    }


def fit(config: LETTERConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> CodeRecommender:
    """The generator trained on the tokenizer's codes with the ranking-guided loss."""
    has_dedup_level = config.tokenizer.dedup
    return fit_on_codes(
        artifacts["tokenizer"], config.generator, config.training, dataset, context, has_dedup_level=has_dedup_level
    )


# The generator's learning rates as TIGER's; the temperatures that LETTER's author advises to tune; and the weights of
# its released script, its code's defaults, and what lies between (METHODS B.4).
GRID = {
    "training.learning_rate": (5e-3, 3e-3, 1e-3),
    "training.temperature": (0.7, 0.8, 0.9, 1.0),
    "tokenizer.alpha_cf": (0.01, 0.02, 0.1),
    "tokenizer.beta_div": (1e-4, 1e-2, 1e-1),
}


def official_recipe(config: LETTERConfig) -> LETTERConfig:
    """The released tokenizer's choices; the generator stays that of all generative methods (METHODS B.4)."""
    return config.replace(tokenizer=released(config.tokenizer))


def assumptions(config: LETTERConfig) -> list[str]:
    """What stands in for the published, as one line each."""
    return [
        *text_assumptions(config.text),
        *item_vectors_assumptions(config),
        *selection_assumptions(config.tokenizer),
    ]


METHOD = code_method(
    name="letter",
    title="LETTER",
    groups=("core", "paper", "generative"),
    inputs=("text",),
    place=350,
    config=LETTERConfig,
    fit=fit,
    version=3,
    needs=needs,
    presets={
        "paper": LETTERConfig(
            text=TextConfig(encoder=PAPER_ENCODER),
            vectors=vectors_config(32),
            training=GeneratorTraining(temperature=0.9),
        ),
        "lite": LETTERConfig(
            vectors=LITE_VECTORS.replace(hidden_size=32),
            tokenizer=LetterTokenizerConfig(
                rqvae=RQVAEConfig(hidden_sizes=(128, 64), code_dim=32, num_levels=4),
                epochs=200,
                batch_size=512,
                evaluate_every=20,
                num_groups=10,
            ),
            generator=LITE_T5,
            training=LITE_TRAINING.replace(temperature=0.9),
        ),
    },
    tiny={
        "text": {"dim": 8},
        "vectors": TINY,
        "tokenizer": {**TINY_TOKENIZER, "num_groups": 3, "refresh_groups_every": 30},
        "generator": TINY_T5,
        "training": {**TINY_TRAINING, "epochs": 16, "evaluate_every": 8},  # its codes know of the pattern
    },
    recipes={"official": official_recipe},
    grid=GRID,
    released_decoding="trie",
    assumptions=assumptions,
    obstacle=lambda config, dataset: check_width(config, dataset, config.tokenizer.rqvae.code_dim),
)
