"""A pattern that a method must find, and what a run would give to a fit on it.

Each user walks around a ring of 12 items, one item a step, from a random start. All items are about equally popular,
so popularity knows nothing, and the last item of a history says all.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from harness.config import Config
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.filters import PrepareConfig
from harness.data.formats.format import RawInteractions
from harness.data.prepare import META, TEST, prepare, sha256
from harness.experiment.compute import fit_context
from harness.experiment.place import Place
from harness.interfaces import Contract, FitContext, Method, Need
from harness.methods import fitted, stage_of
from harness.stages import Stage, StageStore

NUM_ITEMS, NUM_USERS, LENGTH = 12, 60, 8
COLOURS, THINGS = ("red", "green", "blue"), ("chair", "table", "lamp", "shelf")


def shortened(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table of changes with 4 epochs wherever there are more."""
    return {
        name: shortened(value) if isinstance(value, Mapping) else min(value, 4) if name == "epochs" else value
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


def prepared(folder: Path, *, text: str | None = None) -> Path:
    """The walks as a prepared data set on disk, items numbered as they appear; texts are theirs or one for all."""
    items = walks()
    users, steps = items.shape
    catalog = planted_dataset().catalog
    texts = {f"i{item}": text for item, text in enumerate(catalog.texts or (), start=1)}
    features = {
        field: {f"i{item}": list(values) for item, values in enumerate(lists, start=1)}
        for field, lists in catalog.features.items()
    }
    frame = pl.DataFrame(
        {
            "user": [f"u{user}" for user in range(users) for _ in range(steps)],
            "item": [f"i{item}" for item in items.ravel().tolist()],
            "time": list(range(steps)) * users,
        },
        schema={"user": pl.Categorical, "item": pl.Categorical, "time": pl.Int64},
    )
    if text is not None:
        texts = dict.fromkeys(texts, text)
    prepare(RawInteractions(frame, texts, features=features), PrepareConfig(), folder, "planted")
    return folder


def with_other_test_targets(folder: Path) -> Path:
    """The prepared data set with each user's test target moved to the next user, as if it had been written so."""
    path, meta = folder / TEST, json.loads((folder / META).read_text(encoding="utf-8"))
    table = pl.read_parquet(path)
    targets = table["target"]
    table.with_columns(pl.concat([targets[1:], targets[:1]])).write_parquet(path)
    meta["sha256"][TEST] = sha256(path)
    (folder / META).write_text(json.dumps(meta), encoding="utf-8")
    return folder


def fit_stage(method: Method, config: Config, *, dataset: Dataset, seed: int = 0) -> Stage:
    """The stage of a fit; the method need not be registered."""
    conditions = {"contract": Contract().model_dump(mode="json"), "precision": "fp32"}
    need = Need(fitted(method), config, method.needs(config))
    return stage_of(need, dataset=dataset.fingerprint, seed=seed, conditions=conditions)


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
