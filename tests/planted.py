"""A pattern that a method must find, and configs so small that every method finds it in seconds.

Each user walks around a ring of 12 items, one item a step, from a random start. All items are about equally popular,
so popularity knows nothing, and the last item of a history says all.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.config import Config, merged
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.experiment.compute import fit_context
from harness.experiment.place import Place
from harness.interfaces import Contract, FitContext, Method, Need, Progress
from harness.methods import methods, stage_of
from harness.stages import Stage, StageStore

NUM_ITEMS, NUM_USERS, LENGTH = 12, 60, 8
COLOURS, THINGS = ("red", "green", "blue"), ("chair", "table", "lamp", "shelf")

SASREC = {
    "hidden_size": 16,
    "inner_size": 32,
    "num_layers": 1,
    "num_heads": 1,
    "dropout": 0.1,
    "learning_rate": 1e-2,
    "batch_size": 64,
    "epochs": 20,
    "patience": "none",
}
GRU4REC = {
    "embedding_size": 16,
    "hidden_size": 32,
    "dropout": 0.1,
    "learning_rate": 1e-2,
    "batch_size": 64,
    "epochs": 20,
    "patience": "none",
}
# All walks have one length: counted from the start, the place of a recommendation's mask would be one never trained.
BERT4REC = SASREC | {"positions": "end", "batch_size": 16, "epochs": 40}
FMLPREC = {
    "hidden_size": 16,
    "num_layers": 1,
    "dropout": 0.1,
    "window": 8,
    "learning_rate": 1e-2,
    "batch_size": 64,
    "epochs": 20,
    "patience": "none",
}
HGN = {"embedding_size": 16, "learning_rate": 1e-2, "batch_size": 16, "epochs": 40, "patience": "none"}
CASER = HGN | {"window": 4, "dropout": 0.1, "batch_size": 64, "epochs": 20}
TOKENIZER = {
    "rqvae": {"hidden_sizes": [32], "code_dim": 16, "codebook_size": 8, "num_levels": 2},
    "epochs": 60,
    "batch_size": 32,
    "warmup_epochs": 0,
    "evaluate_every": 30,
}
T5 = {"d_model": 32, "d_ff": 64, "num_heads": 2, "d_head": 16, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
TRAINING = {"learning_rate": 5e-3, "batch_size": 32, "epochs": 30, "warmup_epochs": 2, "evaluate_every": 15}

# TOML tables that make the `lite` preset of each method tiny; a method that is not here is taken as it is.
TINY: dict[str, dict[str, Any]] = {
    "bert4rec": BERT4REC,
    "caser": CASER,
    "fmlp-rec": FMLPREC,
    "fdsa": SASREC,
    "gru4rec": GRU4REC,
    "hgn": HGN,
    "s3-rec": {**SASREC, "pretraining": {"epochs": 4, "batch_size": 32}},
    "sasrec": SASREC,
    "tiger": {
        "text": {"dim": 8},
        "tokenizer": TOKENIZER,
        "generator": T5,
        # Codes that come from texts alone know nothing of the ring, so they take longer.
        "training": {**TRAINING, "epochs": 80, "evaluate_every": 40},
    },
    "tiger-sas": {"vectors": SASREC, "tokenizer": TOKENIZER, "generator": T5, "training": TRAINING},
    "letter": {
        "text": {"dim": 8},
        "vectors": SASREC,
        "tokenizer": {**TOKENIZER, "num_groups": 3, "refresh_groups_every": 30},
        "generator": T5,
        "training": TRAINING,
    },
    "etegrec": {
        "vectors": SASREC,
        "tokenizer": TOKENIZER,
        "generator": T5,
        "alignment_warmup_epochs": 2,
        "epochs": 32,
        "evaluate_every": 16,
        "batch_size": 32,
        "chunk_size": 32,
        "learning_rate_recommender": 5e-3,
        "warmup_epochs": 2,
        "finetuning": {"epochs": 16, "learning_rate": 3e-3, "evaluate_every": 8},
        "rebuilt": TRAINING,
    },
}


def shortened(table: dict[str, Any]) -> dict[str, Any]:
    """The table with 4 epochs wherever there are more."""
    return {
        name: shortened(value) if isinstance(value, dict) else min(value, 4) if name == "epochs" else value
        for name, value in table.items()
    }


def walks() -> np.ndarray:
    """(U, LENGTH) item ids."""
    starts = np.random.default_rng(0).integers(NUM_ITEMS, size=(NUM_USERS, 1))
    return (starts + np.arange(LENGTH)) % NUM_ITEMS + 1


def planted_dataset() -> Dataset:
    """All but the last step of the walks, with a text and a store for every item but one."""
    items = walks()
    texts = tuple(f"{COLOURS[i % 3]} {THINGS[i // 3]}" for i in range(NUM_ITEMS - 1))
    features = {
        "store": (*((COLOURS[i % 3],) for i in range(NUM_ITEMS - 1)), ()),
        "categories": tuple((THINGS[i // 3], "furniture") for i in range(NUM_ITEMS)),
    }
    catalog = Catalog(tuple(f"item-{i}" for i in range(1, NUM_ITEMS + 1)), (*texts, None), features)
    train = replace(Sequences.from_rows(items[:, :-2].tolist()), users=np.arange(NUM_USERS))
    return Dataset("planted", "fedcba9876543210", catalog, train, EvalCases(train, items[:, -2].astype(np.int32)))


def held_out(dataset: Dataset) -> EvalCases:
    """The last step of the walks."""
    return EvalCases(dataset.train.appended(dataset.validation.targets), walks()[:, -1].astype(np.int32))


def check_resume(method: Method, table: dict[str, Any], folder: Path, inputs: Mapping[str, Path] = {}) -> None:
    """A fit that was interrupted after its second epoch goes on to the same bits as one that was not."""
    config, dataset = merged(method.presets["lite"], table), planted_dataset()

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    whole = method.fit(config, dataset, inputs, FitContext(0, folder / "whole"))
    with pytest.raises(KeyboardInterrupt):
        method.fit(config, dataset, inputs, FitContext(0, folder / "cut", report=interrupt))
    continued = method.fit(config, dataset, inputs, FitContext(0, folder / "cut"))
    ours, theirs = (dict(fitted.network.named_parameters()) for fitted in (whole, continued))
    assert ours
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def fit_stage(name: str, config: Config, *, dataset: Dataset, seed: int = 0) -> Stage:
    """The stage of a fitted method."""
    conditions = {"contract": Contract().model_dump(mode="json"), "precision": "fp32"}
    assert name in methods()
    return stage_of(Need(name, config), dataset=dataset.fingerprint, seed=seed, conditions=conditions)


def computed_inputs(stage: Stage, dataset: Dataset, root: Path) -> dict[str, Path]:
    """The finished folders of all that the stage needs."""
    store = StageStore(root)
    for below in stage.with_ancestors()[:-1]:

        def build(folder: Path, below: Stage = below) -> dict[str, Any]:
            inputs = {name: store.folder(child) for name, child in below.inputs.items()}
            below.build(below.config, dataset, inputs, context_of(below, folder))
            return {}

        store.compute(below, build)
    return {name: store.folder(child) for name, child in stage.inputs.items()}


def context_of(stage: Stage, folder: Path) -> FitContext:
    """What a run would give the stage's fit."""
    place = Place(dataset=folder, cache=folder, runs=folder)
    return fit_context(stage, place, folder, lambda progress: None)
