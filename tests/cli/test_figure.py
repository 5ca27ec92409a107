"""`harness figure` as its user sees it. Oracles: files on disk, the runs and stages that a tiny experiment leaves."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from report_runs import write_report_runs

from harness.experiment.stored import pretraining_of
from results.store.find import RunFilter, find_runs

pytest.importorskip("matplotlib")

TINY = """
[etegrec]
vectors = { hidden_size = 16, inner_size = 16, num_layers = 1, num_heads = 1, epochs = 2 }
tokenizer = { rqvae = { hidden_sizes = [16], code_dim = 8, codebook_size = 8 }, epochs = 4, evaluate_every = 2 }
generator = { d_model = 16, d_ff = 32, num_heads = 2, d_head = 8 }
alignment_warmup_epochs = 0
epochs = 2
evaluate_every = 2
finetuning = { epochs = 1, evaluate_every = 1 }
"""


def test_all_draws_what_it_can_and_says_why_not_the_rest(harness):
    write_report_runs(Path("runs"))
    ended = harness("figure", "all", "--format", "svg", "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert {figure["name"] for figure in told["figures"]} == {"curves", "tokenizer", "ablation", "cost"}
    for figure in told["figures"]:
        assert figure["files"] == [f"figures/scientific2018/{figure['name']}.{end}" for end in ("svg", "csv")]
        assert all(Path(file).stat().st_size for file in figure["files"])
        assert "scientific2018" in figure["caption"]
    assert set(told["not_made"]) == {"audit", "splits", "unseen", "alignment", "hyperparameters", "sweep"}
    assert told["not_made"]["unseen"] == (
        "no runs of scientific2018-unseen-users; make them with: harness run --dataset PATH/TO/scientific2018 "
        "--split unseen-users --methods tiger,letter,etegrec"
    )
    assert (
        "harness sweep --dataset PATH/TO/scientific2018 --method etegrec --grid mu"
        in told["not_made"]["hyperparameters"]
    )
    assert all("\n" not in reason for reason in told["not_made"].values())


def test_one_figure_prints_its_caption_and_where_it_is(harness):
    write_report_runs(Path("runs"))
    ended = harness("figure", "cost", "--out", "here", "--format", "svg,pdf")
    assert ended.code == 0
    assert ended.out.startswith("cost here/cost.{svg,pdf,csv}\n")
    assert "Accuracy and cost of training on scientific2018" in ended.out
    assert sorted(path.name for path in Path("here").iterdir()) == ["cost.csv", "cost.pdf", "cost.svg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cost",), "a figure needs finished runs, but runs has none; make some with: harness run"),
        (("cost", "--dataset", "mars"), "runs has none of data set 'mars'"),
        (("cost", "--format", "png,jpg"), "--format must be of png, svg, pdf, with commas between, but got 'jpg'"),
        (("sweep", "--dataset", "demo"), "make one with: harness sweep --dataset demo --method etegrec"),
        (("nothing",), "'nothing'"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(harness, arguments, words):
    ended = harness("figure", *arguments)
    assert ended.code == 2
    assert words in ended.error
    assert not Path("figures").exists()


def test_a_missing_matplotlib_is_one_line(harness, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = harness("figure", "all")
    assert ended.code == 2
    assert "pip install 'etegrec-harness[figures]'" in ended.error


def test_a_tiny_experiment_has_its_pretraining_and_its_alignment(harness, ratings):
    Path("tiny.toml").write_text(TINY)
    data = ("--dataset", str(ratings), "--methods", "etegrec", "--ablation", "psa", "--config", "tiny.toml")
    assert harness("run", *data).code == 0
    (told,) = json.loads(harness("figure", "alignment", "--format", "svg", "--json").out)["figures"]
    assert "80 histories that lead to them" in told["caption"]

    (run,) = find_runs(Path("runs"), RunFilter(variant="full"))
    pretraining = pretraining_of(run, Path("cache"))
    assert pretraining is not None
    lengths = pretraining.group_by("stage", maintain_order=True).agg(pl.col("epoch").max()).rows()
    assert lengths == [("sasrec", 2), ("tokenizer", 4)]
    assert pretraining_of(run, Path("elsewhere")) is None

    alignment = pl.read_csv("figures/tiny/alignment.csv")
    assert alignment.group_by("panel", maintain_order=True).len().rows() == [("ETEGRec", 90), ("w/o PSA", 90)]
