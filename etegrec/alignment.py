"""How near a history's preference comes to the semantics of its next item (METHODS D.3; the paper's Figure 3).

The preference h^D is the decoder's state at BOS behind the PSA adapter; the semantics z~ of an item is what the
tokenizer's decoder makes of its codes. PSA pulls the two together; without it, its adapter is never trained.

Shape legend: B histories, I items, N all items, L levels, D width of an item vector.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from etegrec.artifacts import ADAPTERS_FILE, TOKENIZER_FILE
from etegrec.config import ETEGRecConfig
from etegrec.model import adapter
from harness.artifacts import CODES_FILE
from harness.data.dataset import Dataset, Sequences
from harness.data.samples import PrefixSamples
from harness.errors import DataError, UsageError
from harness.generative.generator import GENERATOR_FILE
from harness.generative.tokenizer.codes import CodeTable
from harness.generative.tokenizer.rqvae import RQVAE
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.seeding import derive_seed, numpy_stream
from harness.training.checkpoints import load_tensors
from results.store.runs import CONFIG

NUM_ITEMS, HISTORIES_PER_ITEM = 10, 8  # 80 histories, as in the paper
PERPLEXITY = 15.0
SEED = 0  # of the choice of items and histories, and of t-SNE


class Cases(NamedTuple):
    """Histories, and the items that followed them; the same number for each item, never from the test split."""

    histories: Sequences  # B rows
    targets: np.ndarray  # (B,) int64, item after item
    from_validation: np.ndarray  # (B,) bool; else from a training prefix

    @property
    def items(self) -> np.ndarray:
        """(I,) int64 the items, in the order of the histories."""
        return self.targets[np.sort(np.unique(self.targets, return_index=True)[1])]


def choose_cases(
    dataset: Dataset, seed: int = SEED, num_items: int = NUM_ITEMS, per_item: int = HISTORIES_PER_ITEM
) -> Cases:
    """Random items that follow at least `per_item` histories, and as many random histories of each.

    Validation histories come first; training prefixes fill up items that have too few, and these items are taken only
    where too few items need none. `DataError` where the data have too few such items altogether.
    """
    stream = numpy_stream(seed, "alignment", "cases")
    validation, prefixes = dataset.validation, PrefixSamples.of(dataset)
    prefix_targets = dataset.train.items[prefixes.ends]
    in_validation_N = np.bincount(validation.targets, minlength=dataset.num_items + 1)
    in_all_N = in_validation_N + np.bincount(prefix_targets, minlength=dataset.num_items + 1)
    best = stream.permutation(np.flatnonzero(in_validation_N >= per_item))
    # Of the others, those with most validation histories, ties at random.
    others = stream.permutation(np.flatnonzero((in_validation_N < per_item) & (in_all_N >= per_item)))
    others = others[np.argsort(-in_validation_N[others], kind="stable")]
    items = np.concatenate([best, others])[:num_items]
    if len(items) < num_items:
        raise DataError(
            f"'{dataset.name}' must have {num_items} items that follow {per_item} histories each, but has "
            f"{len(items)}; take a larger data set"
        )
    rows, targets, sources = [], [], []
    for item in items:
        valid_rows = stream.permutation(np.flatnonzero(validation.targets == item))[:per_item]
        prefix_rows = stream.permutation(np.flatnonzero(prefix_targets == item))[: per_item - len(valid_rows)]
        rows += [validation.histories.row(row).tolist() for row in valid_rows]
        rows += [prefixes.batch(np.array([row]))[0].row(0).tolist() for row in prefix_rows]
        targets += [item] * per_item
        sources += [True] * len(valid_rows) + [False] * len(prefix_rows)
    return Cases(Sequences.from_rows(rows), np.array(targets, dtype=np.int64), np.array(sources))


@dataclass(frozen=True)
class FittedETEGRec:
    """The parts of a fitted ETEGRec that make preferences and semantics, in eval mode."""

    generator: CodeSeq2Seq
    tokenizer: RQVAE
    psa_adapter: nn.Module
    codes: CodeTable

    @classmethod
    def load(cls, folder: Path, dataset: Dataset) -> FittedETEGRec:
        """What a run's folder holds; `UsageError` for a run without adapters (w/o ETE), `DataError` for other items."""
        if not (folder / ADAPTERS_FILE).exists():
            raise UsageError(f"{folder} must hold a tokenizer and adapters, but has none; name an end-to-end run")
        config = ETEGRecConfig.model_validate(tomllib.loads((folder / CONFIG).read_text())["etegrec"])
        codes = CodeTable.load(folder / CODES_FILE, dataset.catalog.keys)
        generator = CodeSeq2Seq(config.generator, codes.sizes)
        generator.load_state_dict(load_tensors(folder / GENERATOR_FILE))
        weights = load_tensors(folder / TOKENIZER_FILE)
        item_width = weights["encoder.0.weight"].shape[1]
        tokenizer = RQVAE(item_width, config.tokenizer.rqvae)
        tokenizer.load_state_dict(weights)
        psa_adapter = adapter(config.generator.d_model, config.adapter_hidden, item_width)
        adapters = load_tensors(folder / ADAPTERS_FILE)
        psa_adapter.load_state_dict(
            {name.removeprefix("psa."): weight for name, weight in adapters.items() if name.startswith("psa.")}
        )
        return cls(generator.eval(), tokenizer.eval(), psa_adapter.eval(), codes)

    @torch.no_grad()
    def preferences(self, histories: Sequences) -> Tensor:
        """(B, D) h^D of each history, of length 1."""
        summary = self.generator.summary(histories, self.codes.codes)
        return normalize(self.psa_adapter(summary.bos_BD), dim=-1)

    @torch.no_grad()
    def semantics(self, items: np.ndarray) -> Tensor:
        """(I, D) z~ of each item, of length 1: decoded from the sum of its codes' vectors."""
        codebooks_LKD = self.tokenizer.codebooks_LKD
        codes_IL = self.codes.codes[torch.from_numpy(items)][:, : len(codebooks_LKD)]
        quantized_ID = torch.stack(
            [table_KD[codes_I] for table_KD, codes_I in zip(codebooks_LKD, codes_IL.T, strict=True)]
        ).sum(0)
        return normalize(self.tokenizer.decode(quantized_ID), dim=-1)


def alignment_frame(model: FittedETEGRec, cases: Cases, keys: tuple[str, ...], panel: str) -> pl.DataFrame:
    """One row per history and per item: place in the t-SNE of both, and a history's cosines.

    Columns: panel, kind (preference or item), item, key, source (validation or training; null for an item), x, y,
    own_cosine (to the item that followed), other_cosine (mean over the other items).
    """
    preferences_BD, semantics_ID = model.preferences(cases.histories), model.semantics(cases.items)
    own_B, other_B = cosines(preferences_BD, semantics_ID, cases)
    places = tsne(torch.cat([preferences_BD, semantics_ID]).double().numpy())
    num_histories, num_items = len(own_B), len(cases.items)
    items = np.concatenate([cases.targets, cases.items])
    return pl.DataFrame(
        {
            "panel": [panel] * (num_histories + num_items),
            "kind": ["preference"] * num_histories + ["item"] * num_items,
            "item": items,
            "key": [keys[item - 1] for item in items],
            "source": [*np.where(cases.from_validation, "validation", "training").tolist(), *[None] * num_items],
            "x": places[:, 0],
            "y": places[:, 1],
            "own_cosine": [*own_B.tolist(), *[None] * num_items],
            "other_cosine": [*other_B.tolist(), *[None] * num_items],
        }
    )


def cosines(preferences_BD: Tensor, semantics_ID: Tensor, cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    """(B,) each history's cosine to its own item, and (B,) its mean cosine to the other items."""
    similarity_BI = (preferences_BD @ semantics_ID.T).double().numpy()
    is_own_BI = cases.targets[:, None] == cases.items
    own_B = similarity_BI[is_own_BI]
    return own_B, (similarity_BI.sum(axis=1) - own_B) / (len(cases.items) - 1)


def tsne(points: np.ndarray, seed: int = SEED) -> np.ndarray:
    """(n, 2) places of the points by exact t-SNE, started from their first two principal components."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # one order of the sums
        return TSNE(
            perplexity=PERPLEXITY,
            init="pca",
            method="exact",
            random_state=derive_seed(seed, "alignment", "tsne") % 2**32,
        ).fit_transform(points)
