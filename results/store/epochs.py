"""What the epochs of a run's training would have scored on the test: kept by an audit, read by nothing that selects."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from results.store.runs import Run, read_parquet

EPOCHS_SCHEMA = pl.Schema(
    {
        "stage": pl.String(),  # of the training, in its order
        "epoch": pl.Int32(),  # of the stage, 1-based: those that were validated, and the last one
        "score": pl.Float64(),  # validation NDCG@10; null where a method does not select by it
        "ranks": pl.List(pl.Int32()),  # of the run's users, in their order, as in its ranks; 0: not in the list
    }
)


def epochs_path(run: Run) -> Path:
    """Where they lie."""
    return run.folder / "epochs.parquet"


def epochs_frame(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """One row per epoch (`EPOCHS_SCHEMA`), the last one last."""
    return pl.DataFrame(list(rows), EPOCHS_SCHEMA)


def epochs_of(run: Run) -> pl.DataFrame | None:
    """The kept epochs; None where no audit has trained the run's model again."""
    path = epochs_path(run)
    return read_parquet(path) if path.exists() else None


def has_epochs(run: Run) -> bool:
    """Whether the run's method was trained in epochs."""
    return not run.history().is_empty()
