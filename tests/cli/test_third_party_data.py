"""The split and the format of docs/adding-more.md, as an installed package registers them. Oracles: counts by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from doc_pages import DOCS, entry_points, files
from tiny_ratings import ROWS

PAGE = DOCS / "adding-more.md"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder in which both are installed."""
    site = tmp_path / "site"
    metadata = site / "own_data-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name, code in files(PAGE).items():
        (site / name).write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-data\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points(PAGE))
    return site


def harness(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True, check=False)


def test_a_format_of_an_installed_package_is_recognised_and_read(package: Path) -> None:
    rows = [f"{user} {item} {time}" for user in "uv" for time, item in enumerate("abc")]
    (package.parent / "log.txt").write_text("\n".join(["#marked, by hand", *rows, ""]))
    ended = harness(package, "data", "describe", "log.txt", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["users"], found["items"], found["interactions"]) == (2, 3, 6)
    (package.parent / "log.txt").write_text("#marked, by hand\nu a 1.0\nu b nan\n")
    ended = harness(package, "data", "describe", "log.txt")
    assert ended.returncode == 2
    assert "row 2: the time must be finite" in ended.stderr


def test_a_split_of_an_installed_package_is_run(package: Path, ratings: Path) -> None:
    ended = harness(
        package, "run", "--dataset", str(ratings), "--split", "first-user", "--methods", "popularity", "--json"
    )
    assert ended.returncode == 0, ended.stderr
    (cell,) = json.loads(ended.stdout)["cells"]
    folder = package.parent / cell["folder"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["dataset"], record["split"]) == ("tiny-first-user", "first-user")
    items = [row.split(",")[1] for row in ROWS]
    ids = {item: place + 1 for place, item in enumerate(dict.fromkeys(items))}
    assert pl.read_parquet(folder / "ranks.parquet")["target"].to_list() == [ids[items[4]], ids[items[5]]]
    assert pl.read_parquet(folder / "cases.parquet")["new_user"].to_list() == [True, True]
