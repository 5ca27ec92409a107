"""The audit. Oracles: metrics worked out by hand, every order of an item group counted, pairs counted by a loop."""

import csv
import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CONTRACT, made_up_cases, made_up_outcomes, write_made_up_run

from results.errors import ResultsError
from results.figures.audit import audit_figure
from results.report import gather, page_of
from results.statistics.audit import agreement, audit, decoded_path, expected_values, missed_share, swapped_pairs
from results.store.contract import contract_digest
from results.store.epochs import epochs_frame, epochs_path
from results.store.schema import cases_frame, history_frame
from results.store.selection import select_runs
from results.tables.audit import audit_table, column_parts
from results.tables.render import render


def test_the_example_of_the_methods_sheet():
    """METHODS B.11: sizes 3, 1, 2, the target's group third, K = 5: P = 4, m = 1, so a hit of one half."""
    frame = made_up_outcomes(
        np.array([5]), code_rank=np.array([3]), code_ahead=np.array([4]), target_sharers=np.array([2])
    )
    assert expected_values(frame, "Recall", 5, 10).tolist() == [0.5]
    assert expected_values(frame, "NDCG", 5, 10)[0] == pytest.approx(0.5 / math.log2(6))


@pytest.mark.parametrize("metric", ["Recall", "NDCG", "MRR"])
def test_the_expectation_is_the_mean_over_all_orders_within_the_group(metric):
    ahead, group, k = 3, 4, 5
    frame = made_up_outcomes(
        np.array([4, 0]), code_rank=[2, 0], code_ahead=np.array([ahead, 0]), target_sharers=np.array([group, group])
    )
    gain = {"Recall": lambda r: 1.0, "NDCG": lambda r: 1 / math.log2(r + 1), "MRR": lambda r: 1 / r}[metric]
    ranks = [ahead + order.index(0) + 1 for order in itertools.permutations(range(group))]
    expected = sum(gain(rank) for rank in ranks if rank <= k) / len(ranks)
    assert expected_values(frame, metric, k, 10) == pytest.approx([expected, 0.0])


def test_swapped_pairs_and_tau_are_those_of_a_loop():
    stream = np.random.default_rng(3)
    for _ in range(20):
        first, second = stream.integers(0, 5, 6).astype(float), stream.integers(0, 5, 6).astype(float)
        second[0] = np.nan
        signs = [
            np.sign(first[a] - first[b]) * np.sign(second[a] - second[b])
            for a, b in itertools.combinations(range(1, 6), 2)
        ]
        assert swapped_pairs(first, second) == signs.count(-1)
        ties = [sum(x[a] == x[b] for a, b in itertools.combinations(range(1, 6), 2)) for x in (first, second)]
        below = math.sqrt((10 - ties[0]) * (10 - ties[1]))
        if below:
            assert agreement(first, second) == pytest.approx(sum(signs) / below)
    assert math.isnan(agreement(np.array([1.0, np.nan]), np.array([1.0, 2.0])))


def test_a_list_misses_an_item_whatever_the_order_of_the_others():
    true = made_up_outcomes(np.zeros(3, int), items=np.tile(np.arange(1, 13), (3, 1)))
    lists = np.array([[2, 1, *range(3, 13)], [*range(1, 10), 12, 11, 10], [*range(1, 11), 12, 11]])
    assert missed_share(made_up_outcomes(np.zeros(3, int), items=lists), true) == pytest.approx(1 / 3)


TIGER = {
    "rank": [1, 4, 0, 9],
    "unseen_rank": [1, 2, 0, 7],
    "code_rank": [1, 2, 0, 5],
    "code_ahead": [0, 2, 0, 6],
    "target_sharers": [1, 3, 1, 4],
}
SASREC = {"rank": [2, 2, 30, 1], "unseen_rank": [2, 1, 25, 1], "popular_ahead": [0.0, 0.0, 0.0, 0.0]}


def arrays(columns):
    return {name: np.array(values) for name, values in columns.items()}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    cases = cases_frame([5] * 4, [3, 0, 1, 2])
    write_made_up_run(tmp_path, [1, 4, 0, 9], cases, arrays(TIGER), family="generative")
    write_made_up_run(
        tmp_path, [2, 2, 0, 1], cases, arrays(SASREC), family="item-scoring", method="sasrec", title="SASRec"
    )
    return tmp_path


def column(found, name):
    place = [convention.name for convention in found.conventions].index(name)
    return found.values_MC[:, place].tolist()


def test_each_column_is_the_metric_worked_out_by_hand(runs):
    found = audit(select_runs(runs, "demo").rows, "Recall", 5)
    assert [row.label for row in found.rows] == ["SASRec", "TIGER"]
    assert column(found, "ours") == [0.75, 0.5]
    assert column(found, "masked") == [0.75, 0.5]
    assert column(found, "codes") == [0.75, 0.75]
    assert column(found, "CCE") == pytest.approx([0.75, 0.5])  # ranks 3 to 5 of the second user all count
    assert column(found, "first") == [0.75, 0.5]
    assert column(found, "last") == [0.75, 0.5]
    assert column(found, "warm") == pytest.approx([2 / 3, 1 / 3])
    sampled = column(found, "pop99")
    assert sampled[0] == 1.0  # nothing popular is ahead of any target
    assert math.isnan(sampled[1])  # a search knows no other scores
    place = [convention.name for convention in found.conventions].index("codes")
    assert found.inflation_MC[:, place] == pytest.approx([0, 50])
    assert (found.swapped[0], found.tau[0]) == (0, 1.0)
    assert math.isnan(found.tau[place])  # both rows are equal there
    assert column(found, "beam20") == column(found, "ours")
    assert "beam50" not in [convention.name for convention in found.conventions]


def test_another_search_is_read_from_beside_the_run(runs):
    rows = select_runs(runs, "demo").rows
    exact = arrays({**TIGER, "rank": [1, 1, 1, 1], "unseen_rank": [1, 1, 1, 1], "popular_ahead": [0.0] * 4})
    lists = np.tile(np.arange(1, 13), (4, 1))
    lists[0, 0] = 40
    made_up_outcomes(np.ones(4, int), items=lists, **exact).write_parquet(decoded_path(rows[1].runs[0], "exact"))
    found = audit(rows, "Recall", 5)
    assert column(found, "exact") == [0.75, 1.0]
    assert column(found, "pop99") == [1.0, 1.0]
    gain = 100 * (4 / (1 + 1 / math.log2(5)) - 1)  # ranks 1, 4, none, and 9, which is beyond 5; then 1 of everyone
    expected = f"25.00 % of the users; Recall@5 +100.00 %, NDCG@5 {gain:+.2f} %, MRR@5 +220.00 %."
    assert any("beams of TIGER" in note and note.endswith(expected) for note in found.notes)


def test_the_columns_of_epochs_are_the_metric_of_the_last_and_of_the_best_epoch(runs):
    """By hand, Recall@1 and @5 of four users: the best epoch depends on k; what has no epochs keeps its value."""
    write_made_up_run(runs, [1, 2, 0, 0], made_up_cases(4), {}, history_frame([]), method="markov", title="Markov")
    rows = select_runs(runs, "demo").rows
    assert not {"last epoch", "test best"} & {convention.name for convention in audit(rows).conventions}
    epochs = [("joint", 1, [1, 0, 0, 1]), ("joint", 2, [5, 4, 3, 0]), ("finetuning", 1, [1, 4, 0, 9])]
    made = [{"stage": stage, "epoch": epoch, "score": 0.1, "ranks": ranks} for stage, epoch, ranks in epochs]
    tiger = rows[2].runs[0]
    epochs_frame(made).write_parquet(epochs_path(tiger))
    for k, last, best in ((1, 0.25, 0.5), (5, 0.5, 0.75)):
        found = audit(rows, "Recall", k)
        markov = [1 / 4, 1 / 2][k == 5]
        assert column(found, "last epoch") == pytest.approx([markov, math.nan, last], nan_ok=True)
        assert column(found, "test best") == pytest.approx([markov, math.nan, best], nan_ok=True)
        assert not any("Trained again" in note for note in found.notes)  # the last epoch's ranks are the run's
    epochs_frame(made[:2]).write_parquet(epochs_path(tiger))
    assert any(note.endswith("another fit: TIGER.") for note in audit(rows).notes)


def test_the_table_has_values_shifts_and_agreement_and_every_format(runs):
    table = audit_table(audit(select_runs(runs, "demo").rows))
    assert [row.section for row in table.rows] == ["NDCG@10"] * 2 + ["Against ours, %"] * 2 + ["Order"] * 3
    for format in ("text", "markdown", "latex", "html", "csv", "json"):
        assert "Kendall" in render(table, format)
    parts = column_parts(table, 4)
    assert all(part.columns[0].name == "ours" and len(part.columns) <= 4 for part in parts)
    names = [column.name for part in parts for column in part.columns[1:]]
    assert names == [column.name for column in table.columns[1:]]
    assert [bool(part.notes) for part in parts] == [False] * (len(parts) - 1) + [True]
    cells = {(part.columns[-1].name, row.label): row.cells[-1] for part in parts for row in part.rows[:2]}
    last = table.columns[-1].name
    assert cells[last, "TIGER"] == table.rows[1].cells[-1]


def test_each_value_of_the_csv_tells_what_it_was_made_from(runs):
    """Digests of the rules as their names say; a contract that the command line takes has the digest of its runs."""
    rows = select_runs(runs, "demo").rows
    lines = list(csv.DictReader(io.StringIO(render(audit_table(audit(rows)), "csv"))))
    record = rows[0].record
    assert {(line["dataset"], line["fingerprint"]) for line in lines} == {(record.dataset, record.dataset_fingerprint)}
    contracts = {line["column"]: line["contract"] for line in lines}
    assert contracts["ours"] == contracts["beam20"] == record.contract_digest
    changes = {"masked": {"history": "removed"}, "last": {"ties": "last"}, "warm": {"cold_targets": "dropped"}}
    for name, change in changes.items():
        assert contracts[name] == contract_digest({**record.contract, **change})
    others = [digest for name, digest in contracts.items() if name not in ("ours", "beam20")]
    assert len({*others, record.contract_digest}) == len(others) + 1
    for line in lines:
        is_value = line["section"] != "Order" and line["value"] != ""
        assert line["config"] == (record.config_digest if is_value else "")
        assert f"split={record.split}" in line["rules"]


def test_a_column_without_all_methods_is_marked_and_moves_no_line_for_those_that_lack(runs):
    """Popularity is behind TIGER by our rules; among the two that have scores of all items it stays where it was."""
    first = {**SASREC, "rank": [0, 0, 0, 0], "unseen_rank": [90, 90, 90, 90], "popular_ahead": [1.0] * 4}
    write_made_up_run(runs, [0, 0, 0, 0], made_up_cases(4), arrays(first), method="popularity", title="Popularity")
    found = audit(select_runs(runs, "demo").rows, "Recall", 5)
    frame = audit_figure(found).frame
    partial = {row["label"]: row for row in frame.filter(frame["convention"] == "pop99").iter_rows(named=True)}
    assert {label: (row["rank"], row["compared"], row["line"]) for label, row in partial.items()} == {
        "SASRec": (1, 2, 1),
        "Popularity": (2, 2, 3),
    }
    whole = frame.filter(frame["compared"] == 3)
    assert whole["rank"].to_list() == whole["line"].to_list()
    compared = next(row for row in audit_table(found).rows if row.label == "Methods compared")
    assert [cell.value for cell in compared.cells] == found.compared
    assert found.compared[[convention.name for convention in found.conventions].index("pop99")] == 2
    (note,) = [note for note in found.notes if "pop99" in note and "no value" in note]
    assert "no value of TIGER; harness audit --decode exact" in note
    assert b"pop99 (2 of 3)" in audit_figure(found).rendered(["svg"])["svg"]


def test_the_figure_ranks_the_methods_under_each_convention(runs):
    figure = audit_figure(audit(select_runs(runs, "demo").rows, "Recall", 5))
    ranks = {(row["convention"], row["label"]): row["rank"] for row in figure.frame.iter_rows(named=True)}
    assert (ranks["ours", "SASRec"], ranks["ours", "TIGER"]) == (1, 2)
    assert (ranks["codes", "SASRec"], ranks["codes", "TIGER"]) == (1, 1)
    assert ("pop99", "TIGER") not in ranks
    assert b"<svg" in figure.rendered(["svg"])["svg"]
    with pytest.raises(ResultsError, match="at least two methods"):
        audit_figure(audit(select_runs(runs, "demo").rows[:1]))


def test_the_report_has_the_audit_where_all_runs_kept_outcomes(runs):
    page = page_of(gather(runs, "demo")).html()
    assert 'id="rules-of-others"' in page
    write_made_up_run(runs, [0, 0, 0, 1], made_up_cases(4), method="markov", title="Markov", contract=CONTRACT)
    assert 'id="rules-of-others"' not in page_of(gather(runs, "demo")).html()


def test_runs_of_before_are_told_how_to_get_outcomes(tmp_path: Path):
    write_made_up_run(tmp_path, [1, 0])
    with pytest.raises(ResultsError, match=r"no outcomes\.parquet"):
        audit(select_runs(tmp_path, "demo").rows)
    with pytest.raises(ResultsError, match="needs finished runs"):
        audit([])
