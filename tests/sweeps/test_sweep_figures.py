"""Figures of studies. Oracles: arithmetic by hand, on made-up trials."""

import math
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from made_up_studies import made_up_study

from harness.errors import UsageError
from results.errors import ResultsError
from sweeps.figures import curve_frame, hyperparameters_figure, places_of, search_frame, sweep_figure, with_intervals
from sweeps.summaries import StudySummary

pytest.importorskip("matplotlib")

CONFIG = {"mu": 3e-4, "lambda_": 1e-4}


def curve(field: str, scores: dict[float, float], **changes: object) -> StudySummary:
    """A grid study with a complete trial per value of the field."""
    trials = [({field: setting}, "complete", score) for setting, score in scores.items()]
    return made_up_study(trials, {field: list(scores)}, config=CONFIG, curve=field, **changes)  # type: ignore[arg-type]


def test_a_curve_has_both_metrics_of_each_value_and_marks_the_default() -> None:
    frame = curve_frame(curve("lambda_", {1e-3: 0.03, 0.0: 0.01, 1e-4: 0.02}))
    assert frame.select("setting", "metric", "value", "is_default").rows() == [
        (0.0, "NDCG@10", 0.01, False),
        (0.0, "Recall@10", 0.02, False),
        (1e-4, "NDCG@10", 0.02, True),
        (1e-4, "Recall@10", 0.04, True),
        (1e-3, "NDCG@10", 0.03, False),
        (1e-3, "Recall@10", 0.06, False),
    ]


def test_a_setting_has_the_range_of_its_seeds_or_the_interval_over_users() -> None:
    rows = [(0.1, 0.50, 0.1), (0.2, 0.20, 0.1), (0.2, 0.40, 0.1), (0.3, 0.05, 0.1), (0.4, 0.30, None)]
    frame = pl.DataFrame(rows, schema={"setting": pl.Float64, "value": pl.Float64, "error": pl.Float64}, orient="row")
    expected = [
        (0.1, 0.5, 0.5 - 0.196, 0.5 + 0.196),
        (0.2, 0.3, 0.2, 0.4),
        (0.3, 0.05, 0.0, 0.246),
        (0.4, 0.3, 0.3, 0.3),
    ]
    for found, row in zip(with_intervals(frame).rows(), expected, strict=True):
        assert found == pytest.approx(row)


def test_scores_start_at_zero() -> None:
    drawn = hyperparameters_figure([curve("mu", {1e-4: 0.5, 3e-4: 0.6})], "demo", "etegrec")
    assert "start at 0" in drawn.caption
    assert [axes.get_ylim()[0] for axes in drawn.draw(drawn.frame).axes] == [0.0, 0.0]


def test_zero_stands_half_a_decade_before_the_least_value() -> None:
    places = places_of([0.0, 1e-4, 1e-3])
    assert [places[setting] for setting in (0.0, 1e-4, 1e-3)] == pytest.approx([-4.5, -4.0, -3.0])


def test_the_settings_that_ran_last_are_shown_with_all_their_seeds(tmp_path: Path) -> None:
    old = curve("mu", {1e-4: 0.5, 3e-4: 0.6}, ended=datetime(2025, 1, 1))
    new = [curve("mu", {1e-4: 0.1, 3e-4: 0.2, 1e-3: 0.1}, seed=seed, ended=datetime(2025, 2, 1)) for seed in (0, 1)]
    search = made_up_study([({"mu": 1e-4}, "complete", 0.9)], {"mu": [1e-4, 3e-4]}, config=CONFIG)
    lambdas = curve("lambda_", {0.0: 0.1, 1e-4: 0.3})
    figure = hyperparameters_figure([lambdas, old, *new, search], "demo", "etegrec")
    assert figure.frame["study"].unique(maintain_order=True).to_list() == [study.name for study in (*new, lambdas)]
    assert "validation items" in figure.caption
    assert "2 seeds" in figure.caption
    assert all(path.stat().st_size for path in figure.save(tmp_path))


def test_a_curve_needs_a_complete_trial_of_its_data_set() -> None:
    studies = [made_up_study([({"mu": 1e-4}, "pruned", 0.1)], {"mu": [1e-4]}, config=CONFIG, curve="mu")]
    for dataset in ("demo", "other"):
        with pytest.raises(UsageError, match=rf"harness sweep --dataset {dataset} --method etegrec --grid mu"):
            hyperparameters_figure(studies, dataset, "etegrec")


def test_the_best_so_far_counts_complete_trials_alone(tmp_path: Path) -> None:
    values = [1e-4, 3e-4, 1e-3]
    states = [("pruned", 0.9), ("complete", 0.2), ("failed", None), ("complete", 0.1), ("complete", 0.3)]
    trials = [({"mu": values[place % 3]}, state, value) for place, (state, value) in enumerate(states)]
    trials += [({"mu": values[0]}, "complete", 0.25)]
    figure = sweep_figure(made_up_study(trials, {"mu": values}, config=CONFIG))
    shown = figure.frame.filter(figure.frame["trial"].is_not_null())
    assert shown["state"].to_list() == ["pruned", "complete", "failed", "complete", "complete", "complete"]
    assert shown["value"].to_list() == [0.9, 0.2, None, 0.1, 0.3, 0.25]
    assert shown["best"].to_list() == [None, 0.2, 0.2, 0.2, 0.3, 0.3]
    fields = figure.frame.filter(figure.frame["field"].is_not_null())
    assert fields["field"].to_list() == ["mu"]
    assert math.isclose(fields["importance"].sum(), 1.0)
    assert "4 complete trials" in figure.caption
    assert "1 pruned trial when" in figure.caption
    assert all(path.stat().st_size for path in figure.save(tmp_path, ["svg"]))


def test_a_search_without_a_score_is_refused() -> None:
    study = made_up_study([({"mu": 1e-4}, "failed", None)], {"mu": [1e-4]}, config=CONFIG)
    assert len(search_frame(study)) == 1
    with pytest.raises((UsageError, ResultsError), match="has no trial with a score yet"):
        sweep_figure(study)
