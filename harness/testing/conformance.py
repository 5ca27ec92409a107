"""What every method must do. Oracles: properties, equality to the bit, and a planted pattern."""

import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.config import Config, merged
from harness.data.dataset import Dataset, EvalCases, Sequences
from harness.data.prepare import TEST, load_dataset
from harness.evaluation.outcomes import evaluate
from harness.experiment.audit_fit import keeping
from harness.interfaces import FitContext, Method, Progress, Recommender
from harness.testing.planted import (
    NUM_ITEMS,
    computed_inputs,
    context_of,
    fit_stage,
    held_out,
    planted_dataset,
    prepared,
    shortened,
    with_other_test_targets,
)
from results.statistics.metrics.registry import metrics_from_ranks

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


def fit(
    method: Method,
    config: Config,
    folder: Path,
    cache: Path,
    *,
    seed: int = 0,
    dataset: Dataset | None = None,
    is_interrupted: bool = False,
    kept: Path | None = None,
) -> Fitted:
    """The method fitted on the planted pattern, or on another data set; stages below it are shared in `cache`.

    An interrupted fit is stopped at the end of its second epoch, and then goes on. Below `kept` the recommenders of its
    epochs are saved, as an audit does.
    """
    dataset = dataset or planted_dataset()
    stage = fit_stage(method, config, dataset=dataset, seed=seed)
    inputs = computed_inputs(stage, dataset, cache)
    context = context_of(stage, folder)
    if kept is not None:
        context = replace(context, keep=keeping(kept))
    context.folder.mkdir(parents=True)
    if is_interrupted:
        with contextlib.suppress(KeyboardInterrupt):
            method.fit(config, dataset, inputs, replace(context, report=interrupt))
    return Fitted(method, config, dataset, context, method.fit(config, dataset, inputs, context))


def interrupt(progress: Progress) -> None:
    """Stops a fit after two epochs."""
    if progress.epoch == 2:
        raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tensors_of(root: Path) -> dict[str, np.ndarray]:
    """Every tensor of every file of weights, vectors or codes below a folder, by file and name."""
    return {
        f"{path.relative_to(root)}: {name}": tensor
        for path in sorted(root.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


ShortFits = dict[str, tuple[Fitted, Path]]


def short_fits(method: Method, root: Path) -> ShortFits:
    """Fits of few epochs, so that seeds still tell, each with the folder of its files and of all stages below it.

    `blind`: of a prepared data set whose test file is gone; `again`: the same seed with other test targets, interrupted
    and continued, its epochs kept below `root`; `other`: another seed.
    """
    config = merged(method.presets["lite"], shortened(method.tiny))
    found = {}
    for name, seed in (("blind", 0), ("again", 0), ("other", 1)):
        data, files = prepared(root / name / "data"), root / name / "files"
        if name == "blind":
            (data / TEST).unlink()
        else:
            with_other_test_targets(data)
        fitted = fit(
            method,
            config,
            files / "fit",
            files / "cache",
            seed=seed,
            dataset=load_dataset(data),
            is_interrupted=name == "again",
            kept=root / "kept" if name == "again" else None,
        )
        (files / "saved").mkdir()
        fitted.recommender.save(files / "saved")
        found[name] = fitted, files
    return found


class MethodConformance:
    """Derive a test class that names its `method`; the fit is made once, with the method's `tiny` changes to `lite`."""

    method: ClassVar[Method]
    is_seeded: ClassVar[bool] = True  # False: another seed changes no list
    margin: ClassVar[float] = 0.25  # hits at place 1 above the share of targets that are the most frequent item

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
        """The method after its fit."""
        method = cls.method
        cache = tmp_path_factory.getbasetemp() / "conformance"  # methods share their stages
        config = merged(method.presets["lite"], method.tiny)
        return fit(method, config, tmp_path_factory.mktemp(method.name) / "fit", cache)

    @pytest.fixture(scope="class")
    @classmethod
    def cases(cls) -> EvalCases:
        """The last step of every walk, which no fit has seen."""
        return held_out(planted_dataset())

    @pytest.mark.parametrize("k", [1, 10, NUM_ITEMS])
    def test_lists_hold_existing_items_each_at_most_once_and_the_best_first(
        self, fitted: Fitted, cases: EvalCases, k: int
    ) -> None:
        items, scores = fitted.recommender.recommend(cases.histories, k)
        assert items.shape == scores.shape == (len(cases), k)
        assert items.dtype == np.int64
        assert scores.dtype == np.float32
        assert items.min() >= 1
        assert items.max() <= NUM_ITEMS
        assert all(len(set(row)) == k for row in items.tolist())
        assert np.isfinite(scores).all()
        assert (np.diff(scores, axis=1) <= 0).all()

    def test_a_longer_list_begins_with_the_shorter_one(self, fitted: Fitted, cases: EvalCases) -> None:
        longer, shorter = (fitted.recommender.recommend(cases.histories, k).items for k in (10, 5))
        np.testing.assert_array_equal(longer[:, :5], shorter)

    def test_other_users_in_the_batch_change_no_list(self, fitted: Fitted, cases: EvalCases) -> None:
        together = fitted.recommender.recommend(cases.histories, 10).items
        backwards = np.arange(len(cases))[::-1]
        np.testing.assert_array_equal(
            fitted.recommender.recommend(cases.histories.take(backwards), 10).items[backwards], together
        )

    def test_a_history_of_one_item_has_a_list(self, fitted: Fitted) -> None:
        items, _ = fitted.recommender.recommend(Sequences.from_rows([[3]]), 10)
        assert len(set(items[0].tolist())) == 10

    def test_what_is_saved_and_loaded_recommends_the_same_to_the_bit(
        self, fitted: Fitted, cases: EvalCases, tmp_path: Path
    ) -> None:
        before = fitted.recommender.recommend(cases.histories, 10)
        (tmp_path / "saved").mkdir()
        fitted.recommender.save(tmp_path / "saved")
        moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
        after = fitted.loaded(Path(moved)).recommend(cases.histories, 10)
        np.testing.assert_array_equal(before.items, after.items)
        np.testing.assert_array_equal(before.scores, after.scores)
        files = {path.suffix for path in Path(moved).rglob("*") if path.is_file()}
        assert files <= {".safetensors", ".json"}

    @pytest.fixture(scope="class")
    @classmethod
    def short_fits(cls, tmp_path_factory: pytest.TempPathFactory) -> ShortFits:
        """What `short_fits` makes, once."""
        return short_fits(cls.method, tmp_path_factory.mktemp(f"{cls.method.name}-short"))

    def test_the_same_seed_gives_the_same_ranks_and_another_one_others(
        self, cases: EvalCases, short_fits: ShortFits
    ) -> None:
        first, again, other = (
            evaluate(short_fits[name][0].recommender, cases, 10) for name in ("blind", "again", "other")
        )
        np.testing.assert_array_equal(first.ranks, again.ranks)
        np.testing.assert_array_equal(first.items, again.items)
        assert np.array_equal(first.items, other.items) != self.is_seeded

    def test_no_tensor_of_a_fit_hangs_on_the_test_targets(self, short_fits: ShortFits) -> None:
        """A fit without a test file equals one with other targets whose epochs are kept, and so does all below it."""
        blind, again, other = (tensors_of(short_fits[name][1]) for name in ("blind", "again", "other"))
        assert blind.keys() == again.keys()
        for name, tensor in blind.items():
            np.testing.assert_array_equal(tensor, again[name], err_msg=name)
        if self.is_seeded:
            assert any(name not in other or not np.array_equal(tensor, other[name]) for name, tensor in blind.items())
        saved = [
            {path.name: path.read_bytes() for path in (short_fits[name][1] / "saved").rglob("*.json")}
            for name in ("blind", "again")
        ]
        assert saved[0] == saved[1]

    def test_the_epoch_that_is_selected_is_among_those_that_an_audit_keeps(self, short_fits: ShortFits) -> None:
        files = short_fits["again"][1]
        kept = [contents(folder) for folder in (files.parents[1] / "kept").glob("*")]
        if not kept:
            pytest.skip("the method tells no epochs")
        assert contents(files / "saved") in kept

    def test_metrics_lie_between_0_and_1_and_grow_with_k(self, fitted: Fitted, cases: EvalCases) -> None:
        ranks = evaluate(fitted.recommender, cases, 10).ranks
        values: dict[str, list[float]] = {}
        for value in metrics_from_ranks(ranks, KS, list_length=10):
            values.setdefault(value.metric, []).append(value.value)
        for series in values.values():
            assert len(series) == len(KS)
            assert all(0 <= value <= 1 for value in series)
            assert series == sorted(series)

    def test_a_planted_pattern_is_found_far_better_than_by_the_most_frequent_item(
        self, fitted: Fitted, cases: EvalCases
    ) -> None:
        """The floor is counted here, not asked of a method: how many targets are the item with most interactions."""
        most_frequent = np.bincount(fitted.dataset.train.items).argmax()
        floor = (cases.targets == most_frequent).mean()
        hits = (evaluate(fitted.recommender, cases, 1).ranks == 1).mean()
        assert hits >= floor + self.margin, (hits, floor)

    def test_what_is_recorded_beside_the_scores_is_plain_json(self, fitted: Fitted) -> None:
        def is_plain(value: Any) -> bool:
            if isinstance(value, list):
                return all(map(is_plain, value))
            return value is None or type(value) in (bool, int, float, str)

        health = fitted.recommender.health()
        assert health
        assert all(isinstance(name, str) and is_plain(value) for name, value in health.items())

    def test_every_preset_survives_a_round_trip_and_names_itself(self) -> None:
        for config in self.method.presets.values():
            assert isinstance(config, self.method.config)
            again = self.method.config.model_validate_json(config.model_dump_json())
            assert again == config
            assert again.digest() == config.digest()
            assert all(isinstance(line, str) and "\n" not in line for line in self.method.assumptions(config))
