"""Oracles: scipy's tests, Holm over the whole family, arithmetic by hand, and the sentence that must be said."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import CONTRACT, made_up_ranks, write_made_up_run
from rich.console import Console
from scipy import stats

from results.errors import ResultsError
from results.statistics.comparison import compare, shown_p
from results.statistics.inference import holm
from results.store.selection import Filters
from results.terminal.comparison import comparison_view

TITLES = {"tiger": "TIGER", "tiger-sas": "TIGER-SAS", "letter": "LETTER", "etegrec": "ETEGRec", "markov": "Markov"}
RECALL = [("Recall", 10)]


def write(runs_dir: Path, method: str, ranks: Any, **changes: Any) -> None:
    write_made_up_run(runs_dir, ranks, method=method, title=TITLES[method], **changes)


def write_variant(runs_dir: Path, ranks: Any, **changes: Any) -> None:
    write(runs_dir, "etegrec", ranks, variant="wo-sia", variant_title="w/o SIA", **changes)


def test_numbers_equal_arithmetic_by_hand_and_scipy(tmp_path: Path) -> None:
    ours, theirs = made_up_ranks(800, 0.35, 0), made_up_ranks(800, 0.3, 1)
    write(tmp_path, "etegrec", ours)
    write(tmp_path, "tiger", theirs)
    (found,) = compare(tmp_path, "etegrec", "tiger", columns=RECALL)
    (metric,) = found.metrics
    first, second = (ours > 0).astype(float), (theirs > 0).astype(float)
    assert (metric.first, metric.second) == (pytest.approx(first.mean()), pytest.approx(second.mean()))
    assert metric.difference.mean == pytest.approx(first.mean() - second.mean())
    assert metric.difference.low < metric.difference.mean < metric.difference.high
    assert metric.p_values.t_test == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert metric.p_values.wilcoxon == pytest.approx(stats.wilcoxon(first - second).pvalue)
    # McNemar's exact test is the permutation test of hits: a coin for each user who differs.
    better, worse = int((first > second).sum()), int((first < second).sum())
    exact = stats.binomtest(better, better + worse).pvalue
    assert metric.p_values.permutation == pytest.approx(exact, abs=4.5 * np.sqrt(exact * (1 - exact) / 10_000) + 1e-4)
    assert metric.effect.better == better / 800
    assert metric.effect.gain == pytest.approx(first.mean() / second.mean() - 1)
    assert (found.num_users, found.first_seeds, found.second_seeds) == (800, (0,), (0,))
    assert metric.seeds_needed is None


def test_p_values_are_adjusted_over_the_metrics_and_the_rivals_together(tmp_path: Path) -> None:
    for place, method in enumerate(("etegrec", "tiger", "letter")):
        write(tmp_path, method, made_up_ranks(600, 0.3 + 0.03 * place, place))
    found = compare(tmp_path, "etegrec")
    assert [comparison.second for comparison in found] == ["TIGER", "LETTER"]
    metrics = [metric for comparison in found for metric in comparison.metrics]
    assert {comparison.num_questions for comparison in found} == {len(metrics)} == {8}
    for test in ("t_test", "wilcoxon", "permutation"):
        raw = np.array([getattr(metric.p_values, test) for metric in metrics])
        assert [getattr(metric.adjusted, test) for metric in metrics] == pytest.approx(holm(raw).tolist())


def test_seeds_are_averaged_before_users_are_paired_and_tell_what_they_need(tmp_path: Path) -> None:
    ours = [made_up_ranks(500, share, seed) for seed, share in enumerate((0.5, 0.52, 0.54))]
    theirs = [made_up_ranks(500, share, 10 + seed) for seed, share in enumerate((0.3, 0.33))]
    for seed, ranks in enumerate(ours):
        write(tmp_path, "etegrec", ranks, seed=seed)
    for seed, ranks in enumerate(theirs):
        write(tmp_path, "tiger", ranks, seed=seed)
    (found,) = compare(tmp_path, "etegrec", "tiger", columns=RECALL)
    (metric,) = found.metrics
    means = [np.mean([ranks > 0 for ranks in side], axis=0) for side in (ours, theirs)]
    assert metric.p_values.t_test == pytest.approx(stats.ttest_rel(*means).pvalue)
    assert metric.seeds_needed is not None
    assert found.verdict.startswith("ETEGRec is better than TIGER in Recall@10 by 0.")
    assert found.verdict.endswith("over 3 and 2 seeds, the interval over users and seeds does not hold 0.")


def test_a_gap_that_seeds_may_explain_is_not_called_settled(tmp_path: Path) -> None:
    # Many users tell the mean of these two runs from the other method's; the two runs themselves disagree wildly.
    for seed, share in enumerate((0.2, 0.9)):
        write(tmp_path, "etegrec", made_up_ranks(2_000, share, seed), seed=seed)
        write(tmp_path, "tiger", made_up_ranks(2_000, 0.3, 5 + seed), seed=seed)
    (found,) = compare(tmp_path, "etegrec", "tiger", columns=RECALL)
    assert found.primary.sign == "better"
    assert "holds 0, so the randomness of training may explain it" in found.verdict


def test_the_verdict_of_one_seed_each(tmp_path: Path) -> None:
    hits = np.arange(1_000) % 10
    write(tmp_path, "etegrec", np.where(hits < 3, 1, 0))
    write(tmp_path, "tiger", np.where(hits < 2, 1, 0))
    write(tmp_path, "letter", np.where(hits < 2, 1, 0)[::-1])
    better, worse, undecided = (
        compare(tmp_path, first, second)[0].verdict
        for first, second in (("etegrec", "tiger"), ("tiger", "etegrec"), ("tiger", "letter"))
    )
    end = (
        "a gap that the sampling of users does not explain (p < 0.0001); "
        "with one seed each, the randomness of training is not measured."
    )
    assert better == f"ETEGRec is better than TIGER in NDCG@10 by 0.1000 (+50.0 %), {end}"
    assert worse == f"TIGER is worse than ETEGRec in NDCG@10 by 0.1000 (-33.3 %), {end}"
    assert undecided.startswith(
        "No difference can be told between TIGER and LETTER in NDCG@10: the gap of 0.0000 (+0.0 %)"
    )
    assert "users would tell" not in undecided


def test_the_first_metric_shown_is_judged_where_the_usual_one_is_not(tmp_path: Path) -> None:
    write(tmp_path, "etegrec", [1, 0, 3])
    write(tmp_path, "tiger", [0, 1, 3])
    (found,) = compare(tmp_path, "etegrec", "tiger", columns=[("MRR", 5), ("Recall", 1)])
    assert found.primary.name == "MRR@5"


def test_names_mean_a_method_a_variant_or_a_part_of_a_path(tmp_path: Path) -> None:
    write(tmp_path, "etegrec", [1, 0, 3])
    write_variant(tmp_path, [1, 0, 0], config_digest="beef")
    write(tmp_path, "tiger", [0, 1, 3], config_digest="cafe")
    write(tmp_path, "tiger-sas", [0, 1, 0], config_digest="dead")
    for name, label in {
        "tiger": "TIGER",
        "etegrec/wo-sia": "ETEGRec w/o SIA",
        "beef": "ETEGRec w/o SIA",
        "demo/tiger": "TIGER",
        "wo-s": "ETEGRec w/o SIA",
        str(tmp_path / "demo/tiger-sas/full/dead/seed=0"): "TIGER-SAS",
    }.items():
        assert compare(tmp_path, "etegrec", name, columns=RECALL)[0].second == label


def test_a_variant_alone_is_held_against_its_methods_others_and_a_method_against_methods(tmp_path: Path) -> None:
    write(tmp_path, "etegrec", [1, 0, 3])
    write_variant(tmp_path, [1, 0, 0])
    for method in ("tiger", "markov"):
        write(tmp_path, method, [0, 1, 3])
    assert [c.second for c in compare(tmp_path, "etegrec/wo-sia")] == ["ETEGRec"]
    assert [c.second for c in compare(tmp_path, "etegrec")] == ["Markov", "TIGER"]


def test_two_configs_or_two_seeds_of_one_method_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0, 3], config_digest="aaaa")
    write(tmp_path, "tiger", [0, 1, 3], config_digest="bbbb")
    write(tmp_path, "tiger", [0, 1, 3], config_digest="bbbb", seed=1)
    (configs,) = compare(tmp_path, "aaaa", "bbbb")
    assert (configs.first, configs.second, configs.second_seeds) == ("TIGER (aaaa)", "TIGER (bbbb)", (0, 1))
    (seeds,) = compare(tmp_path, "bbbb/seed=0", "bbbb/seed=1")
    assert (seeds.first, seeds.second) == ("TIGER (seed 0)", "TIGER (seed 1)")


def test_configs_that_are_asked_for_are_rivals_beside_the_default_row(tmp_path: Path) -> None:
    write(tmp_path, "tiger", [1, 0, 3], config_digest="aaaa", preset_changes={})
    newer = {"config_digest": "bbbb", "created": "2025-05-01T00:00:00+00:00", "preset_changes": {"epochs": 15}}
    write(tmp_path, "tiger", [0, 1, 3], **newer)
    write(tmp_path, "markov", [0, 1, 0])

    def sides(*names: str, configs: str) -> list[tuple[str, str]]:
        found = compare(tmp_path, *names, filters=Filters(configs=(configs,)), columns=RECALL)
        return [(comparison.first, comparison.second) for comparison in found]

    assert sides("tiger", configs="default") == [("TIGER", "Markov")]
    assert sides("tiger", "tiger", configs="all") == [("TIGER", "TIGER, epochs=15")]
    assert set(sides("tiger", configs="all")) == {("TIGER", "Markov"), ("TIGER", "TIGER, epochs=15")}
    assert sides("markov", "tiger", configs="bbbb") == [("Markov", "TIGER, epochs=15")]
    with pytest.raises(ResultsError, match="begins with 'cccc'; known: default, all, best, aaaa, bbbb"):
        sides("markov", "tiger", configs="cccc")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("etegrec", "nothing", "is named 'nothing'; known: etegrec/full, markov/full, tiger/full"),
        ("etegrec", "etegrec", "must be different runs, but both are ETEGRec"),
        ("etegrec", "demo", "must mean one method and variant, but means etegrec/full, markov/full"),
        ("demo/etegrec/full", "game/tiger/full", "of one data set, but ETEGRec is of 'demo' and TIGER of 'game'"),
        ("etegrec", "markov", r"one contract, but there are 2: .*--contract DIGEST"),
        ("tiger", None, "TIGER has no other finished run beside it on 'game'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path: Path, first: str, second: str | None, message: str) -> None:
    write(tmp_path, "etegrec", [1, 0, 3])
    write(tmp_path, "markov", [1, 0, 3], contract=CONTRACT | {"decoding": "free"}, contract_digest="ffff")
    write(tmp_path, "tiger", [1, 0, 3], dataset="game")
    with pytest.raises(ResultsError, match=message) as caught:
        compare(tmp_path, first, second)
    assert "\n" not in str(caught.value)


def test_runs_of_other_data_or_other_users_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "etegrec", [1, 0, 3])
    write(tmp_path, "tiger", [1, 0, 3], dataset_fingerprint="beef")
    with pytest.raises(ResultsError, match="must mean one data set, but names 2 data sets: demo-beef"):
        compare(tmp_path, "etegrec", "tiger")
    shutil.rmtree(tmp_path / "demo" / "tiger")
    write(tmp_path, "tiger", [1, 0, 3, 4])
    with pytest.raises(ResultsError, match="on the same users and targets"):
        compare(tmp_path, "etegrec", "tiger")


def test_long_names_are_not_cut_on_a_narrow_screen(tmp_path: Path) -> None:
    for place, (variant, title) in enumerate(
        [("wo-at-finetuned", "w/o AT, fine-tuned"), ("wo-sia-psa", "w/o SIA&PSA")]
    ):
        ranks = made_up_ranks(400, 0.2 + 0.2 * place, place)
        write(tmp_path, "etegrec", ranks, variant=variant, variant_title=title)
    write(tmp_path, "etegrec", made_up_ranks(400, 0.8, 7))
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(comparison_view(compare(tmp_path, "etegrec/wo-sia-psa")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ETEGRec w/o AT, fine-tuned" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_small_p_values_are_bounded_and_others_rounded() -> None:
    assert [shown_p(p) for p in (1e-9, 0.01234, 1.0)] == ["< 0.0001", "= 0.012", "= 1"]
