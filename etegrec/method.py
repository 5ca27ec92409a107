"""ETEGRec's entry in the registry: presets, recipes, published per-data-set values, ablations."""

from __future__ import annotations

import math

import torch

from etegrec.ablations import ABLATIONS
from etegrec.artifacts import needs, restore, save_parts
from etegrec.config import ETEGRecConfig, FineTuning
from etegrec.model import ETEGRec
from etegrec.training import ETEGRecTraining
from harness.artifacts import LITE_TOKENIZER, TINY_TOKENIZER, item_vectors_assumptions
from harness.data.dataset import Dataset
from harness.data.text.vectors import load_vectors
from harness.generative.counted import (
    FORWARD_AND_BACKWARD,
    STEP_KERNELS,
    generator_counts,
    generator_operations,
    num_samples,
)
from harness.generative.generator import (
    LITE_T5,
    LITE_TRAINING,
    TINY_T5,
    TINY_TRAINING,
    CodeRecommender,
    code_method,
    fit_on_codes,
)
from harness.generative.tokenizer.fit import load_tokenizer
from harness.interfaces import Artifacts, Counts, Curve, FitContext
from harness.seeding import derive_seed
from harness.sequence.sasrec import LITE_VECTORS, TINY, vectors_config
from harness.training.loop import train

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
    """The paper's reading wherever it is defined (METHODS C.5, column Paper)."""
    rqvae = config.tokenizer.rqvae.replace(loss_form="sum")
    return config.replace(
        tokenizer=config.tokenizer.replace(rqvae=rqvae),
        sia_levels="sum",
        sia_entry="encoder",
        adapter_hidden=(config.generator.d_model,),
        rec_tokens="sum",
        chunk_size=config.batch_size,
        alignment_warmup_epochs=0,
        sia_adapter_in_tokenizer_epochs=False,
        unique_targets=False,
        tokenizer_items="all",
    )


def official_recipe(config: ETEGRecConfig) -> ETEGRecConfig:
    """The released code's choices (METHODS C.5, column Released code), its weights of the alignments included (#14)."""
    return config.replace(
        sia_sign="plus",
        mu=1e-4,
        lambda_=3e-4,
        adapters_while_off="decay",
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


def effort(config: ETEGRecConfig) -> float:
    """About how long the fit takes, what it needs apart, in epochs of a generator; a joint epoch moves both parts."""
    if not config.end_to_end:
        return config.rebuilt.epochs
    if config.alternating:
        return config.epochs + config.finetuning.epochs
    return config.finetuning.epochs or 1.3 * config.epochs


def counts(config: ETEGRecConfig, dataset: Dataset) -> Counts:
    """What all epochs ask of a device. In a tokenizer epoch the generator runs forward alone."""
    sizes, finetuning = config.generator, config.finetuning
    if not config.end_to_end:
        return generator_counts(sizes, dataset, config.rebuilt.epochs, config.rebuilt.batch_size)
    chunks = math.ceil(num_samples(dataset) / config.chunk_size)
    tokenizer = math.ceil(config.epochs / config.cycle) if config.alternating else 0
    moving, step = config.epochs - tokenizer, "recommender" if config.alternating else "joint"
    kernels = chunks * (tokenizer * STEP_KERNELS["tokenizer"] + moving * STEP_KERNELS[step])
    operations = generator_operations(sizes, dataset) * (moving + tokenizer / FORWARD_AND_BACKWARD)
    tuned = generator_counts(sizes, dataset, finetuning.epochs, config.batch_size)
    return Counts(kernels + tuned.kernels, operations + tuned.operations)


def fit(config: ETEGRecConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> CodeRecommender:
    """The fitted ETEGRec, or for w/o ETE a new recommender on its codes."""
    keys = dataset.catalog.keys
    if not config.end_to_end:
        return fit_on_codes(artifacts["etegrec"], config.generator, config.rebuilt, dataset, context)
    torch.manual_seed(derive_seed(context.seed, "generator", "init"))
    vectors = torch.from_numpy(load_vectors(artifacts["vectors"], keys))
    model = ETEGRec(config, vectors, load_tokenizer(artifacts["tokenizer"])).to(context.device)
    training = ETEGRecTraining(model, dataset, context)
    if "etegrec" in artifacts:
        restore(model, artifacts["etegrec"], keys)
    else:
        train(training.first_stage(), context)
    if config.finetuning.epochs:
        train(training.finetuning_stage(), context)
    if context.group.is_main:
        save_parts(model, context.folder)
    return training.recommender()


METHOD = code_method(
    name="etegrec",
    title="ETEGRec",
    groups=("core", "paper", "generative"),
    place=400,
    is_proposed=True,
    config=ETEGRecConfig,
    fit=fit,
    version=3,
    needs=needs,
    presets={"paper": PAPER, "lite": LITE},
    tiny={
        "vectors": TINY,
        "tokenizer": TINY_TOKENIZER,
        "generator": TINY_T5,
        "alignment_warmup_epochs": 2,
        "epochs": 16,
        "evaluate_every": 8,
        "batch_size": 32,
        "chunk_size": 32,
        "learning_rate_recommender": 5e-3,
        "warmup_epochs": 2,
        "finetuning": {"epochs": 8, "learning_rate": 3e-3, "evaluate_every": 4},
        "rebuilt": TINY_TRAINING,
    },
    recipes={"paper": paper_recipe, "official": official_recipe},
    ablations=ABLATIONS,
    assumptions=item_vectors_assumptions,
    effort=effort,
    counts=counts,
    grid=GRID,
    curves=CURVES,
    for_dataset=for_dataset,
)
