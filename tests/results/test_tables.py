"""Oracles: values and marks worked out by hand, scipy's paired t-test, the printed numbers of the paper."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import CONTRACT, made_up_history, made_up_ranks, write_made_up_run
from scipy import stats

from results.errors import ResultsError
from results.store.runs import UserTables, write_run
from results.store.selection import Filters
from results.tables.content import Table, TableCell
from results.tables.datasets import datasets_table
from results.tables.performance import View, ablation_table, overall_table

TITLES = {
    "popularity": "Popularity",
    "markov": "Markov",
    "sasrec": "SASRec",
    "tiger": "TIGER",
    "tiger-sas": "TIGER-SAS",
    "letter": "LETTER",
    "etegrec": "ETEGRec",
}


def write(runs_dir: Path, method: str, ranks: Any, **changes: Any) -> None:
    write_made_up_run(runs_dir, ranks, method=method, title=TITLES.get(method, method), **changes)


def write_variant(runs_dir: Path, variant: str, title: str, ranks: Any, **changes: Any) -> None:
    write(runs_dir, "etegrec", ranks, variant=variant, variant_title=title, **changes)


def cell(table: Table, label: str, column: str) -> TableCell:
    (row,) = [row for row in table.rows if row.label == label]
    return row.cells[[c.name for c in table.columns].index(column)]


def labels(table: Table) -> list[str]:
    return [row.label for row in table.rows]


def test_rows_stand_in_the_papers_order_with_unknown_methods_after(tmp_path: Path) -> None:
    for method in ("zebra", "etegrec", "tiger", "ours", "popularity", "letter", "tiger-sas", "sasrec", "markov"):
        write(tmp_path, method, [1, 0, 3])
    expected = [*TITLES.values(), "ours", "zebra", "Improvement"]
    assert labels(overall_table(tmp_path, "demo")) == expected


def test_value_is_the_mean_over_seeds_with_the_sample_standard_deviation(tmp_path: Path) -> None:
    for seed, ranks in enumerate(([1, 0, 0, 0], [1, 2, 0, 0], [1, 2, 3, 0])):
        write(tmp_path, "tiger", ranks, seed=seed)
    write(tmp_path, "sasrec", [1, 0, 0, 0])
    table = overall_table(tmp_path, "demo")
    found = cell(table, "TIGER", "Recall@5")
    assert (found.value, found.std, found.seeds) == (0.5, pytest.approx(0.25), 3)
    assert (cell(table, "SASRec", "Recall@5").std, cell(table, "SASRec", "Recall@5").seeds) == (None, 1)
    assert any(n == "Seeds differ: seeds 0 (SASRec); seeds 0, 1, 2 (TIGER)." for n in table.notes)


def test_values_that_print_alike_share_best_and_second(tmp_path: Path) -> None:
    write(tmp_path, "sasrec", [1, 1, 0, 0])
    write(tmp_path, "tiger", [1, 0, 1, 0])
    write(tmp_path, "letter", [1, 0, 0, 0])
    write(tmp_path, "popularity", [0, 1, 0, 0])
    write(tmp_path, "markov", [0, 0, 0, 0])
    table = overall_table(tmp_path, "demo")
    marks = {label: (c.best, c.second) for label in labels(table) for c in [cell(table, label, "NDCG@10")]}
    assert marks == {
        "SASRec": (True, False),
        "TIGER": (True, False),
        "LETTER": (False, True),
        "Popularity": (False, True),
        "Markov": (False, False),
    }


def test_star_and_improvement_follow_scipys_test_against_the_best_baseline(tmp_path: Path) -> None:
    ranks = {m: made_up_ranks(3_000, share, i) for i, (m, share) in enumerate([("tiger", 0.2), ("letter", 0.25)])}
    ours = [made_up_ranks(3_000, 0.31, seed) for seed in (7, 8)]
    for method, values in ranks.items():
        write(tmp_path, method, values)
    for seed, values in enumerate(ours):
        write(tmp_path, "etegrec", values, seed=seed)
    table = overall_table(tmp_path, "demo")
    per_user = np.mean([(r > 0).astype(float) for r in ours], axis=0)
    baseline = (ranks["letter"] > 0).astype(float)
    p_value = stats.ttest_rel(per_user, baseline).pvalue
    best, change = cell(table, "ETEGRec", "Recall@10"), cell(table, "Improvement", "Recall@10")
    assert best.p_value == change.p_value == pytest.approx(p_value)
    assert best.significant
    assert change.significant
    assert change.value == pytest.approx(100 * (per_user.mean() / baseline.mean() - 1))
    assert not any(c.significant for row in table.rows if row.label in ("TIGER", "LETTER") for c in row.cells)
    assert any("best baseline of each column (LETTER)" in note for note in table.notes)


def test_a_worse_etegrec_gets_no_star_but_its_loss_does(tmp_path: Path) -> None:
    write(tmp_path, "letter", made_up_ranks(3_000, 0.4, 0))
    write(tmp_path, "etegrec", made_up_ranks(3_000, 0.2, 1))
    table = overall_table(tmp_path, "demo")
    assert cell(table, "LETTER", "Recall@10").significant
    assert not cell(table, "ETEGRec", "Recall@10").significant
    loss = cell(table, "Improvement", "Recall@10")
    assert loss.value is not None
    assert loss.value < 0
    assert loss.significant


def test_a_difference_that_chance_explains_gets_no_star(tmp_path: Path) -> None:
    write(tmp_path, "letter", made_up_ranks(500, 0.3, 0))
    write(tmp_path, "etegrec", made_up_ranks(500, 0.3, 1))
    assert not any(c.significant for row in overall_table(tmp_path, "demo").rows for c in row.cells)


def test_pairing_is_by_user_whatever_the_order_on_disk(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path / "a", made_up_ranks(400, 0.3, 0), method="letter", title="LETTER")
    write(tmp_path / "a", "etegrec", made_up_ranks(400, 0.5, 1))
    before = overall_table(tmp_path / "a", "demo")
    shuffled = run.ranks().sample(fraction=1.0, shuffle=True, seed=3)
    cases = run.cases()
    users = UserTables(ranks=shuffled, cases=cases)
    write_run(run.folder, run.record, users, history=made_up_history(), config_toml="", env={})
    after = overall_table(tmp_path / "a", "demo")
    assert [[c.p_value for c in row.cells] for row in after.rows] == [
        [c.p_value for c in row.cells] for row in before.rows
    ]


def test_contracts_are_not_mixed_and_the_message_says_which_and_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0])
    write(tmp_path, "letter", [1, 2], contract=CONTRACT | {"decoding": "free"}, contract_digest="ffff")
    with pytest.raises(ResultsError) as caught:
        overall_table(tmp_path, "demo")
    message = str(caught.value)
    assert "ffff (decoding=free): LETTER" in message
    assert "abcd (decoding=trie): TIGER" in message
    assert "--contract" in message
    assert "\n" not in message
    assert labels(overall_table(tmp_path, "demo", filters=Filters(contract="ff"))) == ["LETTER"]


def test_fingerprints_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0])
    write(tmp_path, "letter", [1, 2], dataset_fingerprint="beef")
    with pytest.raises(ResultsError, match=r"'demo' must mean one data set, but names 2 data sets: .* --dataset demo-"):
        overall_table(tmp_path, "demo")


def test_runs_on_other_users_are_not_paired(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0])
    write(tmp_path, "letter", [1, 2, 3])
    with pytest.raises(ResultsError, match="same users and targets"):
        overall_table(tmp_path, "demo")


def test_the_default_config_is_shown_whatever_was_run_after_it(tmp_path: Path) -> None:
    old, new, newest = (f"2025-0{month}-01T00:00:00+00:00" for month in (1, 2, 3))
    write(tmp_path, "tiger", [1, 1], config_digest="aaaa1111", created=old, preset_changes={})
    write(tmp_path, "tiger", [1, 0], config_digest="bbbb2222", created=new, preset_changes={})
    write(tmp_path, "tiger", [0, 0], config_digest="cccc3333", created=newest, preset_changes={"training.epochs": 15})

    def shown(*configs: str) -> Table:
        return overall_table(tmp_path, "demo", Filters(configs=configs))

    assert cell(shown(), "TIGER", "Recall@5").value == 0.5
    assert "TIGER: 3 configs were run; shown is bbbb2222, the default; --configs all shows all." in shown().notes
    assert shown("default") == shown()
    assert cell(shown("cccc"), "TIGER, training.epochs=15", "Recall@5").value == 0.0
    assert "TIGER: 3 configs were run; shown is cccc3333, as asked; --configs all shows all." in shown("cccc").notes
    assert labels(shown("default", "cccc")) == ["TIGER", "TIGER, training.epochs=15"]
    assert labels(shown("all")) == ["TIGER (aaaa1111)", "TIGER (bbbb2222)", "TIGER, training.epochs=15"]
    with pytest.raises(ResultsError, match="begins with 'dddd'; known: default, all, best, aaaa1111"):
        shown("dddd")


def test_a_method_that_was_run_with_changes_alone_is_labelled_by_them(tmp_path: Path) -> None:
    many = {"epochs": 15, "dropout": 0.1, "style": "original"}
    write(tmp_path, "sasrec", [1, 0], preset_changes=many, dataset="scientific")
    write(tmp_path, "tiger", [1, 0], preset_changes={"text.encoder": "minilm"}, dataset="scientific")
    table = overall_table(tmp_path, "scientific", view=View(published=True))
    assert labels(table) == ["SASRec", "TIGER, text.encoder=minilm"]
    assert "SASRec: epochs=15, dropout=0.1, style=original." in table.notes
    assert cell(table, "TIGER, text.encoder=minilm", "Recall@10").published == 0.0431
    write(tmp_path, "sasrec", [1, 0], config_digest="dddd", preset_changes={}, dataset="scientific")
    assert labels(overall_table(tmp_path, "scientific", Filters(configs=("all",))))[:2] == [
        "SASRec",
        "SASRec, 3 fields changed",
    ]


def test_rows_of_another_precision_or_device_are_labelled_by_it(tmp_path: Path) -> None:
    for digest, conditions in (
        ("aaaa", {}),
        ("bbbb", {"device": "cuda"}),
        ("cccc", {"device": "cuda", "precision": "bf16"}),
    ):
        write_made_up_run(tmp_path, [1, 0], config_digest=digest, preset_changes={}, **conditions)
    table = overall_table(tmp_path, "demo", Filters(configs=("all",)))
    assert sorted(labels(table)) == ["TIGER", "TIGER, bf16, cuda", "TIGER, cuda"]


def test_the_best_config_is_that_of_the_highest_validation_score(tmp_path: Path) -> None:
    runs = {
        digest: write_made_up_run(tmp_path, [1, 0], config_digest=digest, preset_changes=changes)
        for digest, changes in (("aaaa", {}), ("bbbb", {"mu": 0.1}), ("cccc", {"mu": 0.2}))
    }
    for digest, epochs in (("aaaa", 4), ("bbbb", 8), ("cccc", 6)):  # the made-up score rises with the epochs
        history = made_up_history(epochs)
        run = runs[digest]
        users = UserTables(ranks=run.ranks(), cases=run.cases())
        write_run(run.folder, run.record, users, history=history, config_toml="", env={})
    assert labels(overall_table(tmp_path, "demo", Filters(configs=("best",)))) == ["TIGER, mu=0.1"]


def test_data_of_one_name_are_told_apart_by_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "a", "tiger", [1, 0], dataset_fingerprint="f00d" * 4)
    write(tmp_path / "a", "letter", [1, 2], dataset_fingerprint="beef" * 4)
    assert labels(overall_table(tmp_path / "a", "demo-f00df00d")) == ["TIGER"]
    assert labels(overall_table(tmp_path / "a", "demo-beef")) == ["LETTER"]


def test_a_row_that_lies_in_folders_of_two_versions_counts_once(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path, [1, 0])
    copy = tmp_path / "demo-f00d0000" / run.folder.relative_to(tmp_path / "demo")
    write_run(
        copy,
        replace(run.record, created="2026-01-01T00:00:00+00:00"),
        UserTables(ranks=run.ranks(), cases=run.cases()),
        history=run.history(),
        config_toml="",
        env={},
    )
    assert cell(overall_table(tmp_path, "demo"), "TIGER", "Recall@5").seeds == 1


def test_no_runs_is_an_error_that_names_the_data_sets_with_runs(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0])
    with pytest.raises(ResultsError, match=r"none of data set 'game', variant 'full'; .*: demo"):
        overall_table(tmp_path, "game")


def test_what_differs_between_rows_is_disclosed(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0], preset="lite", assumptions=["text vectors: tfidf-svd"], trials=10)
    write(tmp_path, "letter", [1, 0], recipe="official", assumptions=["text vectors: tfidf-svd"])
    notes = overall_table(tmp_path, "demo").notes
    assert "Presets differ: lite (TIGER); paper (LETTER)." in notes
    assert "Recipes differ: default (TIGER); official (LETTER)." in notes
    assert "Tuning differs: 10 trials (TIGER); 0 trials (LETTER)." in notes
    assert "Assumption: text vectors: tfidf-svd (TIGER, LETTER)." in notes


def test_synthetic_data_is_labelled_in_the_caption(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0], synthetic=True)
    assert overall_table(tmp_path, "demo").caption == "Overall performance on demo (synthetic)"


def test_published_values_stand_beside_ours_with_the_difference(tmp_path: Path) -> None:
    for method in ("sasrec", "etegrec", "markov"):
        write(tmp_path, method, [1, 0, 0, 0], dataset="scientific")
    table = overall_table(tmp_path, "scientific", view=View(published=True))
    found = cell(table, "ETEGRec", "Recall@10")
    assert found.published == 0.0455
    assert found.difference == pytest.approx(0.25 - 0.0455)
    assert cell(table, "SASRec", "NDCG@5").published == 0.0147
    assert cell(table, "Markov", "NDCG@5").published is None


def test_data_the_paper_did_not_use_has_no_published_values_unless_forced(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0], dataset="scientific2018")
    table = overall_table(tmp_path, "scientific2018", view=View(published=True))
    assert cell(table, "TIGER", "Recall@5").published is None
    assert any(note.startswith("The paper prints no numbers for scientific2018") for note in table.notes)
    forced = overall_table(tmp_path, "scientific2018", view=View(paper_dataset="Scientific"))
    assert cell(forced, "TIGER", "Recall@5").published == 0.0275
    assert any("scientific2018 is other data than the paper's Scientific" in note for note in forced.notes)
    with pytest.raises(ResultsError, match="known: Instrument, Scientific, Game"):
        overall_table(tmp_path, "scientific2018", view=View(paper_dataset="Books"))


def test_a_lite_run_beside_the_papers_values_is_called_one(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0], dataset="game", preset="lite")
    assert any("preset lite" in note for note in overall_table(tmp_path, "game", view=View(published=True)).notes)


ABLATIONS = {
    "full": "ETEGRec",
    "wo-sia": "w/o SIA",
    "wo-psa": "w/o PSA",
    "wo-sia-psa": "w/o SIA&PSA",
    "wo-at": "w/o AT",
    "wo-at-finetuned": "w/o AT + fine-tuning",
    "wo-ete": "w/o ETE",
}


def test_ablation_rows_stand_in_the_papers_order_with_its_values(tmp_path: Path) -> None:
    for variant in sorted(ABLATIONS):
        write_variant(tmp_path, variant, ABLATIONS[variant], [1, 0], dataset="instrument")
    write(tmp_path, "tiger", [1, 0], dataset="instrument")
    table = ablation_table(tmp_path, "instrument", "etegrec", view=View(published=True))
    assert labels(table) == list(ABLATIONS.values())
    assert cell(table, "w/o SIA&PSA", "NDCG@10").published == 0.0317
    assert cell(table, "w/o AT + fine-tuning", "NDCG@10").published is None


def test_ablation_stars_are_holm_corrected_tests_against_the_full_method(tmp_path: Path) -> None:
    shares = {"full": 0.30, "wo-sia": 0.27, "wo-psa": 0.20}
    ranks = {variant: made_up_ranks(2_000, share, i) for i, (variant, share) in enumerate(shares.items())}
    for variant, values in ranks.items():
        write_variant(tmp_path, variant, ABLATIONS[variant], values)
    table = ablation_table(tmp_path, "demo", "etegrec")
    hits = {variant: (values > 0).astype(float) for variant, values in ranks.items()}
    raw = {v: stats.ttest_rel(hits[v], hits["full"]).pvalue for v in ("wo-sia", "wo-psa")}
    assert raw["wo-psa"] < raw["wo-sia"]
    assert cell(table, "w/o PSA", "Recall@10").p_value == pytest.approx(2 * raw["wo-psa"])
    assert cell(table, "w/o SIA", "Recall@10").p_value == pytest.approx(max(2 * raw["wo-psa"], raw["wo-sia"]))
    assert cell(table, "w/o PSA", "Recall@10").significant
    assert cell(table, "ETEGRec", "Recall@10").p_value is None


def test_an_ablation_without_the_full_method_says_that_nothing_was_tested(tmp_path: Path) -> None:
    write_variant(tmp_path, "wo-sia", "w/o SIA", [1, 0])
    assert any("full method has no finished run" in note for note in ablation_table(tmp_path, "demo", "etegrec").notes)


def test_data_set_statistics_equal_the_papers_table_2_on_its_own_counts() -> None:
    counts = {
        "instrument": {"users": 57439, "items": 24587, "interactions": 511836},
        "demo": {"users": 10, "items": 5, "interactions": 20, "synthetic": True},
    }
    table = datasets_table(counts, published=True)
    assert [c.difference for c in table.rows[0].cells[:3]] == [0, 0, 0]
    assert table.rows[0].cells[3].difference == pytest.approx(0, abs=5e-4)  # printed to 3 decimals
    assert table.rows[1].label == "demo (synthetic)"
    assert [c.value for c in table.rows[1].cells] == pytest.approx([10, 5, 20, 60.0, 2.0])
    assert "The paper prints no numbers for demo." in table.notes
    with pytest.raises(ResultsError, match="at least one"):
        datasets_table({})


def test_tables_are_values_that_do_not_change_under_a_reader(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0])
    table = overall_table(tmp_path, "demo")
    assert table == overall_table(tmp_path, "demo")
    assert replace(table, caption="x") != table
