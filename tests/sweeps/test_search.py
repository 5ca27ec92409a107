"""Searches on a tiny data set. Oracles: the stored stages, another search, the operating system, what was asked."""

import ast
import multiprocessing
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tiny_sweep import QUIET, SILENT, Tiny, choices

import harness.experiment.evaluate
import sweeps
from harness.data.prepare import load_dataset
from harness.errors import UsageError
from harness.evaluation.outcomes import validation_scores
from harness.experiment.compute import fit_context, histories
from harness.jobs import local as workers
from harness.jobs.graph import Job, Observer
from harness.methods import method_named
from harness.testing import planted
from sweeps import trials
from sweeps.search import Watch, changed
from sweeps.summaries import StudySummary, cost_of, load_studies, note_of, state_of, trials_frame

RATES = choices(learning_rate=(1e-2, 3e-3))


@pytest.fixture(scope="module")
def searched(ring: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, StudySummary]:
    """A search over two learning rates, and its study."""
    tiny = Tiny(tmp_path_factory.mktemp("searched"), ring)
    return tiny, tiny.search(2, RATES, sampler="grid")


def test_a_trials_value_is_the_fitted_recommenders_score_on_all_validation_users(
    searched: tuple[Tiny, StudySummary],
) -> None:
    tiny, study = searched
    data = load_dataset(tiny.dataset)
    assert study.counts["complete"] == 2
    for trial in study.trials:
        cell = changed(tiny.planned(RATES)[1], trial.params)
        folder = tiny.place().store.folder(cell.fit)
        context = fit_context(cell.fit, tiny.place(), folder, print)
        scores = validation_scores(method_named("sasrec").load(folder, cell.config, data, context), data)
        assert (trial.value, trial.user_attrs["recall"]) == (scores["NDCG@10"], scores["Recall@10"])
        assert trial.user_attrs["errors"] == [scores["NDCG@10 error"], scores["Recall@10 error"]]
        assert list(trial.intermediate_values.values()) == [row["score"] for row in histories(folder)]
        assert cost_of(trial)["epochs"] == 4
        assert cost_of(trial)["peak_memory_mb"] > 50


@pytest.mark.usefixtures("jobs_here")
def test_a_search_does_not_read_the_test_split(
    tiny: Tiny, searched: tuple[Tiny, StudySummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to read: the file is gone, and in this process, which does the jobs too, its reader is poisoned."""
    _, whole = searched
    blind = Tiny(tiny.root / "blind", Path(shutil.copytree(tiny.dataset, tiny.root / "copy")))
    (blind.dataset / "test.parquet").unlink()

    def poisoned(*_: object) -> None:
        raise AssertionError("the test split was read")

    for module in (harness.experiment.evaluate, harness.data.prepare):
        monkeypatch.setattr(module, "load_test", poisoned)
    study = blind.search(2, RATES, sampler="grid")
    assert study.counts["complete"] == 2
    assert {trial.value for trial in study.trials} == {trial.value for trial in whole.trials}
    assert not (blind.root / "runs").exists()


def test_no_module_of_the_search_names_what_reads_the_test_split() -> None:
    forbidden = {"load_test", "evaluate_cell", "run_plan", "jobs_of"}
    for path in Path(sweeps.__path__[0]).glob("*.py"):
        names = {getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(ast.parse(path.read_text()))}
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not (names | imported) & forbidden, path


@pytest.mark.usefixtures("jobs_here")
def test_the_same_search_elsewhere_tries_and_finds_the_same_and_so_does_one_in_two_parts(
    tiny: Tiny, elsewhere: object
) -> None:
    space = choices(learning_rate=(1e-2, 3e-3, 1e-3), dropout=(0.0, 0.1, 0.2))
    shutil.copytree(tiny.search(2, space, sampler="tpe").study and tiny.root / "cache", tiny.root / "b" / "cache")
    in_parts = tiny.search(4, space, sampler="tpe")
    at_once = elsewhere("b").search(4, space, sampler="tpe")  # type: ignore[operator]
    assert [(t.params, t.value) for t in in_parts.trials] == [(t.params, t.value) for t in at_once.trials]
    assert len({tuple(t.params.items()) for t in at_once.trials}) > 1


@pytest.mark.usefixtures("jobs_here")
def test_an_equal_trial_costs_nothing_and_says_so(tiny: Tiny, elsewhere: object) -> None:
    study = tiny.search(3, choices(learning_rate=(1e-2,)))
    assert [note_of(trial) for trial in study.trials] == ["", "cached", "cached"]
    assert [cost_of(trial)["epochs"] for trial in study.trials] == [4, 0, 0]
    assert len({trial.value for trial in study.trials}) == 1
    other = elsewhere("c")  # type: ignore[operator]
    shutil.copytree(tiny.root / "cache", other.root / "cache")  # another study finds the fit in the cache
    assert note_of(other.search(1, choices(learning_rate=(1e-2,))).trials[0]) == "cached"


def test_trials_side_by_side_compute_a_shared_stage_once(ring: Path, tmp_path: Path) -> None:
    tables = {"tiger-sas": planted.shortened(method_named("tiger-sas").tiny)}
    epochs: Counter[tuple[str, int]] = Counter()

    def observer_of(trial: int, cell: object) -> Observer:
        return SILENT._replace(message=lambda key, epoch: epochs.update([(key, epoch.epoch)]))

    tiny = Tiny(tmp_path, ring, tables)
    space = choices("tiger-sas", training__learning_rate=(5e-3, 1e-3))
    watch = Watch(observer_of, lambda trial, best: None)
    study = tiny.search(2, space, jobs=2, watch=watch, method="tiger-sas", sampler="grid")
    assert study.counts["complete"] == 2
    counts = {folder.name: len(list(folder.glob("*/stage.json"))) for folder in (tmp_path / "cache").iterdir()}
    assert {kind: counts[kind] for kind in ("sasrec-vectors", "tokenizer", "tiger-sas")} == {
        "sasrec-vectors": 1,
        "tokenizer": 1,
        "tiger-sas": 2,
    }
    assert set(epochs.values()) == {1}  # no epoch of any stage was computed twice


@pytest.mark.usefixtures("jobs_here")
def test_a_trial_that_raises_fails_in_one_line_and_the_study_goes_on(tiny: Tiny) -> None:
    study = tiny.search(2, choices(learning_rate=(1e30, 1e-2)), sampler="grid")
    assert study.counts["failed"] == study.counts["complete"] == 1
    (failed,) = [trial for trial in study.trials if state_of(trial) == "failed"]
    assert "every loss must be finite" in note_of(failed)
    assert "\n" not in note_of(failed)
    assert study.ended == 2


@pytest.mark.usefixtures("jobs_here")
def test_values_that_break_a_rule_together_fail_their_trial_alone(tiny: Tiny) -> None:
    study = tiny.search(4, choices(hidden_size=(16, 6), num_heads=(1, 4)), sampler="grid")
    (failed,) = [trial for trial in study.trials if state_of(trial) == "failed"]
    assert failed.params == {"hidden_size": 6, "num_heads": 4}
    assert "num_heads must divide hidden_size" in note_of(failed)
    assert study.counts["complete"] == 3


def test_a_hopeless_trial_is_pruned_and_an_equal_one_goes_on_from_its_checkpoint(tiny: Tiny) -> None:
    space = choices(learning_rate=(1e-2, 1e-9))
    first = tiny.search(2, space, sampler="grid", pruner="median", curve="learning_rate", startup_trials=1)
    assert sorted(state_of(trial) for trial in first.trials) == ["complete", "pruned"]
    (pruned,) = [trial for trial in first.trials if state_of(trial) == "pruned"]
    assert pruned.params == {"learning_rate": 1e-9}
    assert pruned.last_step == cost_of(pruned)["epochs"] == 2  # a warm-up of one evaluation
    assert trials_frame(first).filter(state="pruned")["value"].is_null().all()
    second = tiny.search(1, choices(learning_rate=(1e-9,)))
    (equal,) = second.trials
    assert cost_of(equal)["epochs"] < 4
    assert list(equal.intermediate_values) == [1, 2, 3, 4]
    assert equal.intermediate_values[1] == pruned.intermediate_values[1]


class Killer:
    """Kills the process of a fit at its second epoch, the first `times` times."""

    def __init__(self, times: int, monkeypatch: pytest.MonkeyPatch):
        self.left = times
        self.processes: list[multiprocessing.process.BaseProcess] = []
        start = workers.ProcessPool.start

        def watched_start(pool: workers.ProcessPool, job: Job) -> None:
            start(pool, job)
            self.processes += [process for key, process, *_ in pool.running.values() if key == job.key]

        monkeypatch.setattr(workers.ProcessPool, "start", watched_start)

    def watch(self) -> Watch:
        """What does the killing."""

        def message(key: str, epoch: object) -> None:
            if epoch.epoch == 2 and self.left:  # type: ignore[attr-defined]
                self.left -= 1
                pid = self.processes[-1].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)

        return QUIET._replace(observer_of=lambda trial, cell: SILENT._replace(message=message))


def test_a_killed_process_is_retried_from_its_checkpoint(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.tables = {"sasrec": {**tiny.tables["sasrec"], "epochs": 30}}
    study = tiny.search(2, RATES, sampler="grid", watch=Killer(1, monkeypatch).watch())
    killed = study.trials[0]
    assert (state_of(killed), note_of(killed)) == ("superseded", trials.KILLED)
    (retried,) = [trial for trial in study.trials if trial.system_attrs.get(trials.RETRY_HISTORY) == [killed.number]]
    assert (retried.params, state_of(retried)) == (killed.params, "complete")
    assert cost_of(retried)["epochs"] < 30
    assert list(retried.intermediate_values) == list(range(1, 31))
    assert study.counts == {
        "complete": 2, "pruned": 0, "failed": 0, "superseded": 1, "running": 0, "waiting": 0
    }  # fmt: skip
    assert study.ended == 2


def test_a_process_that_is_killed_again_and_again_is_a_failed_trial(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.tables = {"sasrec": {**tiny.tables["sasrec"], "epochs": 400, "evaluate_every": 400}}
    killer = Killer(trials.MAX_RETRIES + 1, monkeypatch)
    watch = killer.watch()

    def observer_of(trial: int, cell: object) -> Observer:
        shutil.rmtree(tiny.root / "cache" / "sasrec", ignore_errors=True)  # so that epoch 2 comes again
        return watch.observer_of(trial, cell)  # type: ignore[arg-type]

    study = tiny.search(1, choices(learning_rate=(1e-2,)), watch=watch._replace(observer_of=observer_of))
    assert [state_of(trial) for trial in study.trials] == ["superseded"] * trials.MAX_RETRIES + ["failed"]
    assert note_of(study.trials[-1]) == "its process was killed, 4 times in a row"
    assert study.ended == 1


@pytest.mark.usefixtures("jobs_here")
def test_more_trials_extend_a_study_and_fewer_are_refused(tiny: Tiny) -> None:
    space = choices(learning_rate=(1e-2, 3e-3, 1e-3))
    assert tiny.search(1, space, sampler="grid").ended == 1
    study = tiny.search(3, space, sampler="grid")
    assert study.ended == study.budget == 3
    assert sorted(trial.params["learning_rate"] for trial in study.trials) == [1e-3, 3e-3, 1e-2]
    with pytest.raises(UsageError, match="has --trials 3, but got 2; give 3 or more"):
        tiny.search(2, space, sampler="grid")


def test_an_interrupt_queues_the_running_trials_again(tiny: Tiny) -> None:
    tiny.tables = {"sasrec": {**tiny.tables["sasrec"], "epochs": 60}}

    def message(key: str, epoch: object) -> None:
        if epoch.epoch == 2:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)

    watch = QUIET._replace(observer_of=lambda trial, cell: SILENT._replace(message=message))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            tiny.search(1, choices(learning_rate=(1e-2,)), watch=watch)
    finally:
        signal.signal(signal.SIGINT, before)
    (study,) = load_studies(tiny.root / "studies")
    assert [(state_of(trial), note_of(trial)) for trial in study.trials] == [("superseded", "interrupted")]
    study = tiny.search(1, choices(learning_rate=(1e-2,)))
    assert [state_of(trial) for trial in study.trials] == ["superseded", "complete"]
    assert trials.attempts(study.trials[1]) == 0
    assert cost_of(study.trials[1])["epochs"] < 60


@pytest.mark.usefixtures("jobs_here")
def test_the_frame_has_a_row_per_trial(tiny: Tiny) -> None:
    study = tiny.search(2, choices(learning_rate=(1e-2, 3e-3), num_layers=(1,), patience=(None, 3)), sampler="grid")
    frame = trials_frame(study)
    assert frame.columns == [
        "number", "state", "value", "recall", "learning_rate", "num_layers", "patience", "epochs", "seconds",
        "peak_memory_mb", "note",
    ]  # fmt: skip
    assert frame["number"].to_list() == [0, 1]
    assert frame["value"].to_list() == [trial.value for trial in study.trials]
    assert frame["num_layers"].to_list() == [1, 1]
    assert (frame["recall"] >= frame["value"]).all()  # NDCG@10 of a hit is 1 at most
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
