"""Users with several cases: what is tested and drawn is users. Oracles: scipy on sums by user, and plain resampling."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import made_up_ranks, write_made_up_run
from rich.console import Console
from scipy import stats

from results.statistics.comparison import compare
from results.statistics.inference import (
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_means,
    by_user,
    error_over_users,
    fixed_random,
    paired_t_test,
    permutation_test,
)
from results.store.schema import cases_frame
from results.tables.performance import View, overall_table
from results.tables.slices import slicing_named
from results.terminal.panels import run_panel

OWNERS = np.array([0, 0, 0, 3, 4, 4, 6, 7, 7, 7])  # five users
FIRST = np.array([1.0, 1, 0, 0, 1, 0, 1, 0, 0, 1])
SECOND = np.array([0.0, 1, 0, 1, 0, 0, 0, 0, 1, 1])


def test_sums_by_user_keep_the_mean_over_cases() -> None:
    assert by_user(FIRST, OWNERS).tolist() == [1.0, 0.0, 0.5, 0.5, 0.5]  # of 2, 0, 1, 1, 1 hits
    assert by_user(FIRST, OWNERS).mean() == pytest.approx(FIRST.mean())
    assert by_user(FIRST, None) is FIRST


def test_cases_given_twice_say_no_more_than_once() -> None:
    owners = np.repeat(np.arange(10), 2)
    once, twice = (FIRST, SECOND), (np.repeat(FIRST, 2), np.repeat(SECOND, 2))
    assert bootstrap_interval(twice[0], fixed_random(), owners) == bootstrap_interval(once[0], fixed_random())
    assert bootstrap_difference(*twice, fixed_random(), owners) == bootstrap_difference(*once, fixed_random())
    assert paired_t_test(*(by_user(side, owners) for side in twice)) == paired_t_test(*once)
    assert paired_t_test(*twice).p_value < paired_t_test(*once).p_value  # what is wrong about taking them as users
    assert error_over_users(twice[0], owners) == pytest.approx(error_over_users(once[0]))
    drawn = bootstrap_means([side[None] for side in twice], fixed_random(), owners)
    assert np.array_equal(drawn, bootstrap_means([side[None] for side in once], fixed_random()))


def test_the_tests_are_scipys_on_sums_by_user() -> None:
    sums = [np.array([values[owner == OWNERS].sum() for owner in np.unique(OWNERS)]) for values in (FIRST, SECOND)]
    ours = [by_user(values, OWNERS) for values in (FIRST, SECOND)]
    assert paired_t_test(*ours).p_value == pytest.approx(stats.ttest_rel(*sums).pvalue)
    assert paired_t_test(*ours).difference == pytest.approx((FIRST - SECOND).mean())
    exact = stats.permutation_test(sums, lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf)
    assert permutation_test(*ours, fixed_random()).p_value == pytest.approx(exact.pvalue, abs=0.02)


def test_the_interval_is_that_of_drawing_users_with_their_cases() -> None:
    stream = np.random.default_rng(5)
    owners = np.repeat(np.arange(60), stream.integers(1, 9, 60))
    values = (stream.random(len(owners)) < np.repeat(stream.random(60), np.bincount(owners))).astype(float)
    cases = [np.flatnonzero(owners == user) for user in range(60)]
    means = [values[np.concatenate([cases[user] for user in stream.integers(0, 60, 60)])].mean() for _ in range(4_000)]
    mean, low, high = bootstrap_interval(values, fixed_random(), owners)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.012)
    assert error_over_users(values, owners) == pytest.approx(np.std(means), rel=0.1)
    alone = bootstrap_interval(values, fixed_random())
    assert high - low > 1.2 * (alone.high - alone.low)


def test_tables_comparisons_and_panels_tell_cases_of_users(tmp_path: Path) -> None:
    owners = np.repeat(np.arange(0, 240, 4), 4)  # 60 users of 4 cases
    counts = np.where(np.arange(240) < 80, 0, 3)
    ranks = {name: np.repeat(made_up_ranks(60, share, 0), 4) for name, share in (("tiger", 0.7), ("sasrec", 0.4))}
    for name, own in ranks.items():
        cases = cases_frame(np.full(240, 5), counts, owners=owners)
        run = write_made_up_run(tmp_path, own, cases, method=name, title=name, variant_title=name, num_users=60)
    table = overall_table(tmp_path, "demo")
    hits = [(own > 0).astype(float).reshape(60, 4).sum(axis=1) for own in ranks.values()]
    best = next(row.cells[1] for row in table.rows if row.label == "tiger")
    assert best.p_value == pytest.approx(stats.ttest_rel(*hits).pvalue)
    assert any(note.startswith("240 cases of 60 users; contract") for note in table.notes)
    sliced = overall_table(tmp_path, "demo", None, View(slicing=slicing_named("unseen-item")))
    assert sliced.columns[0].name == "Cases"
    assert [row.cells[0].value for row in sliced.rows] == [80, 80, 160, 160]
    assert "Fewer than 30 users, and so not tested: Target: unseen." in sliced.notes  # 20 users with 80 cases
    found = compare(tmp_path, "tiger", "sasrec")[0]
    assert (found.num_users, found.num_cases, found.population) == (60, 240, "240 cases of 60 users")
    assert found.metrics[1].p_values.t_test == pytest.approx(stats.ttest_rel(*hits).pvalue)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(run_panel(run))
    assert "bootstrap over users; 240 cases of 60 users" in shown.get()
