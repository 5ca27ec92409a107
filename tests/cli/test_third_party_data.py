"""The split and the format of docs/adding-more.md, as an installed package registers them. Oracles: counts by hand."""

import json
from pathlib import Path

import polars as pl
import pytest
from doc_pages import DOCS, entry_points, files
from ended import Ended
from one_process import called
from tiny_ratings import ROWS

PAGE = DOCS / "adding-more.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both are installed."""
    site = tmp_path_factory.mktemp("own-data") / "site"
    metadata = site / "own_data-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name, code in files(PAGE).items():
        (site / name).write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-data\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points(PAGE))
    return site


@pytest.fixture(scope="module")
def commands(package: Path) -> tuple[Ended, ...]:
    """How three commands of one process end: two files of the format are described, and the split is run."""
    rows = [f"{user} {item} {time}" for user in "uv" for time, item in enumerate("abc")]
    (package.parent / "log.txt").write_text("\n".join(["#marked, by hand", *rows, ""]))
    (package.parent / "wrong.txt").write_text("#marked, by hand\nu a 1.0\nu b nan\n")
    (package.parent / "tiny.csv").write_text("\n".join(ROWS) + "\n")
    return tuple(
        called(
            package,
            ["data", "describe", "log.txt", "--json"],
            ["data", "describe", "wrong.txt"],
            ["run", "--dataset", "tiny.csv", "--split", "first-user", "--methods", "popularity", "--json"],
        )
    )


def test_a_format_of_an_installed_package_is_recognised_and_read(commands: tuple[Ended, ...]) -> None:
    right, wrong, _ = commands
    assert right.code == 0, right.err
    found = json.loads(right.out)
    assert (found["users"], found["items"], found["interactions"]) == (2, 3, 6)
    assert wrong.code == 2
    assert "row 2: the time must be finite" in wrong.err


def test_a_split_of_an_installed_package_is_run(package: Path, commands: tuple[Ended, ...]) -> None:
    *_, ran = commands
    assert ran.code == 0, ran.err
    (cell,) = json.loads(ran.out)["cells"]
    folder = package.parent / cell["folder"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["dataset"], record["split"]) == ("tiny-first-user", "first-user")
    items = [row.split(",")[1] for row in ROWS]
    ids = {item: place + 1 for place, item in enumerate(dict.fromkeys(items))}
    assert pl.read_parquet(folder / "ranks.parquet")["target"].to_list() == [ids[items[4]], ids[items[5]]]
    assert pl.read_parquet(folder / "cases.parquet")["new_user"].to_list() == [True, True]
