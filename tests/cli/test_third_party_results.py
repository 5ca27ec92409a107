"""The metrics and the figure of docs/adding-more.md, as an installed package registers them. Oracle: counts by hand."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from doc_pages import DOCS, entry_points, files

PAGE = DOCS / "adding-more.md"
Installed = Callable[..., str]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Runs a command in a process that has the page's files installed; the output."""
    site = tmp_path / "site"
    metadata = site / "third_party-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name, code in files(PAGE).items():
        (site / name).write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points(PAGE))
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "harness", *arguments]
        environment = {**os.environ, "PYTHONPATH": path}
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return call


def test_metrics_and_a_figure_are_one_file_each_and_used_from_the_command_line(
    installed: Installed, ratings: Path, tmp_path: Path
) -> None:
    cells = json.loads(installed("run", "--dataset", str(ratings), "--methods", "popularity,markov", "--json"))["cells"]
    folder = next(cell["folder"] for cell in cells if cell["method"] == "markov")
    ranks = pl.read_parquet(tmp_path / folder / "ranks.parquet")
    half = ranks.select(pl.col("rank").is_between(1, 5).mean()).item()
    recommended = {item for items in ranks["top_items"].to_list() for item in items if item}

    (found,) = json.loads(installed("compare", "markov", "popularity", "--metric", "halfhit", "--k", "10", "--json"))
    assert found["metrics"][0]["first"] == pytest.approx(half)
    shown = json.loads(installed("show", folder, "--json"))
    assert shown["metrics"]["HalfHit@10"] == pytest.approx(half)
    assert shown["metrics"]["Reach@10"] == pytest.approx(len(recommended) / 13)  # the items of the ratings
    assert "Reach@10" in installed("show", folder)

    pytest.importorskip("matplotlib")
    (figure,) = json.loads(installed("figure", "ranks", "--method", "markov", "--format", "svg", "--json"))["figures"]
    assert figure["caption"] == "Ranks of Markov."
    svg, csv = (tmp_path / file for file in figure["files"])
    assert svg.read_text().startswith("<?xml")
    assert pl.read_csv(csv)["len"].sum() == len(ranks) == 40
