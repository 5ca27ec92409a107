"""Artifacts that methods share, each the `build` of a stage: text and item vectors, and the codes of a tokenizer.

A builder writes into `context.folder`; `inputs` maps names to the folders of finished stages.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field

from harness.config import Config
from harness.data.dataset import Dataset
from harness.data.text.own import location, own_vectors, pinned, short_name, width_of
from harness.data.text.vectors import TextConfig, encode_items, load_vectors, obstacle_to_vectors, save_vectors
from harness.errors import DataError
from harness.generative.counted import tokenizer_counts
from harness.generative.tokenizer.code_files import read_codes
from harness.generative.tokenizer.codes import CodeTable, deduplicate
from harness.generative.tokenizer.fit import TokenizerConfig, fit_tokenizer, save_tokenizer
from harness.generative.tokenizer.reassign import semantic_codes
from harness.generative.tokenizer.rqvae import RQVAEConfig
from harness.interfaces import ArtifactKind, Artifacts, FitContext, Need
from harness.sequence.sasrec import SASRecConfig, sasrec_assumptions, sasrec_vectors

CODES_FILE = "codes.safetensors"  # in the folder of a tokenizer, and of whatever recommends by codes
PAPER_ENCODER = "sentence-transformers/sentence-t5-base"


def text_assumptions(config: TextConfig) -> list[str]:
    """What to declare of a result that stands on these text vectors (METHODS B.3)."""
    if config.encoder == PAPER_ENCODER:
        return []
    source = config.encoder if config.file is None else f"the file {short_name(config.file)}"
    return [f"text vectors from {source} instead of {PAPER_ENCODER}"]


class ReadsItemVectors(Config):
    """A part of a method's config: item vectors, SASRec's or one's own in their place."""

    added_later: ClassVar[frozenset[str]] = frozenset({"own_vectors"})

    vectors: SASRecConfig = Field(description="the SASRec whose item table is taken")
    own_vectors: str | None = Field(default=None, description="file of item vectors in the place of SASRec's")

    def pinned(self) -> Self:
        """The config with the content of the file that it names."""
        config = super().pinned()
        return config if config.own_vectors is None else config.replace(own_vectors=pinned(config.own_vectors))


class OwnVectors(Config):
    """Item vectors out of a file."""

    file: str


def own_obstacle(config: OwnVectors, dataset: Dataset) -> None:
    """`DataError` for a file that does not fit the data; nothing stands in the way of one that does."""
    width_of(config.file, dataset.catalog.keys)


def check_width(config: ReadsItemVectors, dataset: Dataset, width: int) -> None:
    """`DataError` where one's own item vectors are not this wide."""
    found = width if config.own_vectors is None else width_of(config.own_vectors, dataset.catalog.keys)
    if found != width:
        raise DataError(
            f"{config.own_vectors}: the vectors must have {width} dimensions for this method, but have {found}; "
            "change the width of its codes, or of the vectors"
        )


def build_own_vectors(config: OwnVectors, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Writes the file's vectors of the data set's items."""
    vectors_ND = own_vectors(config.file, dataset.catalog.keys).astype(np.float32)
    save_vectors(context.folder, dataset.catalog.keys, vectors_ND)


def item_vectors(config: ReadsItemVectors) -> Need:
    """The item vectors that the config asks for."""
    if config.own_vectors is None:
        return sasrec_vectors(config.vectors)
    return Need(OWN_VECTORS, OwnVectors(file=config.own_vectors))


def item_vectors_assumptions(config: ReadsItemVectors) -> list[str]:
    """What to declare of a result that stands on these item vectors."""
    if config.own_vectors is None:
        return sasrec_assumptions(config.vectors)
    return [f"item vectors from the file {short_name(config.own_vectors)} instead of SASRec"]


def build_text_vectors(config: TextConfig, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Writes a vector for each item's text."""
    vectors_ND = encode_items(dataset.catalog, config, context.seed, device=str(context.device))
    save_vectors(context.folder, dataset.catalog.keys, vectors_ND)


def build_text_vectors_if_any(config: TextConfig, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Writes a vector for each item's text, and nothing where the data set has no texts."""
    if dataset.catalog.texts is not None:
        build_text_vectors(config, dataset, inputs, context)


def build_tokenizer(config: TokenizerConfig, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Trains an RQ-VAE on the input `vectors`; writes it, and the items' codes with their de-duplication level."""
    vectors_NZ = torch.from_numpy(load_vectors(inputs["vectors"], dataset.catalog.keys))
    rqvae = fit_tokenizer(config, vectors_NZ, context)
    save_tokenizer(rqvae, context.folder)
    size = config.rqvae.codebook_size
    codes_NL = semantic_codes(rqvae, vectors_NZ.to(context.device), config.zero_collisions)
    codes_NL = deduplicate(codes_NL, size).cpu()
    CodeTable.of(codes_NL, (size,) * codes_NL.shape[1]).save(context.folder / CODES_FILE, dataset.catalog.keys)


def text_obstacle(config: TextConfig, dataset: Dataset) -> str | None:
    """Why the items' texts cannot become vectors under this config."""
    return obstacle_to_vectors(dataset.catalog, config)


class OwnCodes(Config):
    """Item codes out of a file."""

    file: str


def build_own_codes(config: OwnCodes, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Writes the file's codes of the data set's items as they are, without a de-duplication level."""
    keys = dataset.catalog.keys
    read_codes(location(config.file)[0], keys).save(context.folder / CODES_FILE, keys)


def codes_obstacle(config: OwnCodes, dataset: Dataset) -> None:
    """`DataError` for a file that does not fit the data; nothing stands in the way of one that does."""
    read_codes(location(config.file)[0], dataset.catalog.keys)


OWN_CODES = ArtifactKind(
    "own-codes", build_own_codes, effort=lambda config: 0.0, is_seeded=False, obstacle=codes_obstacle
)
TEXT_VECTORS = ArtifactKind("text-vectors", build_text_vectors, is_seeded=False, obstacle=text_obstacle)
TEXT_VECTORS_IF_ANY = ArtifactKind("text-vectors-if-any", build_text_vectors_if_any, is_seeded=False)
OWN_VECTORS = ArtifactKind(
    "own-vectors", build_own_vectors, effort=lambda config: 0.0, is_seeded=False, obstacle=own_obstacle
)
TOKENIZER = ArtifactKind(
    "tokenizer",
    build_tokenizer,
    effort=lambda config: config.epochs / 150,
    counts=lambda config, dataset: tokenizer_counts(config, config.rqvae, dataset, step="pre-training"),
    version=2,
)

# The lite preset's tokenizer, for a few hundred to a few thousand items.
LITE_TOKENIZER = TokenizerConfig(
    rqvae=RQVAEConfig(hidden_sizes=(128,), code_dim=32),
    epochs=200,
    batch_size=512,
    warmup_epochs=10,
    evaluate_every=20,
)
# Changes to it for `Method.tiny`.
TINY_TOKENIZER = {
    "rqvae": {"hidden_sizes": [32], "code_dim": 16, "codebook_size": 8, "num_levels": 2},
    "epochs": 60,
    "batch_size": 32,
    "warmup_epochs": 0,
    "evaluate_every": 30,
}
