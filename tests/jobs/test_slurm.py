"""Jobs through submitit. Oracles: what `run_jobs` does with the same jobs, and what lies on disk.

Slurm is `fake_slurm`, whose jobs are processes on this machine.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import fake_slurm
import pytest
import simple_jobs

from harness.errors import StageError, UsageError
from harness.interfaces import Progress
from harness.jobs.graph import Job, Observer, Outcome, Send
from harness.jobs.local import run_jobs
from harness.jobs.slurm import FOLDER, Cluster, minutes_of, options_of, run_jobs_submitit

pytest.importorskip("submitit", reason="submitit is an extra: pip install 'etegrec-harness[slurm]'")

EPOCH = Progress(stage="fit", epoch=2, epochs=5, loss=float("inf"), score=None)


def progress(send: Send) -> None:
    send(EPOCH)
    send("plain")


def count(path: Path, send: Send) -> None:
    """Says how often it was begun, and waits for `go` beside the file."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not path.with_name("go").exists():
        time.sleep(0.02)


def begun(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _tests_are_importable_in_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the fake Slurm's state; its jobs end with the test."""
    if not hasattr(os, "killpg"):
        pytest.skip("the fake Slurm needs POSIX process groups")
    fake_slurm.install(tmp_path / "bin")
    home = tmp_path / "slurm"
    home.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.setattr("harness.jobs.slurm.POLL_SECONDS", {"slurm": 0.1, "local": 0.1})
    monkeypatch.setattr("harness.jobs.slurm.SETTLE_SECONDS", {"slurm": 0.5, "local": 0.0})
    yield home
    for path in home.glob("*.pid"):
        try:
            os.killpg(int(path.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            continue


def run(
    jobs: list[Job], logs: Path, cluster: Cluster, processes: int = 4, observer: Observer | None = None
) -> tuple[dict[str, Outcome], list[tuple]]:
    events: list[tuple] = []
    recorder = Observer(
        started=lambda key: events.append(("started", key)),
        message=lambda key, content: events.append(("message", key, content)),
        ended=lambda key, outcome: events.append(("ended", key, outcome.status)),
    )
    outcomes = run_jobs_submitit(
        {job.key: job for job in jobs},
        cluster=cluster,
        processes=processes,
        threads=1,
        logs=logs,
        observer=observer or recorder,
    )
    return outcomes, events


@pytest.mark.parametrize("kind", [pytest.param("local", marks=pytest.mark.slow), "slurm"])
def test_jobs_end_as_they_do_on_this_machine(tmp_path: Path, slurm: Path, kind: str) -> None:
    jobs = [
        Job("bad", simple_jobs.fail),
        Job("child", simple_jobs.succeed, ("bad",)),
        Job("bug", simple_jobs.crash),
        Job("dead", simple_jobs.die),
        Job("ok", progress),
        Job("after", partial(simple_jobs.stamp, tmp_path / "after"), ("ok",)),
    ]
    outcomes, events = run(jobs, tmp_path / "logs", Cluster(kind))
    quiet = Observer(*[lambda *_: None] * 3)
    expected = run_jobs({job.key: job for job in jobs}, processes=2, threads=1, logs=tmp_path / "2", observer=quiet)
    assert {key: outcome.status for key, outcome in outcomes.items()} == {
        key: outcome.status for key, outcome in expected.items()
    }
    for key in ("bad", "child", "ok", "after"):
        assert outcomes[key] == expected[key]
    assert "KeyError" in outcomes["bug"].error
    (log,) = (tmp_path / "logs").rglob("bug*.log")
    assert "in crash" in log.read_text()
    assert str(log) in outcomes["bug"].error
    assert "ended without a word" in outcomes["dead"].error
    assert all("\n" not in outcome.error for outcome in outcomes.values())
    assert [content for kind, key, *content in events if (kind, key) == ("message", "ok")] == [[EPOCH], ["plain"]]
    assert events.index(("ended", "ok", "done")) < events.index(("started", "after"))
    assert ("started", "child") not in events


def test_the_longest_chain_goes_first_and_no_more_jobs_than_asked_for_are_submitted(tmp_path: Path) -> None:
    jobs = [Job("alone", progress), Job("root", progress), Job("leaf", progress, ("root",))]
    _, events = run(jobs, tmp_path, Cluster("local"), processes=1)
    assert [event[:2] for event in events if event[0] != "message"] == [
        (what, key) for key in ("root", "alone", "leaf") for what in ("started", "ended")
    ]


def test_sbatch_is_given_the_options(tmp_path: Path, slurm: Path) -> None:
    options = options_of(["partition=long", "gpus-per-node=1", "--mem=8G", "time=2:00:00"])
    run([Job("a", progress)], tmp_path, Cluster("slurm", options))
    (script,) = slurm.glob("*.sh")
    lines = script.read_text().splitlines()
    for flag in ("partition=long", "gpus-per-node=1", "mem=8G", "time=120", "cpus-per-task=1", "nodes=1"):
        assert f"#SBATCH --{flag}" in lines


def test_a_preempted_job_goes_into_the_queue_again_and_is_one_job_to_its_observer(tmp_path: Path, slurm: Path) -> None:
    path = tmp_path / "begun"

    def observe(key: str, content: object) -> None:
        raise AssertionError(f"{key} says {content}")

    def started(key: str) -> None:
        wait_until(lambda: begun(path))
        os.kill(begun(path)[0], signal.SIGUSR2)
        wait_until(lambda: len(begun(path)) == 2)
        (tmp_path / "go").touch()

    observer = Observer(started=started, message=observe, ended=lambda key, outcome: None)
    outcomes, _ = run([Job("a", partial(count, path))], tmp_path / "logs", Cluster("slurm"), observer=observer)
    assert outcomes == {"a": Outcome("done")}
    assert len(set(begun(path))) == 2
    assert len(list(slurm.glob("*.sh"))) == 1


class Killed(BaseException):
    """Stands for the end of the submitting process."""


def end_at_the_start(path: Path) -> Observer:
    def started(key: str) -> None:
        wait_until(lambda: begun(path))
        raise Killed

    return Observer(started=started, message=lambda key, content: None, ended=lambda key, outcome: None)


def test_an_interrupt_cancels_the_submitted_jobs(tmp_path: Path, slurm: Path) -> None:
    path = tmp_path / "begun"
    with pytest.raises(Killed):
        run([Job("a", partial(count, path))], tmp_path / "logs", Cluster("slurm"), observer=end_at_the_start(path))
    (state,) = slurm.glob("*.state")
    assert state.read_text().startswith("CANCELLED")
    wait_until(lambda: not simple_jobs.is_alive(begun(path)[0]))


def test_a_job_that_outlives_its_submitter_is_watched_and_not_submitted_again(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, jobs = tmp_path / "begun", [Job("a", partial(count, tmp_path / "begun"))]
    with monkeypatch.context() as killed:
        killed.setattr("harness.jobs.slurm.ClusterPool.stop", lambda pool: None)
        with pytest.raises(Killed):
            run(jobs, tmp_path / "logs", Cluster("slurm"), observer=end_at_the_start(path))
    goes_on = Observer(
        started=lambda key: (tmp_path / "go").touch(),
        message=lambda key, content: None,
        ended=lambda key, outcome: None,
    )
    assert run(jobs, tmp_path / "logs", Cluster("slurm"), observer=goes_on)[0] == {"a": Outcome("done")}
    assert len(begun(path)) == len(list(slurm.glob("*.sh"))) == 1
    # Once it has ended, the same job is submitted anew: whether that is needed is its stage's business.
    run(jobs, tmp_path / "logs", Cluster("slurm"))
    assert len(begun(path)) == 2


def test_two_of_the_same_job_never_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, jobs = tmp_path / "begun", [Job("a", partial(count, tmp_path / "begun"))]
    with monkeypatch.context() as killed:
        killed.setattr("harness.jobs.slurm.ClusterPool.stop", lambda pool: None)
        with pytest.raises(Killed):
            run(jobs, tmp_path / "logs", Cluster("local"), observer=end_at_the_start(path))

    def started(key: str) -> None:
        wait_until(lambda: len(list((tmp_path / "logs" / FOLDER).glob("*_log.out"))) == 2)
        time.sleep(4)  # for the second one to come to the lock, if it is slow this proves less, and fails not
        assert len(begun(path)) == 1
        (tmp_path / "go").touch()

    observer = Observer(started=started, message=lambda key, content: None, ended=lambda key, outcome: None)
    assert run(jobs, tmp_path / "logs", Cluster("local"), observer=observer)[0] == {"a": Outcome("done")}
    assert len(begun(path)) == 2


def test_what_the_cluster_refuses_is_one_line(tmp_path: Path, slurm: Path) -> None:
    with pytest.raises(StageError, match=r"invalid partition specified: none.*mend the --slurm options") as error:
        run([Job("a", progress)], tmp_path, Cluster("slurm", {"partition": "none"}))
    assert "\n" not in str(error.value)


def test_without_slurm_or_submitit_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no srun on this machine"):
        run([Job("a", progress)], tmp_path, Cluster("slurm"))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'etegrec-harness\[slurm\]'"):
        run([Job("a", progress)], tmp_path, Cluster("local"))


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("1:30:00", 90), ("2-12", 3600), ("1-1:1:1", 1502), ("0:10", 1)],
)
def test_times_are_slurms(text: str, minutes: int) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["partition", "=gpu", "mem=", "nodes=2", "time=soon"])
def test_a_wrong_option_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="--slurm"):
        options_of([text])
