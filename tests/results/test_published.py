"""Published figures. Oracles: the shipped files read by themselves, per cents and standard errors by hand."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CONTRACT, made_up_cases, made_up_ranks, write_made_up_run

from results.errors import ResultsError
from results.published.registry import KINDS, Figure, Registry, Rules, registry, reports
from results.published.verdicts import checks, rows_of
from results.tables.performance import View, overall_table
from results.tables.render import render, to_csv

FILES = Path(__file__).resolve().parents[2] / "results" / "published"
FIGURE = Figure(
    source="a paper", kind="paper", dataset="demo", method="sasrec", metric="Recall", k=10, value=0.5,
    rules=Rules(history_masked=False, max_history=50, beams=20),
)  # fmt: skip


def test_every_number_of_the_files_is_a_figure() -> None:
    known = registry()
    with (FILES / "elsewhere.csv").open() as file:
        rows = list(csv.DictReader(file))
    metrics = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
    assert len(known.of(None, paper=False)) == sum(bool(row[name]) for row in rows for name in metrics)
    assert len(known.of(None, elsewhere=False)) == 14 * 3 * 4 + 5 * 3 * 4  # Table 3; Table 4 without its first row
    (found,) = [
        f for f in known.of("beauty2014") if (f.source, f.method, f.metric, f.k) == ("TIGER", "TIGER", "NDCG", 10)
    ]
    assert (found.value, found.kind, found.rules) == (0.0384, "paper", Rules(max_history=20))
    (spread,) = [
        f for f in known.of("game") if (f.source, f.method) == ("RecBoard", "HSTU") and f.std and f.metric == "NDCG"
    ]
    assert (spread.value, spread.std, spread.seeds, spread.rules.history_masked) == (0.06, 0.0003, 5, True)
    assert {f.kind for f in known.figures} == set(KINDS)
    assert {f.dataset for f in known.figures} == set(known.counts)


def test_a_data_set_is_recognised_by_its_counts() -> None:
    known = registry()
    assert known.recognised(22_363, 12_101, 198_502) == known.recognised(22_363, 12_101) == "beauty2014"
    assert known.recognised(22_363, 12_101, 198_501) is None
    assert known.recognised(40, 13, 240) is None


def test_several_attempts_of_one_source_are_reports_of_their_own() -> None:
    found = [f for f in registry().of("scientific") if f.kind == "reproduction"]
    assert sorted(f.value for (f,) in reports(found)) == [0.0433, 0.0435, 0.0440]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


HEAD = "source,kind,dataset,method,recall@10,history_masked,seeds,users,items,interactions"


def test_a_file_of_ones_own_adds_figures_and_data_sets(tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.csv", HEAD, "mine,paper,beauty2014,New,0.07,no,,,,", "mine,paper,tiny,New,.3,,3,40,13,240"
    )
    known = registry(own)
    first, second = [f for f in known.figures if f.source == "mine"]
    assert (first.dataset, first.value, first.rules.history_masked, first.seeds) == ("beauty2014", 0.07, False, None)
    assert (second.value, second.seeds, known.recognised(40, 13, 240)) == (0.3, 3, "tiny")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["source,kind,dataset,method", "a,paper,game,B"], "own.csv: .* but lacks a metric such as recall@10"),
        (["source,kind,method,recall@10", "a,paper,B,.1"], "but lacks dataset"),
        ([HEAD + ",speed", "a,paper,game,B,.1,,,,,,"], "unknown column 'speed'"),
        (["source,kind,dataset,method,auc@10", "a,paper,game,B,.1"], "unknown metric 'auc'"),
        ([HEAD, "a,blog,game,B,.1,,,,,"], "own.csv:2: kind must be one of paper, repository"),
        ([HEAD, "a,paper,game,B,7.1,,,,,"], r"own.csv:2: recall@10 must be a share .* '7.1'; divide per cents"),
        ([HEAD, "a,paper,game,B,nan,,,,,"], "recall@10 must be a share"),
        ([HEAD, "a,paper,game,B,.1,maybe,,,,"], "history_masked must be yes, no or empty"),
        ([HEAD, "a,paper,game,B,.1,,few,,,"], "seeds must be a whole number"),
        ([HEAD, "a,paper,game,,.1,,,,,"], "method must be given"),
        ([HEAD, "a,paper,mars,B,.1,,,,,"], "own.csv:2: data set 'mars' must be one of beauty2014"),
        ([HEAD, "a,paper,game,B,.1"], "own.csv:2: must have 10 fields"),
    ],
)
def test_a_faulty_file_is_one_line_that_says_where(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ResultsError, match=message) as caught:
        registry(write(tmp_path / "own.csv", *lines))
    assert "\n" not in str(caught.value)


def test_per_cent_and_standard_errors_by_hand(tmp_path: Path) -> None:
    hits = [made_up_ranks(400, share, seed) for seed, share in ((0, 0.5), (1, 0.55))]
    for seed, ranks in enumerate(hits):
        write_made_up_run(tmp_path, ranks, method="sasrec", title="SASRec", seed=seed)
    rows = rows_of(tmp_path, "demo")
    (check,) = checks(rows, [replace(FIGURE, std=0.02, seeds=4)])
    means = np.array([(ranks > 0).mean() for ranks in hits])
    users = np.mean([(ranks > 0).astype(float) for ranks in hits], axis=0)
    error = math.sqrt(users.var(ddof=1) / 400 + means.var(ddof=1) / 2 + 0.02**2 / 4)
    assert (check.value, check.seeds, check.ours) == (pytest.approx(means.mean()), 2, "SASRec")
    assert check.percent == pytest.approx(100 * (means.mean() - 0.5) / 0.5)
    assert check.standard_errors == pytest.approx((means.mean() - 0.5) / error)


def test_the_verdict_follows_the_distance_and_the_rules(tmp_path: Path) -> None:
    cases = made_up_cases(100)
    write_made_up_run(tmp_path, np.repeat([1, 0], 50), cases, method="sasrec", title="SASRec", family="item-scoring")
    rows = rows_of(tmp_path, "demo")

    def verdict(max_history: int | None = None, **changes: object) -> str:
        return checks(rows, [replace(FIGURE, **changes)], max_history)[0].verdict

    assert verdict(value=0.52) == "reproduced within 5 %"
    assert (verdict(value=0.4), verdict(value=0.6)) == ("above", "below")
    masked = verdict(rules=Rules(history_masked=True, max_history=4))
    assert masked == (
        "not comparable, because items of the history are left out of the ranking there, not here; "
        "histories have at most 4 items there, 5 here"
    )
    assert verdict(rules=Rules(max_history=20)) == "reproduced within 5 %"  # no history of ours reaches 20
    assert verdict(5, rules=Rules(max_history=20)).endswith("at most 20 items there, 5 here")
    assert verdict(rules=Rules(beams=500)) == "reproduced within 5 %"  # SASRec has no beams
    assert verdict(k=20) == "not comparable, because our lists end at 10 places"
    assert verdict(method="HSTU") == "no run of ours"
    (check,) = checks(rows, [replace(FIGURE, rules=Rules())])
    assert check.unstated == ("history left out or not", "longest history")


def test_the_run_whose_rules_differ_least_answers(tmp_path: Path) -> None:
    ranks = np.repeat([1, 0], 50)
    other = CONTRACT | {"history": "removed", "num_beams": 50}
    common = {"method": "tiger", "title": "TIGER", "family": "generative"}
    write_made_up_run(tmp_path, ranks, **common)
    write_made_up_run(tmp_path, ranks[::-1], **common, contract=other, contract_digest="ffff", config_digest="dada")
    rows = rows_of(tmp_path, "demo")
    masked = replace(FIGURE, method="TIGER", rules=Rules(history_masked=True, beams=50))
    assert checks(rows, [masked])[0].verdict == "reproduced within 5 %"
    kept = replace(masked, rules=Rules(history_masked=False, beams=30))
    assert checks(rows, [kept])[0].verdict == "not comparable, because 30 beams there, 20 here"


def test_other_sources_stand_below_our_rows(tmp_path: Path) -> None:
    for method, title in (("sasrec", "SASRec"), ("markov", "Markov")):
        write_made_up_run(tmp_path, [1, 0, 2], method=method, title=title, num_items=7)
    counts = {"tiny": registry().counts["game"]._replace(users=3, items=7)}
    figures = (
        replace(FIGURE, dataset="tiny", value=0.25),
        replace(FIGURE, dataset="tiny", value=0.26, rules=Rules(history_masked=True), variant="a long name " * 4),
        replace(FIGURE, dataset="tiny", method="HSTU", value=0.27),
        replace(FIGURE, dataset="tiny", method="BSARec", metric="MRR"),
    )
    table = overall_table(tmp_path, "demo", view=View(elsewhere=Registry(figures, counts)))
    assert [row.label for row in table.rows] == ["Markov", "SASRec", "HSTU"]
    sasrec, hstu = table.rows[1:]
    assert [(b.label[:9], b.label[-2:], b.values) for b in sasrec.beside] == [
        ("a paper", "er", (None, 0.25, None, None)),
        ("a paper, ", " ≠", (None, 0.26, None, None)),
    ]
    assert (hstu.section, hstu.beside[0].values[1]) == ("Published elsewhere only", 0.27)
    text = render(table, "text")
    assert "…" in text
    assert "harness verify says which" in text
    sources = [row["source"] for row in csv.DictReader(to_csv(table).splitlines()) if row["source"]]
    assert [source[:7] for source in sources] == ["a paper"] * 3
    assert "a paper" in render(table, "markdown")
    none = overall_table(tmp_path, "demo", view=View(elsewhere=Registry((), {})))
    assert any(
        note.startswith("Nothing is published elsewhere on data with 3 users and 7 items") for note in none.notes
    )
