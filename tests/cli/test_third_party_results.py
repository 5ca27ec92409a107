"""A metric of ranks, a metric of lists and a figure, each one file of an installed package. Oracle: counts by hand."""

import json
from pathlib import Path

import polars as pl
import pytest
from one_process import called, printed

MEDIAN_HIT = '''
"""The share of users whose target is among the first half of the list."""
import numpy as np
from results.statistics.metrics.kinds import RankMetric

METRIC = RankMetric("HalfHit", lambda ranks_U, k: ((ranks_U > 0) & (2 * ranks_U <= k)).astype(np.float64))
'''
COVERAGE = '''
"""The share of the catalog's items that are in the first k of any user's list."""
import numpy as np
from results.statistics.metrics.kinds import ListMetric

def coverage(items_UK, k, num_items):
    return len(np.setdiff1d(items_UK[:, :k], [0])) / num_items if num_items else None

METRIC = ListMetric("Reach", coverage)
'''
FIGURE = '''
"""How many users have their target at each rank."""
from results.figures.registry import FigureMaker
from results.figures.rendering import Figure
from results.store.selection import select_runs

def draw(frame):
    from results.figures.drawing.looks import COLUMN, picture

    drawn = picture(COLUMN, 2.0)
    drawn.subplots().bar(frame["rank"], frame["len"])
    return drawn

def make(asked):
    row = select_runs(asked.runs, asked.dataset, asked.filters, method=asked.method, variant="full").rows[0]
    frame = row.runs[0].ranks(["rank"]).group_by("rank").len().sort("rank")
    return [Figure("ranks", f"Ranks of {row.label}.", frame, draw)]

MAKER = FigureMaker("ranks", "a run of a method", make)
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which the three files are installed."""
    site = tmp_path / "site"
    metadata = site / "third_party-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name, code in (("half_hit", MEDIAN_HIT), ("coverage", COVERAGE), ("rank_figure", FIGURE)):
        (site / f"{name}.py").write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[harness.metrics]\nhalf-hit = half_hit:METRIC\ncoverage = coverage:METRIC\n"
        "[harness.figures]\nranks = rank_figure:MAKER\n"
    )
    return site


def test_metrics_and_a_figure_are_one_file_each_and_used_from_the_command_line(
    site: Path, ratings: Path, tmp_path: Path
) -> None:
    (out,) = printed(site, ["run", "--dataset", str(ratings), "--methods", "popularity,markov", "--json"])
    folder = next(cell["folder"] for cell in json.loads(out)["cells"] if cell["method"] == "markov")
    ranks = pl.read_parquet(tmp_path / folder / "ranks.parquet")
    half = ranks.select(pl.col("rank").is_between(1, 5).mean()).item()
    recommended = {item for items in ranks["top_items"].to_list() for item in items if item}

    *commands, drawing = called(
        site,
        ["compare", "markov", "popularity", "--metric", "halfhit", "--k", "10", "--json"],
        ["show", folder, "--json"],
        ["show", folder],
        ["figure", "ranks", "--method", "markov", "--format", "svg", "--json"],
    )
    assert {ended.code for ended in commands} == {0}, commands
    compared, shown, told = (ended.out for ended in commands)
    (found,) = json.loads(compared)
    assert found["metrics"][0]["first"] == pytest.approx(half)
    metrics = json.loads(shown)["metrics"]
    assert metrics["HalfHit@10"] == pytest.approx(half)
    assert metrics["Reach@10"] == pytest.approx(len(recommended) / 13)  # the items of the ratings
    assert "Reach@10" in told

    pytest.importorskip("matplotlib")
    assert drawing.code == 0, drawing.err
    (figure,) = json.loads(drawing.out)["figures"]
    assert figure["caption"] == "Ranks of Markov."
    svg, csv = (tmp_path / file for file in figure["files"])
    assert svg.read_text().startswith("<?xml")
    assert pl.read_csv(csv)["len"].sum() == len(ranks) == 40
