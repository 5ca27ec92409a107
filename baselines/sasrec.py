"""SASRec as a baseline of the paper's Table 3 (METHODS B.1, role a); all of it lives in `harness.sequence.sasrec`."""

from __future__ import annotations

from harness.data.dataset import Dataset
from harness.interfaces import Artifacts, FitContext, Method
from harness.sequence.sasrec import (
    LITE,
    PAPER,
    SASRecConfig,
    SASRecRecommender,
    fit_sasrec,
    load_sasrec,
    original_form,
    sasrec_effort,
    softmax_assumptions,
)


def fit(config: SASRecConfig, dataset: Dataset, artifacts: Artifacts, context: FitContext) -> SASRecRecommender:
    """A trained SASRec; it needs no artifact."""
    return fit_sasrec(config, dataset, context)


def assumptions(config: SASRecConfig) -> list[str]:
    """What the paper leaves open, as one line each."""
    return [
        f"SASRec: the paper gives only the item dimension (128); {config.style} form, {config.num_layers} layers, "
        f"{config.num_heads} heads, inner size {config.inner_size}, dropout {config.dropout}, "
        f"learning rate {config.learning_rate} are assumed",
        *softmax_assumptions(config),
    ]


# The light grid of all classical baselines (METHODS B.5).
GRID = {"learning_rate": (1e-3, 5e-4, 1e-4), "dropout": (0.2, 0.5)}

METHOD = Method(
    name="sasrec",
    title="SASRec",
    place=130,
    follows_contract=False,
    config=SASRecConfig,
    fit=fit,
    is_distributed=True,
    version=2,
    load=load_sasrec,
    presets={"paper": PAPER, "lite": LITE},
    recipes={"official": original_form},
    grid=GRID,
    assumptions=assumptions,
    effort=sasrec_effort,
)
