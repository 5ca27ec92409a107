"""Whole experiments. Oracles: equality to the byte with another run, and what lies on disk.

All runs share one plan: a few methods, tiny, on 40 users; the uninterrupted run of it is what others are held against.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w
from filelock import FileLock
from jobs_here import run_here
from planted_runs import QUIET, stored, times, wait_until

from harness.artifacts import CODES_FILE
from harness.data.prepare import load_dataset
from harness.experiment.place import Place, cell_folder, is_open
from harness.experiment.plan import Plan, Settings, make_plan
from harness.experiment.run import CellResult, run_plan
from harness.generative.tokenizer.codes import CodeTable
from harness.jobs.graph import Outcome
from harness.jobs.local import run_jobs
from harness.methods import methods
from harness.stages import StageStore, read_json, write_json
from harness.testing import planted
from results.store.runs import DONE, read_run

FEW = {name: planted.shortened(method.tiny) for name, method in methods().items()}
# More epochs where a run is to be interrupted: the first checkpoint comes long before the end.
TABLES = {**FEW, "etegrec": {**FEW["etegrec"], "epochs": 16, "evaluate_every": 8}}
METHODS = ("markov", "tiger-sas", "etegrec")


def plan_of(
    dataset: Path,
    method_names: Iterable[str] = METHODS,
    ablation_names: Iterable[str] = (),
    seeds: Iterable[int] = (0,),
) -> Plan:
    return make_plan(
        load_dataset(dataset),
        method_names=method_names,
        ablation_names=ablation_names,
        seeds=seeds,
        settings=Settings(tables=TABLES),
    )


def run(plan: Plan, dataset: Path, root: Path, jobs: int = 0) -> list[CellResult]:
    """The results, with as many jobs at once in processes of their own; with none of them, in this process."""
    place = Place(dataset=dataset, cache=root / "cache", runs=root / "runs", jobs=max(jobs, 1))
    return run_plan(plan, place, QUIET, execute=run_jobs if jobs else run_here)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.prepared(tmp_path_factory.mktemp("data") / "planted")


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run in this process."""
    root = tmp_path_factory.mktemp("finished")
    results = run(plan_of(dataset), dataset, root)
    assert [result.outcome.status for result in results] == ["done"] * len(METHODS)
    return root


@pytest.fixture(scope="module")
def popularity(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of popularity, to be copied."""
    root = tmp_path_factory.mktemp("popularity")
    (result,) = run(plan_of(dataset, ["popularity"]), dataset, root)
    assert result.outcome.status == "done"
    return root


@pytest.fixture
def done(popularity: Path, tmp_path: Path) -> Path:
    """The folder of the run, in the test's own copy."""
    shutil.copytree(popularity, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "runs").glob("*/*/*/*/seed=0")
    return folder


def test_every_cell_is_stored_whole(dataset: Path, finished: Path) -> None:
    for cell in plan_of(dataset).cells:
        (folder,) = (finished / "runs").glob(f"planted-*/{cell.method}/full/{cell.config_digest}/seed=0")
        found = read_run(folder)
        assert found.record.title == methods()[cell.method].title
        assert found.ranks().height == planted.NUM_USERS
        assert found.record.threads == 1
        assert all(seconds >= 0 for seconds in found.record.seconds.values())
        assert {"fit", "test"} <= set(found.record.seconds)
        assert (len(found.history()) > 0) == (cell.method != "markov")
    assert not list(finished.rglob("*.partial"))
    assert not list(finished.glob("cache/logs/*"))


def test_a_plan_shares_stages_and_a_run_computes_each_once(dataset: Path, finished: Path) -> None:
    counts = {folder.name: len(list(folder.glob("*/stage.json"))) for folder in (finished / "cache").iterdir()}
    assert counts["sasrec-vectors"] == counts["tokenizer"] == 1  # of tiger-sas and of etegrec
    assert sum(counts.values()) == len(plan_of(dataset).stages)


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_plan_elsewhere_stores_the_same_to_the_byte(
    dataset: Path, finished: Path, tmp_path: Path, jobs: int
) -> None:
    run(plan_of(dataset), dataset, tmp_path, jobs=jobs)
    ours, theirs = stored(tmp_path), stored(finished)
    assert len(ours) == 2 * len(METHODS)
    assert ours == theirs


def test_what_is_done_is_not_done_again(dataset: Path, finished: Path) -> None:
    before = times(finished)
    events: list[str] = []
    place = Place(dataset=dataset, cache=finished / "cache", runs=finished / "runs")
    results = run_plan(plan_of(dataset), place, QUIET._replace(started=events.append))
    assert [result.outcome.status for result in results] == ["done"] * len(METHODS)
    assert not events
    assert times(finished) == before


def test_without_end_to_end_takes_the_trained_etegrecs_codes(dataset: Path, finished: Path, tmp_path: Path) -> None:
    for part in ("cache", "runs"):
        shutil.copytree(finished / part, tmp_path / part)
    before = times(tmp_path)
    plan = plan_of(dataset, ["etegrec"], ["ete"])
    results = run(plan, dataset, tmp_path)
    assert [result.outcome.status for result in results] == ["done", "done"]
    new = set(times(tmp_path)) - set(before)
    assert len(new) == 2  # one stage, one run: everything below was there
    assert {name: time for name, time in times(tmp_path).items() if name not in new} == before
    full, rebuilt = (Place(dataset, tmp_path / "cache", tmp_path / "runs").store.folder(c.fit) for c in plan.cells)
    keys = load_dataset(dataset).catalog.keys
    codes = [CodeTable.load(folder / CODES_FILE, keys).codes for folder in (full, rebuilt)]
    assert codes[0].equal(codes[1])
    assert not list(rebuilt.glob("tokenizer*"))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("markov", "tiger-sas"), id="few"),
        pytest.param(tuple(methods()), id="all", marks=pytest.mark.slow),
    ],
)
def test_no_fit_reads_the_test_split(finished: Path, dataset: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Without the test file every stage is computed all the same; only the evaluations fail, in one line each."""
    blind = Path(shutil.copytree(dataset, tmp_path / "planted"))
    (blind / "test.parquet").unlink()
    plan = plan_of(blind, names)
    results = run(plan, blind, tmp_path)
    store = Place(blind, tmp_path / "cache", tmp_path / "runs").store
    assert all(store.is_done(stage) for stage in plan.stages)
    assert [result.outcome.status for result in results] == ["failed"] * len(names)
    for result in results:
        assert "test.parquet: missing" in result.outcome.error
        assert "\n" not in result.outcome.error
        assert not (result.folder / DONE).exists()

    shutil.copy(dataset / "test.parquet", blind)
    before = times(tmp_path)
    assert {result.outcome.status for result in run(plan, blind, tmp_path)} == {"done"}
    assert before.items() <= times(tmp_path).items()
    ours, theirs = stored(tmp_path), stored(finished)
    in_both = ours.keys() & theirs.keys()
    assert len(in_both) >= 4
    assert {name: ours[name] for name in in_both} == {name: theirs[name] for name in in_both}


def test_a_failed_cell_stops_no_other_and_says_why(tmp_path: Path) -> None:
    wordless = planted.prepared(tmp_path / "wordless", text="--")
    plan = plan_of(wordless, ["tiger", "letter", "popularity"])
    by_method = {result.cell.method: result.outcome for result in run(plan, wordless, tmp_path)}
    assert {name: outcome.status for name, outcome in by_method.items()} == {
        "tiger": "skipped",
        "letter": "skipped",
        "popularity": "done",
    }
    for name in ("tiger", "letter"):
        assert "no item text holds a word" in by_method[name].error
        assert "\n" not in by_method[name].error


def test_what_is_free_is_done_before_a_run_that_another_process_works_on(
    dataset: Path, finished: Path, tmp_path: Path
) -> None:
    plan = plan_of(dataset, ["markov", "popularity"])
    (markov, *_) = plan.cells
    held = tmp_path / "runs" / cell_folder(markov, "planted", finished / "runs").relative_to(finished / "runs")
    held.mkdir(parents=True)
    place = Place(dataset=dataset, cache=tmp_path / "cache", runs=tmp_path / "runs")
    lock = FileLock(held / ".lock")
    with lock:
        left, done = run_plan(plan, place, QUIET, execute=run_here, waits=False)
        assert (left.outcome.status, done.outcome) == ("skipped", Outcome("done"))
        assert "another process works on the run 'Markov, seed 0'" in left.outcome.error
        waited_for: list[str] = []

        def release(label: str) -> None:
            waited_for.append(label)
            lock.release()

        results = run_plan(plan, place, QUIET._replace(waiting=release), execute=run_here)
    assert waited_for == ["Markov, seed 0"]
    assert [result.outcome for result in results] == [Outcome("done")] * 2


def test_an_interrupted_write_leaves_a_run_that_is_evaluated_again(dataset: Path, done: Path, tmp_path: Path) -> None:
    before = stored(tmp_path)
    (done / DONE).unlink()
    (done / "ranks.parquet").write_bytes(b"cut short")
    stage_times = {name: time for name, time in times(tmp_path).items() if name.startswith("cache")}
    run(plan_of(dataset, ["popularity"]), dataset, tmp_path)
    assert stored(tmp_path) == before
    assert stage_times.items() <= times(tmp_path).items()


def test_cases_equal_counting_by_hand(dataset: Path, finished: Path) -> None:
    data = load_dataset(dataset)
    counts = Counter(data.train.items.tolist())
    for cell in plan_of(dataset).cells:
        (folder,) = (finished / "runs").glob(f"planted-*/{cell.method}/full/{cell.config_digest}/seed=0")
        found = read_run(folder)
        cases, targets = found.cases(), found.ranks(["target"])["target"].to_list()
        assert cases["target_count"].to_list() == [counts[target] for target in targets]
        assert cases["history_length"].to_list() == [len(data.train.row(user)) + 1 for user in range(data.num_users)]
        assert not cases["new_user"].any()
        if cell.method == "markov":
            assert cases["target_sharers"].null_count() == data.num_users
        else:
            codes = CodeTable.load(StageStore(finished / "cache").folder(cell.fit) / CODES_FILE)
            tuples = [tuple(row[:-1]) for row in codes.codes.tolist()]
            assert cases["target_sharers"].to_list() == [tuples[1:].count(tuples[target]) for target in targets]


@pytest.mark.parametrize("table", ["cases.parquet", "outcomes.parquet"])
def test_a_run_without_a_later_table_is_evaluated_again_without_training(
    table: str, dataset: Path, done: Path, tmp_path: Path
) -> None:
    before, content = stored(tmp_path), (done / table).read_bytes()
    (done / table).unlink()
    stage_times = {name: time for name, time in times(tmp_path).items() if name.startswith("cache")}
    run(plan_of(dataset, ["popularity"]), dataset, tmp_path)
    assert stored(tmp_path) == before
    assert (done / table).read_bytes() == content
    assert stage_times.items() <= times(tmp_path).items()


def test_a_run_without_cases_is_left_alone_where_it_would_have_to_be_trained_again(
    dataset: Path, done: Path, tmp_path: Path
) -> None:
    (done / "cases.parquet").unlink()
    shutil.rmtree(tmp_path / "cache")
    run(plan_of(dataset, ["popularity"]), dataset, tmp_path)
    assert not (done / "cases.parquet").exists()
    assert not list(tmp_path.glob("cache/popularity/*/stage.json"))


class Command:
    """`harness run` in a process of its own, whose descendants are known by a mark in their environment."""

    def __init__(self, dataset: Path, root: Path):
        self.mark = f"HARNESS_TEST_MARK={uuid.uuid4().hex}"
        config = root / "tiny.toml"
        config.write_text(tomli_w.dumps({"etegrec": TABLES["etegrec"]}))
        name, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "harness", "run", "--dataset", str(dataset), "--methods", "etegrec"),
                *("--config", str(config), "--jobs", "1", "--device", "cpu"),
                *("--cache-dir", str(root / "cache"), "--runs-dir", str(root / "runs")),
            ],
            env={**os.environ, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def alive(self) -> list[int]:
        """Ids of all living processes that bear the mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = self.mark.encode() in (folder / "environ").read_bytes()
                is_zombie = ") Z " in (folder / "stat").read_text()
            except OSError:
                continue
            if is_ours and not is_zombie:
                found.append(int(folder.name))
        return found

    def end(self) -> None:
        """Kills what is left."""
        for process in self.alive():
            os.kill(process, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def started(dataset: Path, root: Path) -> Iterator[Command]:
    command = Command(dataset, root)
    try:
        yield command
    finally:
        command.end()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not show processes in /proc")
def test_a_killed_run_leaves_no_process_and_goes_on_where_it_stood(
    dataset: Path, finished: Path, tmp_path: Path
) -> None:
    for kind in ("sasrec", "sasrec-vectors", "tokenizer"):
        shutil.copytree(finished / "cache" / kind, tmp_path / "cache" / kind)
    before = times(tmp_path)

    def checkpoints() -> list[Path]:
        return list(tmp_path.glob("cache/etegrec/*.partial/resume/alternating.last.safetensors"))

    with started(dataset, tmp_path) as command:
        wait_until(lambda: checkpoints() or command.process.poll() is not None, 300, "the first checkpoint")
        assert command.process.poll() is None, command.process.communicate()
        assert len(command.alive()) > 1
        command.process.kill()
        command.process.wait()
        wait_until(lambda: not command.alive(), 60, "the end of the workers")

    assert not list(tmp_path.glob("runs/**/ranks.parquet"))
    (states,) = ([*path.parent.glob("alternating.*.json")] for path in checkpoints())
    epochs = {int(path.name.split(".")[1]): path for path in states}
    done = json.loads(epochs[min(epochs)].read_text())["history"]  # the one that the tensors surely have reached
    assert 1 <= len(done) < TABLES["etegrec"]["epochs"]
    assert times(tmp_path) == before

    with started(dataset, tmp_path) as command:
        out, err = command.process.communicate(timeout=300)
        assert command.process.returncode == 0, (out, err)

    assert before.items() <= times(tmp_path).items()  # the finished stages were not computed again
    (history,) = tmp_path.glob("cache/etegrec/*/history-alternating.json")
    rows = json.loads(history.read_text())
    assert rows[: len(done)] == done  # their seconds too: these epochs ran once, before the kill
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    reference = {name: content for name, content in stored(finished).items() if "/etegrec/" in name}
    assert len(reference) == 2
    assert stored(tmp_path) == reference


def test_data_of_the_same_name_never_pass_for_each_other(tmp_path: Path) -> None:
    first, second = (planted.prepared(tmp_path / side / "planted") for side in ("a", "b"))
    meta = read_json(second / "meta.json")
    write_json(second / "meta.json", meta | {"fingerprint": "f" * 16})  # other content under the same name
    for dataset in (first, second):
        (result,) = run(plan_of(dataset, ["popularity"]), dataset, tmp_path)
        assert result.outcome.status == "done"
        assert read_run(result.folder).record.dataset_fingerprint == load_dataset(dataset).fingerprint
    assert len(list(tmp_path.glob("runs/planted-*/popularity/**/DONE"))) == 2


def test_a_run_of_the_version_before_counts_only_for_its_own_data(tmp_path: Path) -> None:
    dataset = planted.prepared(tmp_path / "planted")
    plan = plan_of(dataset, ["popularity"])
    (result,) = run(plan, dataset, tmp_path)
    data_folder, *row = result.folder.relative_to(tmp_path / "runs").parts
    shutil.move(tmp_path / "runs" / data_folder, tmp_path / "runs" / "planted")
    before = tmp_path.joinpath("runs", "planted", *row)
    assert cell_folder(plan.cells[0], "planted", tmp_path / "runs") == before
    assert not is_open(plan.cells[0], before, StageStore(tmp_path / "cache"))
    write_json(before / "run.json", read_json(before / "run.json") | {"dataset_fingerprint": "0" * 16})
    assert is_open(plan.cells[0], before, StageStore(tmp_path / "cache"))
