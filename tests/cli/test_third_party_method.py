"""The methods of docs/adding-a-method.md, as an installed package registers them. Oracle: counts by hand."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from doc_pages import DOCS, entry_points, files
from one_process import printed
from tiny_ratings import ROWS

PAGE = DOCS / "adding-a-method.md"
FILES = files(PAGE)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the guide's package is installed."""
    site = tmp_path_factory.mktemp("guide") / "site"
    metadata = site / "own_methods-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name, code in FILES.items():
        (site / name).write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-methods\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points(PAGE))
    return site


@pytest.fixture(scope="module")
def cells(package: Path) -> dict[str, dict[str, Any]]:
    """Each method's cell of one run with all three of them, in processes that must find the package too."""
    (package.parent / "tiny.csv").write_text("\n".join(ROWS) + "\n")
    changes = ["last-and-mean.epochs=1", "frequency-codes.training.epochs=1", "frequency-codes.codes.base=3"]
    changes += ["recent-popularity.window=1"]
    arguments = ["--methods", "last-and-mean,frequency-codes,recent-popularity"]
    arguments += [part for each in changes for part in ("--set", each)]
    (out,) = printed(package, ["run", "--dataset", "tiny.csv", *arguments, "--json"], jobs_here=False)
    return {cell["method"]: cell for cell in json.loads(out)["cells"]}


@pytest.mark.parametrize(("name", "most"), [("recent_popularity", 40), ("last_and_mean", 60), ("frequency_codes", 80)])
def test_a_method_is_short(name: str, most: int) -> None:
    assert sum(bool(line.strip()) for line in FILES[f"{name}.py"].splitlines()) < most


def test_the_guides_methods_pass_the_conformance_suite(package: Path) -> None:
    lines = (
        "import {0}",
        "from harness.testing import MethodConformance",
        "class Test(MethodConformance): method = {0}.METHOD",
    )
    for name in ("last_and_mean", "frequency_codes"):
        (package / f"test_{name}.py").write_text("\n".join(lines).format(name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package)]
    ended = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^41 passed", ended.stdout, flags=re.MULTILINE), ended.stdout


def test_a_sequence_encoder_and_a_tokenizer_run_from_the_command_line(package: Path, cells: dict[str, Any]) -> None:
    assert [name for name in cells if name != "recent-popularity"] == ["last-and-mean", "frequency-codes"]
    assert len(list(package.parent.glob("**/frequency-codes/*/stage.json"))) == 2  # the codes, and the generator


def test_the_guides_first_method_recommends_what_was_bought_last_by_many(package: Path, cells: dict[str, Any]) -> None:
    # By hand: the last training item is each user's third from the end; the most frequent one is recommended first.
    rows = [row.split(",") for row in ROWS]
    ids = {item: place + 1 for place, item in enumerate(dict.fromkeys(item for _, item, _, _ in rows))}
    last = Counter(ids[rows[6 * user + 3][1]] for user in range(40))
    best = min(last, key=lambda item: (-last[item], item))
    ranks = pl.read_parquet(package.parent / cells["recent-popularity"]["folder"] / "ranks.parquet")
    assert set(ranks["top_items"].list.first().to_list()) == {best}
