"""What every registered method must do. Oracles: properties, equality to the bit, and a planted pattern."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest

from harness.config import Config, merged
from harness.data.dataset import Dataset, EvalCases, Sequences
from harness.evaluation.outcomes import evaluate
from harness.interfaces import FitContext, Method, Recommender
from harness.methods import methods
from results.statistics.metrics.registry import metrics_from_ranks

FLOORS = {"popularity"}  # recommend the most frequent item; the others must beat that
KS = (1, 2, 5, 10)


@dataclass
class Fitted:
    """A method after its fit on the planted pattern."""

    method: Method
    config: Config
    dataset: Dataset
    context: FitContext
    recommender: Recommender

    def loaded(self, folder: Path) -> Recommender:
        """What comes back from a folder."""
        return self.method.load(folder, self.config, self.dataset, self.context)


def fit(name: str, folder: Path, cache: Path, table: dict[str, Any], seed: int = 0) -> Fitted:
    method, dataset = methods()[name], planted.planted_dataset()
    config = merged(method.presets["lite"], table)
    stage = planted.fit_stage(name, config, dataset=dataset, seed=seed)
    inputs = planted.computed_inputs(stage, dataset, cache)
    context = planted.context_of(stage, folder)
    context.folder.mkdir(parents=True)
    return Fitted(method, config, dataset, context, method.fit(config, dataset, inputs, context))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the fitted methods share their stages."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=list(methods()))
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Fitted:
    name = request.param
    return fit(name, tmp_path_factory.mktemp(name) / "fit", cache, planted.TINY.get(name, {}))


@pytest.fixture(scope="module")
def cases() -> EvalCases:
    return planted.held_out(planted.planted_dataset())


@pytest.mark.parametrize("k", [1, 10, planted.NUM_ITEMS])
def test_lists_hold_existing_items_each_at_most_once_and_the_best_first(
    fitted: Fitted, cases: EvalCases, k: int
) -> None:
    items, scores = fitted.recommender.recommend(cases.histories, k)
    assert items.shape == scores.shape == (len(cases), k)
    assert items.dtype == np.int64
    assert scores.dtype == np.float32
    assert items.min() >= 1
    assert items.max() <= planted.NUM_ITEMS
    assert all(len(set(row)) == k for row in items.tolist())
    assert np.isfinite(scores).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_longer_list_begins_with_the_shorter_one(fitted: Fitted, cases: EvalCases) -> None:
    longer, shorter = (fitted.recommender.recommend(cases.histories, k).items for k in (10, 5))
    np.testing.assert_array_equal(longer[:, :5], shorter)


def test_other_users_in_the_batch_change_no_list(fitted: Fitted, cases: EvalCases) -> None:
    together = fitted.recommender.recommend(cases.histories, 10).items
    backwards = np.arange(len(cases))[::-1]
    np.testing.assert_array_equal(
        fitted.recommender.recommend(cases.histories.take(backwards), 10).items[backwards], together
    )


def test_a_history_of_one_item_has_a_list(fitted: Fitted) -> None:
    items, _ = fitted.recommender.recommend(Sequences.from_rows([[3]]), 10)
    assert len(set(items[0].tolist())) == 10


def test_what_is_saved_and_loaded_recommends_the_same_to_the_bit(
    fitted: Fitted, cases: EvalCases, tmp_path: Path
) -> None:
    before = fitted.recommender.recommend(cases.histories, 10)
    fitted.recommender.save(tmp_path / "saved")
    moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
    after = fitted.loaded(Path(moved)).recommend(cases.histories, 10)
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)
    files = {path.suffix for path in Path(moved).rglob("*") if path.is_file()}
    assert files <= {".safetensors", ".json"}


@pytest.mark.parametrize("name", list(methods()))
def test_the_same_seed_gives_the_same_ranks_and_another_one_others(name: str, cases: EvalCases, tmp_path: Path) -> None:
    """Each fit with every stage below it, in a folder of its own; few epochs, so that seeds still tell."""
    table = planted.shortened(planted.TINY.get(name, {}))
    results = [
        evaluate(fit(name, tmp_path / folder / "fit", tmp_path / folder / "cache", table, seed).recommender, cases, 10)
        for folder, seed in (("first", 0), ("again", 0), ("other", 1))
    ]
    np.testing.assert_array_equal(results[0].ranks, results[1].ranks)
    np.testing.assert_array_equal(results[0].items, results[1].items)
    assert np.array_equal(results[0].items, results[2].items) == (name not in planted.TINY)


def test_metrics_lie_between_0_and_1_and_grow_with_k(fitted: Fitted, cases: EvalCases) -> None:
    ranks = evaluate(fitted.recommender, cases, 10).ranks
    values: dict[str, list[float]] = {}
    for value in metrics_from_ranks(ranks, KS, list_length=10):
        values.setdefault(value.metric, []).append(value.value)
    for series in values.values():
        assert len(series) == len(KS)
        assert all(0 <= value <= 1 for value in series)
        assert series == sorted(series)


def test_a_planted_pattern_is_found_far_better_than_by_the_most_frequent_item(fitted: Fitted, cases: EvalCases) -> None:
    """The floor is counted here, not asked of a method: how many targets are the item with the most interactions."""
    most_frequent = np.bincount(fitted.dataset.train.items).argmax()
    floor = (cases.targets == most_frequent).mean()
    hits = (evaluate(fitted.recommender, cases, 1).ranks == 1).mean()
    if fitted.method.name in FLOORS:
        assert hits == floor
    else:
        assert hits >= floor + 0.25, (hits, floor)


def test_what_is_recorded_beside_the_scores_is_plain_json(fitted: Fitted) -> None:
    def is_plain(value: Any) -> bool:
        if isinstance(value, list):
            return all(map(is_plain, value))
        return value is None or type(value) in (bool, int, float, str)

    health = fitted.recommender.health()
    assert health
    assert all(isinstance(name, str) and is_plain(value) for name, value in health.items())


@pytest.mark.parametrize("name", list(methods()))
@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_every_config_survives_a_round_trip_and_names_itself(name: str, preset: str) -> None:
    method = methods()[name]
    config = method.presets[preset]
    assert isinstance(config, method.config)
    again = method.config.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.digest() == config.digest()
    assert all(isinstance(line, str) and "\n" not in line for line in method.assumptions(config))
