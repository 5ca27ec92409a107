"""Oracles: labels by hand, and a table of the slice's users alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import made_up_ranks, write_made_up_run
from scipy import stats

from results.errors import ResultsError
from results.statistics.inference import holm
from results.store.schema import cases_frame
from results.tables.content import Table, TableCell, TableRow
from results.tables.performance import View, ablation_table, overall_table
from results.tables.render import FORMATS, render
from results.tables.slices import SLICINGS, slicing_named


def labels(name: str, **columns: Any) -> list[str | None]:
    num_users = len(next(iter(columns.values())))
    frame = cases_frame(
        columns.get("history_lengths", [1] * num_users),
        columns.get("target_counts", [1] * num_users),
        columns.get("target_sharers"),
        columns.get("new_users"),
    )
    return slicing_named(name).labels(frame).to_list()


def rows_of(table: Table, section: str) -> dict[str, TableRow]:
    return {row.label: row for row in table.rows if row.section == section}


def cell(table: Table, section: str, label: str, column: str) -> TableCell:
    return rows_of(table, section)[label].cells[[c.name for c in table.columns].index(column)]


def test_each_edge_belongs_to_the_slice_below_it() -> None:
    assert labels("item-popularity", target_counts=[0, 1, 5, 6, 20, 21, 100, 101]) == [
        "Target: never", "Target: 1–5 times", "Target: 1–5 times", "Target: 6–20 times", "Target: 6–20 times",
        "Target: 21–100 times", "Target: 21–100 times", "Target: over 100 times",
    ]  # fmt: skip
    assert labels("user-length", history_lengths=[1, 5, 6, 10, 11, 20, 21]) == [
        "History: 1–5 items", "History: 1–5 items", "History: 6–10 items", "History: 6–10 items",
        "History: 11–20 items", "History: 11–20 items", "History: over 20 items",
    ]  # fmt: skip


def test_slices_of_two_halves_and_users_in_neither() -> None:
    assert labels("unseen-item", target_counts=[0, 1]) == ["Target: unseen", "Target: seen"]
    assert labels("new-user", new_users=[True, False]) == ["Users: new", "Users: known"]
    assert labels("collision", target_sharers=[1, 2]) == ["Codes: not shared", "Codes: shared"]
    assert labels("collision", target_counts=[1, 1]) == [None, None]


@pytest.mark.parametrize("name", sorted(SLICINGS))
def test_every_label_is_a_heading(name: str) -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 200, (3, 500))
    found = labels(
        name, history_lengths=counts[0] + 1, target_counts=counts[1], target_sharers=counts[2] + 1,
        new_users=random.random(500) < 0.5,
    )  # fmt: skip
    assert set(found) <= set(slicing_named(name).headings)


def test_an_unknown_slice_is_refused_by_name() -> None:
    with pytest.raises(ResultsError, match="unknown slice 'age'; known: item-popularity"):
        slicing_named("age")


NUM_USERS = 600
COUNTS = np.arange(NUM_USERS) % 3 * 4  # 0, 4, 8 times: three slices of 200 users
RANKS = {"tiger": made_up_ranks(NUM_USERS, 0.3, 0), "etegrec": made_up_ranks(NUM_USERS, 0.7, 1)}
TITLES = {"tiger": "TIGER", "etegrec": "ETEGRec", "letter": "LETTER", "sasrec": "SASRec"}


def write(runs_dir: Path, method: str, ranks: Any, cases: Any, **changes: Any) -> None:
    write_made_up_run(runs_dir, ranks, cases, method=method, title=TITLES[method], **changes)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Two methods on 600 users, whose targets stand 0, 4 or 8 times in training."""
    for method, ranks in RANKS.items():
        write(tmp_path, method, ranks, cases_frame(np.full(NUM_USERS, 5), COUNTS))
    return tmp_path


def test_a_slices_values_are_those_of_a_table_of_its_users_alone(runs_dir: Path, tmp_path: Path) -> None:
    sliced = overall_table(runs_dir, "demo", view=View(slicing=slicing_named("item-popularity"), intervals=True))
    of_slice = COUNTS == 4
    for method, ranks in RANKS.items():
        write(tmp_path / "alone", method, ranks[of_slice], None)
    alone = overall_table(tmp_path / "alone", "demo", view=View(intervals=True))
    rows = rows_of(sliced, "Target: 1–5 times")
    for row in alone.rows[:2]:
        users, *cells = rows[row.label].cells
        assert users.value == of_slice.sum()
        assert [(c.value, c.low, c.high, c.best, c.second) for c in cells] == [
            (c.value, c.low, c.high, c.best, c.second) for c in row.cells
        ]
    assert rows["Improvement"].cells[1].value == pytest.approx(alone.rows[2].cells[0].value)


def test_stars_are_corrected_over_all_slices_and_columns_and_each_question_counts_once(runs_dir: Path) -> None:
    # ETEGRec is best everywhere: its stars and its improvements ask the same 3 slices x 4 columns, once each.
    table = overall_table(runs_dir, "demo", view=View(slicing=slicing_named("item-popularity")))
    sections = ["Target: never", "Target: 1–5 times", "Target: 6–20 times"]
    names = ["Recall@5", "Recall@10", "NDCG@5", "NDCG@10"]
    raw = []
    for count in (0, 4, 8):
        first, second = (RANKS[method][count == COUNTS] for method in ("etegrec", "tiger"))
        for name in names:
            k = int(name.partition("@")[2])
            values = [
                np.where((r > 0) & (r <= k), 1 / np.log2(np.maximum(r, 1) + 1.0) if "NDCG" in name else 1.0, 0)
                for r in (first, second)
            ]
            raw.append(stats.ttest_rel(*values).pvalue)
    expected = holm(np.array(raw)).tolist()
    for label in ("ETEGRec", "Improvement"):
        found = [cell(table, section, label, name).p_value for section in sections for name in names]
        assert found == pytest.approx(expected)
    assert "Target: 21–100 times, Target: over 100 times" in next(n for n in table.notes if "left out" in n)


def test_variants_are_tested_within_slices_and_corrected_over_the_table(tmp_path: Path) -> None:
    cases = cases_frame(np.full(NUM_USERS, 5), COUNTS)
    write(tmp_path, "etegrec", RANKS["etegrec"], cases)
    write(tmp_path, "etegrec", RANKS["tiger"], cases, variant="wo-sia", variant_title="w/o SIA")
    table = ablation_table(
        tmp_path, "demo", "etegrec", view=View(columns=[("Recall", 10)], slicing=slicing_named("unseen-item"))
    )
    raw = [
        stats.ttest_rel(*[(RANKS[method][of_slice] > 0).astype(float) for method in ("tiger", "etegrec")]).pvalue
        for of_slice in (COUNTS == 0, COUNTS > 0)
    ]
    found = [cell(table, section, "w/o SIA", "Recall@10").p_value for section in ("Target: unseen", "Target: seen")]
    assert found == pytest.approx(holm(np.array(raw)).tolist())


def test_a_slice_of_few_users_is_shown_but_not_tested(tmp_path: Path) -> None:
    # All 20 users of the slice differ by 1: their t-test would divide by a standard deviation of 0.
    cases = cases_frame(np.full(60, 5), np.where(np.arange(60) < 20, 0, 3))
    write(tmp_path, "tiger", np.zeros(60, dtype=int), cases)
    write(tmp_path, "etegrec", np.where(np.arange(60) < 20, 1, np.arange(60) % 2), cases)
    table = overall_table(tmp_path, "demo", view=View(slicing=slicing_named("unseen-item")))
    few, many = (cell(table, section, "ETEGRec", "Recall@10") for section in ("Target: unseen", "Target: seen"))
    assert (few.value, few.p_value, few.significant) == (1.0, None, False)
    assert many.significant
    assert any(note == "Fewer than 30 users, and so not tested: Target: unseen." for note in table.notes)


def test_collisions_are_cut_by_each_methods_and_seeds_own_codes_and_compared_with_nothing(tmp_path: Path) -> None:
    ranks = np.array([1, 0, 2, 0])
    for seed, sharers in enumerate(([2, 2, 1, 1], [2, 1, 1, 1])):
        write(tmp_path, "tiger", ranks, cases_frame([5] * 4, [3] * 4, sharers), seed=seed)
    write(tmp_path, "letter", ranks, cases_frame([5] * 4, [3] * 4, [1, 1, 1, 1]))
    write(tmp_path, "sasrec", ranks, cases_frame([5] * 4, [3] * 4))
    table = overall_table(
        tmp_path, "demo", view=View(columns=[("Recall", 10)], slicing=slicing_named("collision"), intervals=True)
    )
    shared = rows_of(table, "Codes: shared")
    # Seed 0: users 0 and 1, one hit; seed 1: user 0, a hit.
    users, recall = shared["TIGER"].cells
    assert (users.value, recall.value, recall.std) == (1.5, 0.75, pytest.approx(np.std([0.5, 1.0], ddof=1)))
    assert (recall.low, recall.high) == (None, None)
    assert [c.value for c in shared["LETTER"].cells] == [0, None]
    assert rows_of(table, "Codes: not shared")["LETTER"].cells[1].low is not None
    assert "SASRec" not in shared
    assert not any(c.best or c.second or c.p_value is not None for row in table.rows for c in row.cells)
    assert any("left out: SASRec" in note for note in table.notes)
    assert any("of its own: no row is tested or marked" in note for note in table.notes)


def test_collisions_of_methods_without_codes_are_one_line(runs_dir: Path) -> None:
    with pytest.raises(ResultsError, match="slice 'collision' needs a method with item codes"):
        overall_table(runs_dir, "demo", view=View(slicing=slicing_named("collision")))


@pytest.mark.parametrize("format", ["text", *FORMATS])
def test_every_format_shows_slices_users_and_intervals(runs_dir: Path, format: str) -> None:
    table = overall_table(runs_dir, "demo", view=View(slicing=slicing_named("unseen-item"), intervals=True))
    text = render(table, format, width=80)
    found = cell(table, "Target: unseen", "ETEGRec", "NDCG@10")
    assert found.low is not None
    assert text.count("Target: unseen") >= 1
    assert "200" in text
    exact = format in ("csv", "json")
    assert (repr(found.low) if exact else f"{found.low:.4f}".removeprefix("0")) in text
    if format == "text":
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text


def test_a_table_without_slices_or_intervals_has_none_of_their_marks(runs_dir: Path) -> None:
    table = overall_table(runs_dir, "demo")
    assert {row.section for row in table.rows} == {""}
    assert "interval" not in render(table, "text")
    assert all(c.low is None for row in table.rows for c in row.cells)


def test_intervals_of_several_seeds_warn_of_what_few_seeds_hide(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, "tiger", made_up_ranks(50, 0.3, seed), None, seed=seed)
    notes = overall_table(tmp_path, "demo", view=View(intervals=True)).notes
    assert any("bootstrap over users and seeds" in note for note in notes)
    assert any("never leave the seeds' range" in note for note in notes)
