"""An audit's own fit, on the planted walks. Oracles: the run's own fit to the byte, and its epochs loaded and asked."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs_here import run_here
from planted_runs import QUIET, stored, times

from harness.data.prepare import TEST, load_dataset, load_test
from harness.errors import UsageError
from harness.evaluation.outcomes import evaluate
from harness.experiment.audit import cell_of_run
from harness.experiment.audit_fit import FOLDER, KEPT, audit_jobs, fit_again, job_key, kept_fit
from harness.experiment.compute import fit_context
from harness.experiment.place import Place
from harness.experiment.plan import Settings, make_plan
from harness.experiment.run import run_plan
from harness.interfaces import Progress
from harness.methods import method_named
from harness.testing import planted
from results.store.epochs import epochs_of, epochs_path
from results.store.runs import Run, read_run

SHORT = {
    "sasrec": {**planted.shortened(method_named("sasrec").tiny), "patience": 1},
    "tiger-sas": {**planted.shortened(method_named("tiger-sas").tiny), "training": {"epochs": 4, "evaluate_every": 2}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("audit-fit")
    return Place(dataset=planted.prepared(root / "data"), cache=root / "cache", runs=root / "runs")


@pytest.fixture(scope="module")
def runs(place: Place) -> dict[str, Run]:
    plan = make_plan(
        load_dataset(place.dataset), method_names=SHORT, ablation_names=[], seeds=[0], settings=Settings(tables=SHORT)
    )
    results = run_plan(plan, place, QUIET, execute=run_here)
    return {result.cell.method: read_run(result.folder) for result in results}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the runs had."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet(progress: Progress) -> None:
    """Hears nothing."""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("name", SHORT)
def test_the_epochs_are_those_of_the_runs_own_fit_whatever_the_test_targets(
    place: Place, runs: dict[str, Run], name: str, tmp_path: Path
) -> None:
    """Without a test file and with the targets of others, the fit makes the run's weights to the byte."""
    run, kept = runs[name], []
    cell = cell_of_run(run, place)
    for target in ("blind", "shuffled"):
        data = Path(shutil.copytree(place.dataset, tmp_path / f"{target}-data"))
        if target == "blind":
            (data / TEST).unlink()
        else:
            planted.with_other_test_targets(data)
        folder = tmp_path / target
        folder.mkdir()
        kept_fit(cell, replace(place, dataset=data), folder, quiet)
        assert files_of(folder) == files_of(place.store.folder(cell.fit))
        kept.append({path.name: files_of(path) for path in (folder / KEPT).iterdir()})
    assert kept[0] == kept[1]
    scores = run.history().filter(quantity="score").sort("epoch")
    assert kept[0].keys() == {f"{stage}-{epoch}" for stage, epoch in scores.select("stage", "epoch").iter_rows()}
    best = scores.filter(scores["value"] == scores["value"].max())  # of equal scores SASRec keeps the last one
    chosen = kept[0][f"{best['stage'][-1]}-{best['epoch'][-1 if name == 'sasrec' else 0]}"]
    assert chosen.items() <= files_of(place.store.folder(cell.fit)).items()


@pytest.mark.parametrize("name", SHORT)
def test_the_ranks_are_those_that_each_epoch_gives_and_an_interruption_changes_none(
    place: Place, runs: dict[str, Run], name: str
) -> None:
    run, root = runs[name], place.cache.parent
    cell = cell_of_run(run, place)
    before, ranks_before = times(root), stored(root)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_again(run, place, interrupt)
    partial = next((place.cache / FOLDER).glob("*.partial"))
    assert not epochs_path(run).exists()
    models = {}

    def load(progress: Progress) -> None:
        """Asks what was kept so far, while it is there."""
        dataset = load_dataset(place.dataset)
        for folder in (partial / KEPT).iterdir():
            context = fit_context(cell.fit, place, folder, quiet)
            recommender = method_named(name).load(folder, cell.config, dataset, context)
            models[folder.name] = evaluate(recommender, load_test(place.dataset, dataset), 10).ranks

    fit_again(run, place, load)
    epochs = epochs_of(run)
    assert epochs is not None
    assert (times(root), stored(root)) == (before, ranks_before)
    assert not partial.exists()
    assert len(models) == len(epochs) > 1
    for stage, epoch, _, ranks in epochs.iter_rows():
        np.testing.assert_array_equal(ranks, models[f"{stage}-{epoch}"])
    own = run.history().filter(quantity="score").sort("epoch")
    assert epochs["score"].to_list() == own["value"].to_list()
    assert run.ranks()["rank"].to_list() in epochs["ranks"].to_list()
    written = epochs_path(run).stat().st_mtime_ns
    fit_again(run, place, interrupt)  # is there already
    assert epochs_path(run).stat().st_mtime_ns == written


def test_stages_that_the_cache_has_no_more_are_made_first(place: Place, runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["tiger-sas"]
    jobs, labels = audit_jobs([run], replace(place, cache=tmp_path))
    kinds = [labels[key].partition(",")[0] for key in jobs]
    assert kinds == ["sasrec", "sasrec-vectors", "tokenizer", "TIGER-SAS"]
    assert jobs[job_key(run)].needs == tuple(jobs)[2:3]
    assert list(audit_jobs([run], place)[0]) == [job_key(run)]


def test_what_several_processes_trained_is_refused(place: Place, runs: dict[str, Run]) -> None:
    run = runs["sasrec"]
    plan = make_plan(
        load_dataset(place.dataset),
        method_names=["sasrec"],
        ablation_names=[],
        seeds=[0],
        settings=Settings(tables=SHORT, processes=2),
    )
    record = replace(run.record, processes=2, config_digest=plan.cells[0].config_digest)
    with pytest.raises(UsageError, match="trained by 2 together"):
        audit_jobs([Run(run.folder, record)], place)
