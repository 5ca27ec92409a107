"""Runs that are made once and copied by each test that reads them."""

import shutil
from pathlib import Path

import pytest
from jobs_here import JobsHere
from tiny_ratings import ROWS

from harness.cli import main


def ran(folder: Path, *arguments: str) -> Path:
    """The folder, with the ratings as tiny.csv, and with runs and cache of `harness run` on them."""
    (folder / "tiny.csv").write_text("\n".join(ROWS) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("harness.jobs.local.ProcessPool", JobsHere)
        with pytest.raises(SystemExit) as ended:
            main(["run", "--dataset", "tiny.csv", *arguments])
    assert not ended.value.code
    return folder


def copied(folder: Path, target: Path) -> None:
    """Copies the runs and the cache of a folder that `ran` made."""
    for name in ("runs", "cache"):
        shutil.copytree(folder / name, target / name)
