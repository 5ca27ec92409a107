"""The demo data set. Oracles: its promised sizes, and two plain models that must differ on it."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from harness.data.dataset import Dataset, EvalCases
from harness.data.demo import DAY_MS, DAYS_BETWEEN_MODELS, DEMO_CONFIG, MODELS_PER_SERIES, OPENING_MS, demo, market
from harness.data.prepare import describe, load_test, prepare


@pytest.fixture(scope="module")
def prepared_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, EvalCases]:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    dataset = prepare(demo(), DEMO_CONFIG, folder, "demo")
    return folder, dataset, load_test(folder, dataset)


def recall_at_10(scores_BN: np.ndarray, targets: np.ndarray) -> float:
    """Share of rows whose target is among the 10 best; ties count against it."""
    own = np.take_along_axis(scores_BN, targets[:, None].astype(np.int64), axis=1)
    return float(((scores_BN >= own).sum(axis=1) <= 10).mean())


def popularity(dataset: Dataset) -> np.ndarray:
    counts = np.bincount(dataset.train.items, minlength=dataset.num_items + 1).astype(float)
    counts[0] = -1.0
    return counts


def transition_scores(dataset: Dataset, cases: EvalCases) -> np.ndarray:
    """Followers of the last two items, the older at half weight; popularity breaks ties."""
    size = dataset.num_items + 1
    followers = np.zeros((size, size))
    rows = [dataset.train.row(user) for user in range(dataset.num_users)]
    for row in rows:
        np.add.at(followers, (row[:-1], row[1:]), 1.0)
        np.add.at(followers, (row[:-2], row[2:]), 0.5)
    followers /= np.maximum(followers.sum(axis=1, keepdims=True), 1.0)
    last_two = cases.histories.last(2)
    weights = np.where(np.arange(len(last_two.items)) + 1 == np.repeat(last_two.offsets[1:], last_two.lengths), 1, 0.5)
    scores = np.tile(1e-6 * popularity(dataset), (len(cases), 1))
    np.add.at(scores, np.repeat(np.arange(len(cases)), last_two.lengths), weights[:, None] * followers[last_two.items])
    return scores


def test_the_demo_has_the_promised_size_and_is_labelled_synthetic(
    prepared_demo: tuple[Path, Dataset, EvalCases],
) -> None:
    folder, dataset, _ = prepared_demo
    found = describe(folder)
    assert 950 <= found["users"] <= 1_050
    assert 400 <= found["items"] <= 500
    assert 7_500 <= found["interactions"] <= 9_000
    assert found["min_length"] >= 5
    assert found["repeat_share"] == 0
    assert 0 < found["items_without_text_share"] < 0.03
    assert dataset.synthetic


def test_the_demo_is_the_same_on_every_machine() -> None:
    """A golden value: `demo()` of this code with NumPy 2.4.6 and seed 20240905; it proves that nothing moved."""
    raw = demo()
    rows = raw.frame.with_columns(pl.col("user", "item").cast(pl.String)).rows()
    assert hashlib.sha256(repr((rows, sorted(raw.texts.items()))).encode()).hexdigest()[:16] == "4c59d33c4bd3946c"


def test_no_model_is_bought_before_it_is_out() -> None:
    items, frame = market(), demo().frame
    number = frame["item"].cast(pl.String).str.slice(1).cast(pl.Int64).to_numpy()
    day = (frame["time"].to_numpy() - OPENING_MS) / DAY_MS
    assert (np.ceil(day) >= items.released[number]).all()
    last = number % MODELS_PER_SERIES == MODELS_PER_SERIES - 1
    assert day[last].min() > 3 * DAYS_BETWEEN_MODELS  # the fifth model comes four times that late
    assert day[~last].min() < DAYS_BETWEEN_MODELS


def test_a_made_for_series_offers_several_items() -> None:
    """Transitions alone must spread: after one item, the accessory's five models are all likely."""
    items = market()
    drawn = items.of_series(np.linspace(0, 1, 1_000, endpoint=False), np.full(1_000, 7))
    assert set(drawn) == set(range(35, 40))
    counts = np.bincount(drawn - 35)
    weights = np.diff(items.cumulated)[35:40]
    np.testing.assert_allclose(counts / 1_000, weights / weights.sum(), atol=2e-3)


def test_histories_are_short_with_a_long_tail(prepared_demo: tuple[Path, Dataset, EvalCases]) -> None:
    """As in the Amazon sets, whose median is 6 and whose longest have 34 to 204."""
    lengths = prepared_demo[1].train.lengths + 2
    assert np.median(lengths) == 6
    assert np.quantile(lengths, 0.9) <= 15
    assert lengths.max() > 45


def test_popularity_is_weak_and_transitions_are_better_but_far_from_perfect(
    prepared_demo: tuple[Path, Dataset, EvalCases],
) -> None:
    _, dataset, test = prepared_demo
    popular = recall_at_10(np.tile(popularity(dataset), (len(test), 1)), test.targets)
    transitions = recall_at_10(transition_scores(dataset, test), test.targets)
    assert 0.02 < popular < 0.10
    assert 0.20 < transitions < 0.40


def test_popularity_has_a_long_tail(prepared_demo: tuple[Path, Dataset, EvalCases]) -> None:
    counts = np.sort(popularity(prepared_demo[1])[1:])
    tenth, half = len(counts) // 10, len(counts) // 2
    assert counts[-tenth:].mean() > 4 * counts[:half].mean()
    assert counts[tenth] <= 6  # and a tenth of the items has next to nothing to learn from


def test_an_items_text_names_the_series_that_it_was_made_for() -> None:
    # The accessory of a stove series is the fuel series at the same place: model 1 of each.
    texts = demo().texts
    stove = texts["D00001"].split(". ")[0]
    fuel = texts["D00016"]
    series = stove.split()[1]
    assert f"Made to go with the {series} camp stove Mark 2" in fuel
