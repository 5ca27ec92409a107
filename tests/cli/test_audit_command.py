"""`harness audit` and the rules of others on the command line. Oracles: the store, and the outcomes file."""

import json
from pathlib import Path

import numpy as np
import pytest

from results.store.find import find_runs
from results.store.runs import read_parquet


def test_an_audit_prints_every_convention_and_writes_table_and_figure(harness, two_methods, tmp_path: Path) -> None:
    assert "pop99" in harness("audit").out
    ended = harness("audit", "markov", "popularity", "--json", "--metric", "Recall", "--k", "5", "--figure", "drawn")
    table = json.loads(ended.out)
    names = [column["name"] for column in table["columns"]]
    assert names == ["ours", "masked", "codes", "CCE", "first", "last", "uni99", "pop99", "warm"]
    by_method = {run.record.method: run for run in find_runs(tmp_path / "runs")}
    for row in table["rows"][:2]:
        outcomes = by_method[row["label"].lower()].outcomes()
        unseen = outcomes.filter(~outcomes["target_seen"])["unseen_rank"]
        assert row["cells"][0]["value"] == pytest.approx((outcomes["rank"] <= 5).mean())
        assert row["cells"][1]["value"] == pytest.approx((unseen <= 5).sum() / len(outcomes))
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        f"audit.{suffix}" for suffix in ("csv", "pdf", "png", "svg")
    ]
    assert harness("audit", "--format", "csv", "--out", "audit.csv").code == 0
    assert "masked" in (tmp_path / "audit.csv").read_text()
    masked = json.loads(harness("table", "overall", "--mask-history", "--json").out)
    assert any("history=removed" in note for note in masked["notes"])
    assert "KB" in harness("ls").out
    assert {"bytes"} <= json.loads(harness("ls", "--json").out)[0].keys()


def test_models_are_trained_again_for_the_columns_of_epochs(harness, ratings: Path, tmp_path: Path) -> None:
    short = ("--set", "sasrec.epochs=3", "--set", "sasrec.hidden_size=16")
    assert harness("run", "--dataset", str(ratings), "--methods", "popularity,sasrec", *short).code == 0
    ended = harness("audit", "popularity", "sasrec", "--configs", "all", "--fit", "--json", "--metric", "Recall")
    assert "left out by --fit: Popularity" in ended.err
    assert "again: done" in ended.err
    table = json.loads(ended.out)
    places = {column["name"]: place for place, column in enumerate(table["columns"])}
    (run,) = [run for run in find_runs(tmp_path / "runs") if run.record.method == "sasrec"]
    recalls = [np.mean(np.array(ranks) > 0) for ranks in read_parquet(run.folder / "epochs.parquet")["ranks"]]
    cells = {row["label"].partition(",")[0]: row["cells"] for row in table["rows"][:2]}
    assert len(recalls) == 3
    assert cells["SASRec"][places["last epoch"]]["value"] == pytest.approx(recalls[-1])
    assert cells["SASRec"][places["test best"]]["value"] == pytest.approx(max(recalls))
    assert cells["Popularity"][places["test best"]] == cells["Popularity"][places["ours"]]
    assert not list((tmp_path / "cache" / "audit-fits").glob("*.partial"))
    again = harness("audit", "popularity", "sasrec", "--configs", "all", "--fit", "--json", "--metric", "Recall")
    assert (again.out, "again: done" in again.err) == (ended.out, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit", "--decode", "7"), r"some of 10, 20, 50, 100, exact, but got '7'"),
        (("audit", "--decode", "10"), "needs a method that generates, but got Popularity, Markov"),
        (("audit", "--metric", "NDGC"), "unknown metric 'NDGC'"),
        (("audit", "nothing"), "no finished run"),
        (("audit", "--fit"), "needs a method that is trained in epochs, but got Popularity, Markov"),
        (("audit", "--fit", "--cache-dir", "elsewhere", "markov"), "needs a method that is trained in epochs"),
        (("run", "--contract", "s3reck"), "unknown contract 's3reck'; did you mean 's3rec'"),
        (
            ("run", "--set", "contract.history=removed", "--set", "contract.ties=last"),
            "one may differ from the default",
        ),
        (("run", "--decoding", "exactly"), "decoding"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(harness, two_methods, arguments, message) -> None:
    ended = harness(*arguments)
    assert ended.code == 2
    assert message in ended.error
