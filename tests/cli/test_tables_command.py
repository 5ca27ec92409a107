"""`harness table` and runs on several data sets. Oracles: single tables, arithmetic on stored ranks, files' content."""

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest
from tiny_ratings import ROWS

RUN = ("--methods", "popularity,markov")


@pytest.fixture
def two(tmp_path: Path) -> str:
    """Two data sets of the same kind, the second with two users fewer."""
    (tmp_path / "first.csv").write_text("\n".join(ROWS) + "\n")
    (tmp_path / "second.csv").write_text("\n".join(ROWS[12:]) + "\n")
    return "first.csv,second.csv"


def values(table: dict) -> list[list[float]]:
    """The values of a table's rows."""
    return [[cell["value"] for cell in row["cells"]] for row in table["rows"]]


def test_several_data_sets_are_run_and_shown_side_by_side(harness, two):
    planned = json.loads(harness("run", "--dataset", two, *RUN, "--dry-run", "--json").out)
    assert [one["dataset"] for one in planned] == ["first", "second"]
    ended = harness("run", "--dataset", two, *RUN, "--json")
    assert ended.code == 0
    assert [line for line in ended.err.splitlines() if line.endswith(":")] == ["first:", "second:"]
    content = json.loads(ended.out)
    assert [one["dataset"] for one in content["datasets"]] == ["first", "second"]
    joined = content["tables"]["overall"]
    assert joined["caption"] == "Overall performance on first and second"
    assert [column["group"] for column in joined["columns"]] == ["first"] * 4 + ["second"] * 4
    again = json.loads(harness("table", "overall", "--dataset", "first,second", "--json").out)
    assert (again["columns"], values(again)) == (joined["columns"], values(joined))
    one = json.loads(harness("table", "overall", "--dataset", "second", "--json").out)
    assert [row[4:] for row in values(joined)] == values(one)
    assert harness("table", "overall", "--dataset", "first,third").error.endswith("first, second")
    assert "one data set must be named" in harness("table", "overall").error
    assert harness("run", "--dataset", "first.csv,absent.csv", *RUN).error.endswith("check the path")
    names = [row["row"] for row in csv.DictReader(io.StringIO(harness("table", "datasets", "--format", "csv").out))]
    assert list(dict.fromkeys(names)) == ["first", "second"]


def test_metrics_and_lengths_are_as_asked(harness, two_methods):
    asked = ("table", "overall", "--metrics", "mrr,hr,coverage,novelty", "--k", "3,10")
    table = json.loads(harness(*asked, "--json").out)
    assert [c["name"] for c in table["columns"]] == [
        f"{m}@{k}" for m in ("MRR", "HR", "Coverage", "Novelty") for k in (3, 10)
    ]
    (folder,) = Path("runs").glob("tiny-*/markov/full/*/seed=0")
    ranks = pl.read_parquet(folder / "ranks.parquet")
    row = next(row for row in table["rows"] if row["label"] == "Markov")
    assert row["cells"][2]["value"] == ranks["rank"].is_between(1, 3).mean()
    listed = {item for items in ranks["top_items"].to_list() for item in items[:3] if item}
    assert row["cells"][4]["value"] == len(listed) / 13
    assert row["cells"][6]["value"] is None  # at 3 novelty is not stored
    assert row["cells"][7]["value"] > 0
    assert any(note == "Novelty@3: not stored with Popularity, Markov." for note in table["notes"])
    everything = json.loads(harness("table", "overall", "--metrics", "all", "--json").out)
    assert len(everything["columns"]) == 10
    assert "unknown metric 'auc'" in harness("table", "overall", "--metrics", "auc").error
    assert "--k must be lengths" in harness("table", "overall", "--k", "ten").error
    assert "NDCG@20 and stored lists of 10 items" in harness("table", "overall", "--k", "20", "--metrics", "ndcg").error
    sliced = harness("table", "overall", "--metrics", "coverage", "--slice", "user-length")
    assert "Coverage is of all lists together" in sliced.error


def test_a_file_is_written_in_the_form_that_its_ending_says(harness, two_methods):
    begins = {"tex": "% needs", "md": "**Overall", "csv": "schema,dataset,fingerprint,contract", "txt": "Overall"}
    begins |= {"html": "<!doctype", "json": "{"}
    for ending, beginning in begins.items():
        assert harness("table", "overall", "--out", f"t.{ending}").out == ""
        assert Path(f"t.{ending}").read_text().startswith(beginning)
    (row, *_) = csv.DictReader(io.StringIO(Path("t.csv").read_text()))
    (record,) = [json.loads(path.read_text()) for path in Path("runs").rglob("run.json") if "popularity" in str(path)]
    assert (row["fingerprint"], row["contract"]) == (record["dataset_fingerprint"], record["contract_digest"])
    assert (row["row"], row["config"], row["dataset"]) == ("Popularity", record["config_digest"], "tiny")
    harness("table", "overall", "--out", "t.dat", "--format", "csv")
    assert Path("t.dat").read_text() == Path("t.csv").read_text()
    assert "--out must end" in harness("table", "overall", "--out", "t.docx").error
    assert "a folder that exists" in harness("table", "overall", "--out", "no/t.md").error


def test_text_marks_the_best_and_the_second(harness, two_methods):
    text = harness("table", "overall", "--format", "text").out
    assert "¹: best; ²: second best." in text
    best = next(line for line in text.splitlines() if line.startswith("Markov"))
    assert best.count("¹") == 4
