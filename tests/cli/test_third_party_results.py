"""The metrics and the figure of docs/adding-more.md, as an installed package registers them. Oracle: counts by hand."""

import json
from pathlib import Path

import polars as pl
import pytest
from doc_pages import DOCS, entry_points, files
from one_process import called

PAGE = DOCS / "adding-more.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which the page's files are installed."""
    site = tmp_path / "site"
    metadata = site / "third_party-1.0.dist-info"
    metadata.mkdir(parents=True)
    for name, code in files(PAGE).items():
        (site / name).write_text(code)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points(PAGE))
    return site


def test_metrics_and_a_figure_are_one_file_each_and_used_from_the_command_line(
    site: Path, ratings: Path, tmp_path: Path
) -> None:
    *commands, drawing = called(
        site,
        ["run", "--dataset", str(ratings), "--methods", "popularity,markov", "--json"],
        ["compare", "markov", "popularity", "--metric", "halfhit", "--k", "10", "--json"],
        ["show", "markov", "--json"],
        ["show", "markov"],
        ["figure", "ranks", "--method", "markov", "--format", "svg", "--json"],
    )
    assert {ended.code for ended in commands} == {0}, commands
    ran, compared, shown, told = (ended.out for ended in commands)
    folder = next(cell["folder"] for cell in json.loads(ran)["cells"] if cell["method"] == "markov")
    ranks = pl.read_parquet(tmp_path / folder / "ranks.parquet")
    half = ranks.select(pl.col("rank").is_between(1, 5).mean()).item()
    recommended = {item for items in ranks["top_items"].to_list() for item in items if item}

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
