"""A model asked again with other searches, on the planted walks. Oracle: the fitted recommender itself."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from jobs_here import run_here
from planted_runs import QUIET, stored, times

from harness.data.prepare import load_dataset, load_test
from harness.errors import UsageError
from harness.experiment.audit import decode_again, fitted_cell
from harness.experiment.compute import fit_context
from harness.experiment.place import Place
from harness.experiment.plan import Settings, make_plan
from harness.experiment.run import run_plan
from harness.interfaces import Contract
from harness.methods import method_named
from harness.testing import planted
from results.statistics.audit import decoded, decoded_path
from results.store.reading import read_as
from results.store.runs import Run, read_parquet, read_run

TABLES = {"tiger-sas": planted.shortened(method_named("tiger-sas").tiny)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("audit")
    return Place(dataset=planted.prepared(root / "data"), cache=root / "cache", runs=root / "runs")


def run_under(place: Place, **contract: object) -> Run:
    settings = Settings(tables=TABLES, contract=Contract(**contract))
    plan = make_plan(
        load_dataset(place.dataset), method_names=["tiger-sas"], ablation_names=[], seeds=[0], settings=settings
    )
    (result,) = run_plan(plan, place, QUIET, execute=run_here)
    assert result.outcome.status == "done"
    return read_run(result.folder)


@pytest.fixture(scope="module")
def run(place: Place) -> Run:
    return run_under(place)


def test_what_is_kept_is_what_the_model_finds_under_the_other_search(place: Place, run: Run) -> None:
    cell, data = fitted_cell(run, place), load_dataset(place.dataset)
    cases = load_test(place.dataset, data)
    for search, contract in ((10, Contract(num_beams=10)), ("exact", Contract(decoding="exact"))):
        path = decode_again(run, search, place)
        folder = place.store.folder(cell.fit)
        context = fit_context(cell.fit, place, folder, lambda progress: None, contract=contract)
        recommender = method_named("tiger-sas").load(folder, cell.config, data, context)
        expected = recommender.recommend(cases.histories, 10).items
        found = np.stack(read_parquet(path)["items"].list.head(10).to_list())
        np.testing.assert_array_equal(found, expected)
        written = path.stat().st_mtime_ns
        assert decode_again(run, search, place) == path
        assert path.stat().st_mtime_ns == written
        assert decoded(run, search).equals(read_parquet(path))
    assert decoded(run, 20).equals(run.outcomes())
    assert decoded(run, 50) is None
    assert read_run(run.folder).record == run.record


def test_an_exact_run_uses_the_same_fit_and_tells_every_rank(place: Place, run: Run) -> None:
    before = {name: time for name, time in times(place.cache.parent).items() if name.startswith("cache")}
    decoded_path(run, "exact").unlink(missing_ok=True)
    exact = run_under(place, decoding="exact")
    assert {name: time for name, time in times(place.cache.parent).items() if name.startswith("cache")} == before
    assert exact.folder != run.folder
    outcomes = exact.outcomes()
    assert outcomes["rank"].min() >= 1
    assert outcomes["popular_ahead"].null_count() == 0
    assert read_parquet(decode_again(run, "exact", place)).equals(outcomes)


def test_a_run_judged_by_other_rules_has_the_ranks_that_the_reading_has(place: Place, run: Run) -> None:
    """The contract's reading is applied when a run is written just as when a stored one is read."""
    before = stored(place.cache.parent)
    removed = run_under(place, history="removed")
    assert removed.ranks().equals(read_as(run, {"history": "removed"}).ranks())
    assert before.items() <= stored(place.cache.parent).items()


def test_a_model_that_is_gone_is_told_in_one_line(place: Place, run: Run, tmp_path: Path) -> None:
    empty = Place(dataset=place.dataset, cache=tmp_path, runs=place.runs)
    moved = tmp_path / "runs" / Path(*run.folder.parts[-5:])
    shutil.copytree(run.folder, moved)
    decoded_path(read_run(moved), 50).unlink(missing_ok=True)
    with pytest.raises(UsageError, match=r"needs the fit of .* leave --decode out"):
        decode_again(read_run(moved), 50, empty)
