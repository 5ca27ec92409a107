"""ETEGRec's entry in the registry: presets, recipes, published per-data-set values, ablations."""

from __future__ import annotations

from etegrec.ablations import ABLATIONS
from etegrec.config import ETEGRecConfig, FineTuning
from etegrec.fit import effort, fit, load, needs
from harness.artifacts import LITE_TOKENIZER
from harness.generative.generator import LITE_T5, LITE_TRAINING
from harness.interfaces import Curve, Method
from harness.sequence.sasrec import LITE_VECTORS, softmax_assumptions, vectors_config

PAPER = ETEGRecConfig(vectors=vectors_config(256))

LITE = ETEGRecConfig(
    vectors=LITE_VECTORS,
    tokenizer=LITE_TOKENIZER,
    generator=LITE_T5,
    alignment_warmup_epochs=4,
    # Cycles of four, as both sweeps chose by validation NDCG@10: 18 recommender epochs, and 8 of fine-tuning.
    cycle=4,
    epochs=24,
    evaluate_every=8,
    patience=None,
    batch_size=LITE_TRAINING.batch_size,
    chunk_size=LITE_TRAINING.batch_size,
    learning_rate_recommender=LITE_TRAINING.learning_rate,
    learning_rate_tokenizer=1e-4,
    warmup_epochs=1,
    finetuning=FineTuning(epochs=8, learning_rate=1e-3, evaluate_every=4, patience=None),
    rebuilt=LITE_TRAINING,
)

# The paper's best mu for each data set (its section 4.4.3), and the released warm-up of 8,000 batches of 512 samples in
# recommender epochs of each (METHODS C.3).
PUBLISHED = {
    "instrument": {"mu": 3e-4, "warmup_epochs": 12.0},
    "scientific": {"mu": 3e-4, "warmup_epochs": 15.7},
    "game": {"mu": 1e-3, "warmup_epochs": 7.7},
}


def for_dataset(config: ETEGRecConfig, dataset: str) -> ETEGRecConfig:
    """The config with the paper's values for a data set that it covers; others keep the defaults."""
    return config.replace(**PUBLISHED.get(dataset, {}))


def paper_recipe(config: ETEGRecConfig) -> ETEGRecConfig:
    """The paper's reading wherever it is defined (METHODS C.5, column 2)."""
    rqvae = config.tokenizer.rqvae.replace(loss_form="sum")
    return config.replace(
        tokenizer=config.tokenizer.replace(rqvae=rqvae),
        sia_levels="sum",
        sia_entry="encoder",
        adapter_hidden=(config.generator.d_model,),
        alignment_warmup_epochs=0,
        sia_adapter_in_tokenizer_epochs=False,
        unique_targets=False,
        tokenizer_items="all",
    )


def official_recipe(config: ETEGRecConfig) -> ETEGRecConfig:
    """The released code's choices (METHODS C.5, column 3), its weights of the alignments included (#14)."""
    return config.replace(
        sia_sign="plus",
        mu=1e-4,
        lambda_=3e-4,
        sia_adapter_in_tokenizer_epochs=False,
        tokenizer=config.tokenizer.replace(kmeans_init="first_batch"),
    )


# The paper's grids (its section 4.1.4; METHODS C.3).
GRID = {
    "learning_rate_recommender": (5e-3, 3e-3, 1e-3),
    "learning_rate_tokenizer": (5e-4, 1e-4, 5e-5),
    "cycle": (2, 4),
    "mu": (5e-3, 1e-3, 5e-4, 3e-4, 1e-4),
    "lambda_": (5e-3, 1e-3, 5e-4, 3e-4, 1e-4),
}

# Figure 4 (METHODS D.4): one weight moves, the other stays at its best value; the same value in both phases.
CURVES = {
    "mu": Curve((1e-4, 3e-4, 5e-4, 1e-3, 5e-3), r"$\mu$ (weight of SIA)", {"lambda_": 1e-4}),
    "lambda_": Curve((0.0, 1e-4, 3e-4, 5e-4, 1e-3, 5e-3), r"$\lambda$ (weight of PSA)"),
}

METHOD = Method(
    name="etegrec",
    title="ETEGRec",
    family="generative",
    place=400,
    is_proposed=True,
    config=ETEGRecConfig,
    fit=fit,
    is_distributed=True,
    version=3,
    load=load,
    needs=needs,
    presets={"paper": PAPER, "lite": LITE},
    recipes={"paper": paper_recipe, "official": official_recipe},
    ablations=ABLATIONS,
    assumptions=lambda config: softmax_assumptions(config.vectors),
    effort=effort,
    grid=GRID,
    curves=CURVES,
    for_dataset=for_dataset,
)
