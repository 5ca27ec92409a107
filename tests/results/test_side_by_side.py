"""Tables of several data sets. Oracles: the single tables, positions in printed lines, independent parsers."""

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from made_up_runs import CONTRACT, made_up_ranks, write_made_up_run

from results.errors import ResultsError
from results.tables.content import Table
from results.tables.hypertext import html_fragment
from results.tables.joined import side_by_side
from results.tables.performance import View, overall_table
from results.tables.render import render, to_csv, to_json, to_latex, to_markdown


def write(runs_dir: Path, dataset: str, method: str, share: float, **changes: object) -> None:
    ranks = made_up_ranks(200, share, 0)
    given = {"dataset": dataset, "dataset_fingerprint": dataset.encode().hex(), "title": method.upper()} | changes
    write_made_up_run(runs_dir, ranks, method=method, **given)


def singles(runs_dir: Path) -> list[Table]:
    write(runs_dir, "beauty", "sasrec", 0.3)
    write(runs_dir, "beauty", "etegrec", 0.4)
    write(runs_dir, "toys", "sasrec", 0.5, config_digest="feed000000000000")
    write(runs_dir, "toys", "tiger", 0.7)
    write(runs_dir, "toys", "etegrec", 0.4)
    return [overall_table(runs_dir, name, view=View(intervals=True)) for name in ("beauty", "toys")]


@pytest.fixture
def tables(tmp_path: Path) -> list[Table]:
    return singles(tmp_path)


def test_each_group_holds_the_cells_of_its_own_table(tables: list[Table]) -> None:
    joined = side_by_side(tables)
    assert joined.caption == "Overall performance on beauty and toys"
    assert [row.label for row in joined.rows] == ["SASREC", "TIGER", "ETEGREC", "Improvement"]
    for place, single in enumerate(tables):
        for row in joined.rows:
            found = [other.cells for other in single.rows if other.label == row.label]
            cells = row.cells[4 * place : 4 * place + 4]
            assert [cells] == found or (not found and all(cell.value is None for cell in cells))
    assert [column.group for column in joined.columns] == ["beauty"] * 4 + ["toys"] * 4
    assert side_by_side(tables[:1]) is tables[0]


def test_notes_that_all_share_are_said_once_and_others_with_their_data_set(tables: list[Table]) -> None:
    notes = side_by_side(tables).notes
    assert sum(note.endswith("training randomness is not measured.") for note in notes) == 1
    assert any(note.startswith("toys: Improvement: ETEGREC over the best baseline") for note in notes)


def test_a_wide_terminal_has_them_side_by_side_and_a_narrow_one_below_each_other(tables: list[Table]) -> None:
    wide = render(side_by_side(tables), "text", width=160).splitlines()
    group, heading = next((a, b) for a, b in pairwise(wide) if b.startswith("Method"))
    assert group.index("beauty") == heading.index("Recall@5")
    assert group.index("toys") == heading.rindex("Recall@5")
    narrow = render(side_by_side(tables), "text", width=60).splitlines()
    assert sum(line.startswith("Method") for line in narrow) == 2
    assert max(map(len, [line for line in narrow if "0." in line and not line.startswith(("beauty:", "toys:"))])) <= 60
    first = narrow[: [line.strip() for line in narrow].index("toys")]
    assert not any(line.startswith("TIGER") for line in first)  # has no value on beauty


def test_all_forms_name_the_data_set_of_each_value(tables: list[Table]) -> None:
    joined = side_by_side(tables)
    assert "beauty<br>Recall@5" in to_markdown(joined)
    assert r" & \multicolumn{4}{c}{beauty} & \multicolumn{4}{c}{toys} \\" in to_latex(joined)
    assert r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}" in to_latex(joined)
    assert '<th class="group" colspan="4" scope="colgroup">toys</th>' in html_fragment(joined)
    rows = list(csv.DictReader(io.StringIO(to_csv(joined))))
    toys = [row for row in rows if row["dataset"] == "toys" and row["row"] == "SASREC"]
    assert {row["fingerprint"] for row in toys} == {b"toys".hex()}
    assert {(row["schema"], row["contract"], row["config"]) for row in toys} == {("2", "abcd", "feed000000000000")}
    assert all(row["rules"].startswith("top_k=10, num_beams=20, decoding=trie") for row in toys)
    content = json.loads(to_json(joined))
    assert content["columns"][4]["origin"]["fingerprint"] == b"toys".hex()
    assert content["rows"][0]["cells"][4]["config"] == "feed000000000000"


def test_data_sets_of_one_name_are_told_apart_and_other_contracts_refused(tmp_path: Path) -> None:
    for fingerprint in ("aaaa1111", "bbbb2222"):
        write(tmp_path / fingerprint, "toys", "tiger", 0.3, dataset_fingerprint=fingerprint)
    made = [overall_table(tmp_path / fingerprint, "toys") for fingerprint in ("aaaa1111", "bbbb2222")]
    assert [c.group for c in side_by_side(made).columns[::4]] == ["toys-aaaa1111", "toys-bbbb2222"]
    write(tmp_path, "beauty", "tiger", 0.3, contract=CONTRACT | {"num_beams": 50}, contract_digest="ffff")
    with pytest.raises(ResultsError, match=r"one contract, but have beauty ffff, toys abcd; .*--contract"):
        side_by_side([overall_table(tmp_path, "beauty"), made[0]])


def test_a_metric_of_lists_stands_last_without_marks_and_is_not_sliced(tmp_path: Path) -> None:
    write(tmp_path, "beauty", "sasrec", 0.3, num_items=40)
    write(tmp_path, "beauty", "etegrec", 0.4, num_items=40)
    view = View(columns=(("Coverage", 5), ("Recall", 10), ("Novelty", 5)), titles={"Recall": "HR"})
    table = overall_table(tmp_path, "beauty", view=view)
    assert [column.name for column in table.columns] == ["HR@10", "Coverage@5", "Novelty@5"]
    cell = table.rows[0].cells[1]
    assert (cell.value, cell.best, cell.config) == (5 / 40, False, "c0ffee0000000000")  # all lists are items 1 to 10
    assert table.rows[0].cells[2].value is None  # made without the counts of training
    assert table.rows[-1].label == "Improvement"
    with pytest.raises(ResultsError, match="stored lists of 10 items"):
        overall_table(tmp_path, "beauty", view=View(columns=(("Coverage", 20),)))
    with pytest.raises(ResultsError, match="unknown metric 'Depth'; known: Recall, NDCG, MRR, Coverage"):
        overall_table(tmp_path, "beauty", view=View(columns=(("Depth", 5),)))
