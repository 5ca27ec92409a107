"""Whether an installation computes what ours does: two small cells on the demo data, against shipped values.

Bits differ between processors and libraries, so values may differ a little: a loss by `LOSS_TOLERANCE` of itself, a
metric by `METRIC_TOLERANCE`. What is counted (users, parameters) must be the same. With other vector instructions
SASRec's values were the same to 7 digits; TIGER's loss differed by 0.02 %, its metrics by up to 0.0011.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from harness.data.open import Source, open_dataset
from harness.data.prepare import load_dataset
from harness.errors import StageError
from harness.experiment.place import Place
from harness.experiment.plan import Plan, make_plan
from harness.experiment.run import CellResult
from harness.experiment.settings import settings_of
from results.store.runs import Run, read_run

# A sequence model and a generator with its tokenizer: between them they use every kernel but the alignments'.
CELLS: Mapping[str, dict[str, Any]] = {
    "sasrec": {"epochs": 4, "patience": None},
    "tiger": {"tokenizer": {"epochs": 20}, "training": {"epochs": 4, "evaluate_every": 4}},
}
LOSS_TOLERANCE = 0.01  # relative
METRIC_TOLERANCE = 0.01  # absolute: of a share of users
METRICS = (("Recall", 10), ("NDCG", 10))
SHIPPED = "installation.json"

Values = dict[str, float]  # "sasrec, NDCG@10" → value


@dataclass(frozen=True)
class Comparison:
    """One quantity: the shipped value, the one found here, and how far apart they may be."""

    quantity: str
    shipped: float
    found: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within what is allowed; never for a value that is no number."""
        return abs(self.found - self.shipped) <= self.allowed


def compared(found: Values, shipped: Values) -> list[Comparison]:
    """Each shipped value beside the one found; one that was not found is no number, and so does not agree."""
    return [
        Comparison(name, value, found.get(name, float("nan")), _allowed(name, value)) for name, value in shipped.items()
    ]


def shipped_values() -> Values:
    """What our machine found."""
    text = files("harness.experiment").joinpath(SHIPPED).read_text(encoding="utf-8")
    return {name: float(value) for name, value in json.loads(text).items()}


def measured(work: Path, threads: int, run: Callable[[Plan, Place], list[CellResult]]) -> Values:
    """The values of this installation, computed under the folder `work`; `StageError` for a cell that fails."""
    folder = open_dataset(Source("demo"), work / "cache")
    plan = make_plan(
        load_dataset(folder),
        method_names=list(CELLS),
        ablation_names=(),
        seeds=(0,),
        settings=settings_of(CELLS, preset="lite", recipe="default"),
    )
    results = run(plan, Place(folder, work / "cache", work / "runs", "cpu", threads))
    values: Values = {}
    for result in results:
        if result.outcome.status != "done":
            raise StageError(f"{result.cell.label}: {result.outcome.error}")
        values |= _values(result.cell.method, read_run(result.folder))
    return values


def _values(method: str, run: Run) -> Values:
    """What is compared of a run."""
    losses = run.history().filter(pl.col("quantity") == "loss/total").sort("epoch")["value"]
    values = {f"{method}, users": float(len(run.ranks(["user"]))), f"{method}, last loss": float(losses[-1])}
    values[f"{method}, parameters"] = float(run.record.num_parameters)
    for metric, k in METRICS:
        value = run.stored(metric, k)
        assert value is not None, "metrics at 10 are stored"
        values[f"{method}, {metric}@{k}"] = value
    return values


def _allowed(name: str, value: float) -> float:
    if name.endswith("loss"):
        return LOSS_TOLERANCE * abs(value)
    return METRIC_TOLERANCE if "@" in name else 0.0
