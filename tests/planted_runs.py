"""The planted pattern as a prepared data set on disk, and what tests of whole runs ask of their folders."""

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from harness.data.filters import PrepareConfig
from harness.data.formats.format import RawInteractions
from harness.data.prepare import prepare
from harness.jobs.graph import Observer
from harness.testing import planted
from results.store.runs import DONE

QUIET = Observer(started=lambda key: None, message=lambda key, content: None, ended=lambda key, outcome: None)


def prepared(folder: Path, *, text: str | None = None) -> Path:
    """The planted walks as a prepared data set, with texts of their own, or the same one for each item."""
    walks = planted.walks()
    users, steps = walks.shape
    texts = {f"i{item}": text for item, text in enumerate(planted.planted_dataset().catalog.texts or (), start=1)}
    frame = pl.DataFrame(
        {
            "user": [f"u{user}" for user in range(users) for _ in range(steps)],
            "item": [f"i{item}" for item in walks.ravel().tolist()],
            "time": list(range(steps)) * users,
        },
        schema={"user": pl.Categorical, "item": pl.Categorical, "time": pl.Int64},
    )
    prepare(
        RawInteractions(frame, texts if text is None else dict.fromkeys(texts, text)),
        PrepareConfig(),
        folder,
        "planted",
    )
    return folder


def stored(root: Path) -> dict[str, bytes]:
    """The bytes of every stored table of ranks and metrics, by its place below the root."""
    names = ("ranks.parquet", "metrics.parquet")
    return {str(path.relative_to(root)): path.read_bytes() for name in names for path in root.glob(f"runs/**/{name}")}


def times(root: Path) -> dict[str, int]:
    """When each finished stage and each finished run below the root was written."""
    files = [*root.glob("cache/*/*/stage.json"), *root.glob(f"runs/**/{DONE}")]
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in files}


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds} seconds"
        time.sleep(0.01)
