"""Runs read by other rules. Oracles: ranks worked out by hand, and drawing the negatives one by one."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CONTRACT, made_up_cases, made_up_outcomes, write_made_up_run

from results.errors import ResultsError
from results.store.contract import DEFAULTS, NAMED, contract_digest, digest, told
from results.store.find import RunFilter, find_runs
from results.store.reading import ranks_under, read_as, sampled_ranks
from results.store.runs import read_run
from results.store.schema import cases_frame
from results.store.selection import Filters, select_runs
from results.tables.performance import overall_table

RANKS = [1, 4, 0, 9]
OUTCOMES = {
    "rank": [1, 4, 40, 9],
    "unseen_rank": [1, 2, 12, 7],
    "target_seen": [False, False, False, True],
    "seen": [[True, False, True, *[False] * 9]] * 4,
    "code_rank": [1, 2, 0, 5],
    "code_ahead": [0, 2, 0, 6],
    "target_sharers": [1, 3, 1, 4],
}
ALL = {**DEFAULTS, **CONTRACT}


def outcomes(**columns):
    return made_up_outcomes(
        np.array(RANKS), **{name: np.array(values) for name, values in (OUTCOMES | columns).items()}
    )


def read(cases=None, **rules):
    return ranks_under({**ALL, **rules}, outcomes(), made_up_cases(4) if cases is None else cases, "it")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"history": "removed"}, [1, 2, 0, 0]),  # the third is twelfth; the fourth stands in its own history
        ({"hit_unit": "codes"}, [1, 2, 0, 5]),
        ({"ties": "first"}, [1, 3, 0, 7]),
        ({"ties": "last"}, [1, 5, 0, 10]),
        ({}, [1, 4, 0, 9]),
    ],
)
def test_ranks_by_each_rule_are_those_worked_out_by_hand(rules, expected):
    assert read(**rules)["rank"].to_list() == expected


def test_lists_lose_the_history_where_it_is_removed():
    assert read()["top_items"][0].to_list() == list(range(1, 11))
    assert read(history="removed")["top_items"][0].to_list() == [2, *range(4, 13)]
    short = made_up_outcomes(np.array([1]), items=np.array([[3, 5]]), seen=np.array([[True, False]]))
    made = ranks_under({**ALL, "history": "removed"}, short, made_up_cases(1), "it").to_dicts()[0]
    assert made["top_items"] == [5, *[0] * 9]
    assert made["invalid"] == 9


def test_users_with_unseen_targets_are_dropped():
    kept = read(cases_frame([5] * 4, [3, 0, 1, 0]), cold_targets="dropped")
    assert (kept["user"].to_list(), kept["rank"].to_list()) == ([0, 2], [1, 0])


def test_sampled_ranks_are_distributed_as_if_each_negative_were_drawn():
    """20,000 users whose target has 30 of 300 candidates ahead, with a quarter of the popularity."""
    count, stream = 20_000, np.random.default_rng(1)
    frame = made_up_outcomes(
        np.full(count, 31),
        unseen_rank=np.full(count, 31),
        candidates=np.full(count, 300),
        popular_ahead=np.full(count, 0.25),
    )
    drawn = np.array([(stream.permutation(300)[:99] < 30).sum() + 1 for _ in range(count)])
    uniform = sampled_ranks(frame, "uniform99", "it")
    assert np.array_equal(uniform, sampled_ranks(frame, "uniform99", "it"))
    popular = sampled_ranks(frame, "popular99", "it")
    by_interactions = (stream.random((count, 99)) < 0.25).sum(axis=1) + 1
    for found, expected in ((uniform, drawn), (popular, by_interactions)):
        assert found.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / count**0.5 * 2**0.5)
        assert found.std() == pytest.approx(expected.std(), rel=0.03)
        assert (found <= 10).mean() == pytest.approx((expected <= 10).mean(), abs=0.02)
    few = made_up_outcomes(np.array([3]), candidates=np.array([2]), popular_ahead=np.array([1.0]))
    assert sampled_ranks(few, "uniform99", "it").tolist() == [3]
    assert sampled_ranks(few, "popular99", "it").tolist() == [100]


def test_sampled_ranks_are_refused_where_only_a_list_is_known():
    with pytest.raises(ResultsError, match=r"it holds what a search found.*--decoding exact"):
        sampled_ranks(outcomes(), "uniform99", "it")


def test_two_rules_at_once_are_refused(tmp_path: Path):
    run = write_made_up_run(tmp_path, RANKS, outcomes=arrays())
    with pytest.raises(ResultsError, match=r"one may differ .* history=removed, hit_unit=codes"):
        read_as(run, {"history": "removed", "hit_unit": "codes"})


def arrays():
    return {name: np.array(values) for name, values in OUTCOMES.items()}


def test_a_run_read_otherwise_names_the_rules_and_keeps_its_files(tmp_path: Path):
    run = write_made_up_run(tmp_path, RANKS, outcomes=arrays())
    assert read_as(run, {"history": "kept"}) is run
    removed = read_as(run, {"history": "removed"})
    assert removed.record.contract_digest == digest({**CONTRACT, "history": "removed"})
    assert removed.ranks(["rank"])["rank"].to_list() == [1, 2, 0, 0]
    recall = removed.metrics().filter(metric="Recall", k=5)["value"].item()
    assert recall == 0.5
    dropped = read_as(
        write_made_up_run(tmp_path, RANKS, cases_frame([5] * 4, [3, 0, 1, 0]), arrays(), seed=1),
        {"cold_targets": "dropped"},
    )
    assert dropped.cases()["user"].to_list() == [0, 2]
    assert read_run(run.folder).ranks()["rank"].to_list() == RANKS


def test_a_run_of_before_says_how_to_get_outcomes(tmp_path: Path):
    run = read_as(write_made_up_run(tmp_path, RANKS), {"history": "removed"})
    with pytest.raises(ResultsError, match=r"has no outcomes\.parquet.*'harness run' command again"):
        run.ranks()


def test_outcomes_of_other_users_are_refused(tmp_path: Path):
    with pytest.raises(ResultsError, match="outcomes must hold the users and targets of the ranks, but lack 2"):
        write_made_up_run(tmp_path, RANKS, outcomes=arrays() | {"target": np.array([1, 2, 9, 9])})


def test_a_table_reads_all_rows_by_one_set_of_rules_and_its_foot_says_so(tmp_path: Path):
    write_made_up_run(tmp_path, RANKS, outcomes=arrays(), family="generative")
    write_made_up_run(
        tmp_path, [2, 1, 0, 3], outcomes={"unseen_rank": np.array([2, 1, 9, 1])}, method="sasrec", title="SASRec"
    )
    plain = overall_table(tmp_path, "demo")
    masked = overall_table(tmp_path, "demo", Filters(mask_history=True))
    values = {row.label: [cell.value for cell in row.cells[:2]] for row in masked.rows}
    assert values == {"SASRec": [0.75, 1.0], "TIGER": [0.5, 0.5]}
    assert any("history=kept" in note and "split=leave-one-out" in note for note in plain.notes)
    assert any(
        "history=removed" in note and digest({**CONTRACT, "history": "removed"}) in note for note in masked.notes
    )
    named = overall_table(tmp_path, "demo", Filters(contract="s3rec"))
    assert [row.cells for row in named.rows] == [row.cells for row in masked.rows]
    letter = overall_table(tmp_path, "demo", Filters(contract="letter"))
    assert any(cell.value == 0.75 for row in letter.rows for cell in row.cells)
    minionerec = overall_table(tmp_path, "demo", Filters(contract="minionerec"))
    assert [row.label for row in minionerec.rows] == ["SASRec"]
    assert any("num_beams=50" in note and "left out: TIGER" in note for note in minionerec.notes)


def test_rules_that_differ_are_refused_in_one_table(tmp_path: Path):
    write_made_up_run(tmp_path, RANKS)
    rules = {**CONTRACT, "history": "removed"}
    write_made_up_run(
        tmp_path, RANKS, method="sasrec", title="SASRec", contract=rules, contract_digest=contract_digest(rules)
    )
    with pytest.raises(ResultsError, match=r"under one contract, but there are 2: .*history=removed"):
        select_runs(tmp_path, "demo")
    assert [run.record.method for run in find_runs(tmp_path, RunFilter(contract="s3rec"))] == ["sasrec"]


def test_a_contract_of_defaults_has_the_digest_of_before_its_rules_were_spelled_out():
    """The digest that earlier versions stored for the default contract."""
    assert contract_digest(DEFAULTS) == contract_digest(CONTRACT) == "3590513d188a2648"
    assert contract_digest({**DEFAULTS, "cold_targets": "dropped"}) != contract_digest(DEFAULTS)


def test_a_told_contract_has_every_rule():
    text = told(CONTRACT, "leave-one-out")
    assert all(f"{name}=" in text for name in (*DEFAULTS, "split"))
    assert all(set(named.values) <= set(DEFAULTS) and named.source for named in NAMED.values())
