"""What tests of whole runs ask of their folders."""

import time
from collections.abc import Callable
from pathlib import Path

from harness.jobs.graph import Observer
from results.store.runs import DONE

QUIET = Observer(started=lambda key: None, message=lambda key, content: None, ended=lambda key, outcome: None)


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
