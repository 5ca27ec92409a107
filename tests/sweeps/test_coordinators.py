"""Coordinators that are killed. Oracles: the operating system, and the trials as they were stored before the kill.

Each is a `harness sweep` command in a process group of its own, which is killed with all its children.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState
from tiny_sweep import ratings_file

from sweeps.summaries import StudySummary, load_studies, state_of
from sweeps.trials import COORDINATOR, RETRY_HISTORY

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--method", "sasrec", "--sampler", "random", "--pruner", "none", "--jobs", "1", "--heartbeat", "1"]
SASREC = {
    "epochs": 120, "patience": 200, "hidden_size": 16, "inner_size": 16, "num_layers": 1, "num_heads": 1
}  # fmt: skip
CHANGES = [part for name, value in SASREC.items() for part in ("--set", f"sasrec.{name}={value}")]


@contextmanager
def coordinator(ratings: Path, folder: Path, trials: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A running `harness sweep`; it is killed, with its children, where the block ends before it does."""
    command = [sys.executable, "-m", "harness", "sweep", "--dataset", str(ratings), "--trials", str(trials)]
    process = subprocess.Popen(
        [*command, *OPTIONS, *CHANGES, "--cache-dir", str(folder / "cache"), *more],
        cwd=folder.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills the process and its children at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Waits for the condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def stored(where: str | Path) -> list[FrozenTrial]:
    """The trials of the one study there, none before it is made."""
    studies = load_studies(where)
    return list(studies[0].trials) if studies else []


def finished(trials: list[FrozenTrial]) -> dict[int, tuple[object, ...]]:
    """What must never change again, by the trial's number."""
    return {
        trial.number: (trial.state, trial.value, trial.params, trial.user_attrs)
        for trial in trials
        if trial.state.is_finished()
    }


def check_complete(study: StudySummary, trials: int, running: FrozenTrial) -> None:
    """The study is complete, and the trial that ran when its coordinator was killed was retried as it was."""
    assert study.counts == {
        "complete": trials, "pruned": 0, "failed": 0, "superseded": 1, "running": 0, "waiting": 0
    }  # fmt: skip
    assert state_of(study.trials[running.number]) == "superseded"
    (retried,) = [trial for trial in study.trials if trial.system_attrs.get(RETRY_HISTORY) == [running.number]]
    assert (retried.params, retried.state) == (running.params, TrialState.COMPLETE)


def test_a_killed_coordinators_trial_goes_on_when_the_command_is_given_again(tmp_path: Path) -> None:
    ratings, studies = ratings_file(tmp_path / "ring.csv"), tmp_path / "studies"
    (tmp_path / "a").mkdir()
    checkpoints = tmp_path / "a" / "cache" / "sasrec"
    with coordinator(ratings, tmp_path / "a", 1) as first:
        until(lambda: bool(list(checkpoints.glob("*.partial/resume/*.last.safetensors"))))
        kill(first)
    (running,) = stored(studies)
    assert running.state == TrialState.RUNNING
    with coordinator(ratings, tmp_path / "a", 1) as second:
        out, _ = second.communicate(timeout=300)
        assert second.returncode == 0, out
    (study,) = load_studies(studies)
    check_complete(study, 1, running)
    assert study.trials[1].user_attrs["cost"]["epochs"] < SASREC["epochs"]
    assert list(study.trials[1].intermediate_values) == list(range(1, SASREC["epochs"] + 1))
    assert not list(studies.glob("*.coordinators/*"))


def test_a_stopped_coordinator_says_how_to_go_on(tmp_path: Path) -> None:
    ratings = ratings_file(tmp_path / "ring.csv")
    (tmp_path / "a").mkdir()
    with coordinator(ratings, tmp_path / "a", 1, "--set", "sasrec.epochs=100000") as process:
        until(lambda: any(COORDINATOR in trial.user_attrs for trial in stored(tmp_path / "studies")))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "interrupted; everything computed stays, give the same command again to go on"
    assert "Traceback" not in out
    (trial,) = stored(tmp_path / "studies")
    assert state_of(trial) == "superseded"


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The URL of a throw-away server."""
    binaries = os.environ.get("POSTGRES_BIN") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin")), None)
    if binaries is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    script = str(ROOT / "scripts" / "postgres")
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    started = subprocess.run([script, "start", str(folder)], capture_output=True, text=True, check=True)
    yield started.stdout.strip()
    subprocess.run([script, "stop", str(folder)], check=True)
    assert not folder.exists()


@pytest.mark.postgresql
def test_two_coordinators_share_a_study_and_one_may_die(postgresql: str, tmp_path: Path) -> None:
    """Separate caches, as on two machines."""
    ratings = ratings_file(tmp_path / "ring.csv")
    for name in "ab":
        (tmp_path / name).mkdir()
    with coordinator(ratings, tmp_path / "a", 6, "--storage", postgresql) as first:
        until(lambda: any(COORDINATOR in trial.user_attrs for trial in stored(postgresql)))
        me = stored(postgresql)[0].user_attrs[COORDINATOR]

        def of_first(trials: list[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
            return [trial for trial in trials if trial.user_attrs.get(COORDINATOR) == me and trial.state == state]

        with coordinator(ratings, tmp_path / "b", 6, "--storage", postgresql) as second:

            def both_work() -> bool:
                trials = stored(postgresql)
                others = [trial for trial in trials if trial.user_attrs.get(COORDINATOR, me) != me]
                return bool(others and of_first(trials, TrialState.COMPLETE) and of_first(trials, TrialState.RUNNING))

            until(both_work)
            kill(first)
            before = stored(postgresql)
            (running,) = of_first(before, TrialState.RUNNING)
            out, _ = second.communicate(timeout=400)
            assert second.returncode == 0, out
    (study,) = load_studies(postgresql)
    check_complete(study, 6, running)
    assert finished(before).items() <= finished(list(study.trials)).items()  # nothing that was finished is lost
    assert len({trial.user_attrs[COORDINATOR] for trial in study.trials}) == 2
