"""Artifacts that methods share, each the `build` of a stage: text vectors, and the codes of a tokenizer.

A builder writes into `context.folder`; `inputs` maps names to the folders of finished stages.
"""

from __future__ import annotations

import torch

from harness.data.dataset import Dataset
from harness.data.text.vectors import TextConfig, encode_items, load_vectors, save_vectors
from harness.generative.tokenizer.codes import CodeTable, deduplicate
from harness.generative.tokenizer.fit import TokenizerConfig, fit_tokenizer, save_tokenizer
from harness.generative.tokenizer.rqvae import RQVAEConfig
from harness.interfaces import ArtifactKind, Artifacts, FitContext

CODES_FILE = "codes.safetensors"  # in the folder of a tokenizer, and of whatever recommends by codes
PAPER_ENCODER = "sentence-transformers/sentence-t5-base"


def text_assumptions(config: TextConfig) -> list[str]:
    """What to declare of a result that stands on these text vectors (METHODS B.3)."""
    if config.encoder == PAPER_ENCODER:
        return []
    return [f"text vectors from {config.encoder} instead of {PAPER_ENCODER}"]


def build_text_vectors(config: TextConfig, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Writes a vector for each item's text."""
    vectors_ND = encode_items(dataset.catalog.texts, config, context.seed, device=str(context.device))
    save_vectors(context.folder, dataset.catalog.keys, vectors_ND)


def build_tokenizer(config: TokenizerConfig, dataset: Dataset, inputs: Artifacts, context: FitContext) -> None:
    """Trains an RQ-VAE on the input `vectors`; writes it, and the items' codes with their de-duplication level."""
    vectors_NZ = torch.from_numpy(load_vectors(inputs["vectors"], dataset.catalog.keys))
    rqvae = fit_tokenizer(config, vectors_NZ, context)
    save_tokenizer(rqvae, context.folder)
    size = config.rqvae.codebook_size
    codes_NL = deduplicate(rqvae.codes(vectors_NZ.to(context.device)), size).cpu()
    CodeTable.of(codes_NL, (size,) * codes_NL.shape[1]).save(context.folder / CODES_FILE, dataset.catalog.keys)


TEXT_VECTORS = ArtifactKind("text-vectors", build_text_vectors, is_seeded=False)
TOKENIZER = ArtifactKind("tokenizer", build_tokenizer, effort=lambda config: config.epochs / 150, version=2)

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
