"""A split and a format, one file each, as installed packages register them. Oracles: counts and parts by hand."""

import json
from pathlib import Path

import polars as pl
import pytest
from one_process import called, printed
from tiny_ratings import ROWS

SPLIT = """
import numpy as np
from harness.data.splits.split import Cases, Parts, Split

def cut(whole, config):
    \"\"\"User 0 is tested on two items and never learnt from; validation has two cases, both of user 1.\"\"\"
    sequences = whole.sequences
    users = np.arange(1, len(sequences))
    train = sequences.take(users).without_last(2)
    pick = np.array([1, 1])
    valid = Cases(pick, sequences.take(pick).without_last(2), sequences.row(1)[-2:])
    test = Cases(np.array([0, 0]), sequences.take(np.array([0, 0])).without_last(2), sequences.row(0)[-2:])
    return Parts(users, train, valid, test)

SPLIT = Split("first-user", cut)
"""

FORMAT = """
import polars as pl
from harness.data.formats.format import Format

def read(paths, columns):
    names = ["user", "item", "time"]
    frame = pl.read_csv(paths[0], separator=" ", has_header=False, skip_rows=1, new_columns=names)
    frame = frame.with_columns(pl.col("time").cast(pl.Float64))
    return frame.with_columns(pl.col("user", "item").cast(pl.String).cast(pl.Categorical))

FORMAT = Format("marked", lambda head: head.first == "#marked, by hand", read)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder in which both are installed."""
    site = tmp_path / "site"
    metadata = site / "own_data-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "own_split.py").write_text(SPLIT)
    (site / "own_format.py").write_text(FORMAT)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-data\nVersion: 1.0\n")
    points = "[harness.splits]\nfirst-user = own_split:SPLIT\n[harness.formats]\nmarked = own_format:FORMAT\n"
    (metadata / "entry_points.txt").write_text(points)
    return site


def test_a_format_of_an_installed_package_is_recognised_and_read(package: Path) -> None:
    rows = [f"{user} {item} {time}" for user in "uv" for time, item in enumerate("abc")]
    (package.parent / "log.txt").write_text("\n".join(["#marked, by hand", *rows, ""]))
    (package.parent / "wrong.txt").write_text("#marked, by hand\nu a 1.0\nu b nan\n")
    right, wrong = called(package, ["data", "describe", "log.txt", "--json"], ["data", "describe", "wrong.txt"])
    assert right.code == 0, right.err
    found = json.loads(right.out)
    assert (found["users"], found["items"], found["interactions"]) == (2, 3, 6)
    assert wrong.code == 2
    assert "row 2: the time must be finite" in wrong.err


def test_a_split_of_an_installed_package_is_run(package: Path, ratings: Path) -> None:
    run = ["run", "--dataset", str(ratings), "--split", "first-user", "--methods", "popularity", "--json"]
    (out,) = printed(package, run)
    (cell,) = json.loads(out)["cells"]
    folder = package.parent / cell["folder"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["dataset"], record["split"]) == ("tiny-first-user", "first-user")
    items = [row.split(",")[1] for row in ROWS]
    ids = {item: place + 1 for place, item in enumerate(dict.fromkeys(items))}
    assert pl.read_parquet(folder / "ranks.parquet")["target"].to_list() == [ids[items[4]], ids[items[5]]]
    assert pl.read_parquet(folder / "cases.parquet")["new_user"].to_list() == [True, True]
