"""Jobs in processes. Oracle: properties of the order, and what the operating system says of the processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import simple_jobs
import torch

from harness.cli.machine import jobs_at_once
from harness.jobs.gpus import Slots, gpu_of, visible_gpus
from harness.jobs.graph import Job, Observer, Outcome, Send
from harness.jobs.local import PRELOADED, outcome_of, run_jobs, start_server


def run(jobs: list[Job], tmp_path: Path, processes: int = 2) -> tuple[dict[str, Outcome], list[tuple]]:
    events: list[tuple] = []
    observer = Observer(
        started=lambda key: events.append(("started", key)),
        message=lambda key, content: events.append(("message", key, content)),
        ended=lambda key, outcome: events.append(("ended", key, outcome.status)),
    )
    outcomes = run_jobs(
        {job.key: job for job in jobs}, processes=processes, threads=1, logs=tmp_path / "logs", observer=observer
    )
    return outcomes, events


def test_each_job_has_a_process_of_its_own_and_tells_how_it_goes(tmp_path: Path) -> None:
    outcomes, events = run([Job("a", simple_jobs.succeed), Job("b", simple_jobs.succeed)], tmp_path)
    pids = {outcome.value for outcome in outcomes.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert ("message", "a", "working") in events


has_server = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork jobs from a server"
)


@has_server
def test_a_job_finds_the_heavy_packages_loaded(tmp_path: Path) -> None:
    start_server()
    outcomes, _ = run([Job("a", simple_jobs.loaded)], tmp_path)
    assert set(PRELOADED) <= outcomes["a"].value


WAITS = """
import time
from harness.jobs.local import start_server
try:
    start_server()
    time.sleep(0.7)  # the interpreter is up, and the imports of some seconds have begun
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    pass
"""


@has_server
def test_an_interrupt_while_the_server_imports_is_silent() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0


def test_needs_run_first(tmp_path: Path) -> None:
    jobs = [
        Job("first", partial(simple_jobs.stamp, tmp_path / "first")),
        Job("second", partial(simple_jobs.stamp, tmp_path / "second"), ("first",)),
    ]
    run(jobs, tmp_path)
    assert float((tmp_path / "first").read_text()) < float((tmp_path / "second").read_text())


def test_the_longest_chain_goes_first(tmp_path: Path) -> None:
    jobs = [
        Job("alone", simple_jobs.succeed),
        Job("root", simple_jobs.succeed),
        Job("leaf", simple_jobs.succeed, ("root",)),
    ]
    _, events = run(jobs, tmp_path, processes=1)
    assert [event[1] for event in events if event[0] == "started"] == ["root", "alone", "leaf"]


def test_the_heaviest_chain_goes_first_and_light_jobs_last(tmp_path: Path) -> None:
    jobs = [
        Job("light", simple_jobs.succeed, weight=0.0),
        Job("root", simple_jobs.succeed),
        Job("leaf", simple_jobs.succeed, ("root",), weight=2.5),
        Job("heavy", simple_jobs.succeed, weight=3.0),
        Job("last", simple_jobs.succeed, ("leaf",), weight=0.5),
    ]
    _, events = run(jobs, tmp_path, processes=1)
    # Chains: root 1 + 2.5 + 0.5 = 4, heavy 3, then leaf 2.5 + 0.5 = 3, which stands before heavy, last 0.5, light 0.
    assert [event[1] for event in events if event[0] == "started"] == ["root", "leaf", "heavy", "last", "light"]


def test_a_failed_job_stops_only_those_that_need_it(tmp_path: Path) -> None:
    chain = [
        Job("bad", simple_jobs.fail),
        Job("child", simple_jobs.succeed, ("bad",)),
        Job("grandchild", simple_jobs.succeed, ("child",)),
    ]
    jobs = [*chain, Job("ok", simple_jobs.succeed)]
    outcomes, _ = run(jobs, tmp_path)
    assert {key: outcome.status for key, outcome in outcomes.items()} == {
        "bad": "failed",
        "child": "skipped",
        "grandchild": "skipped",
        "ok": "done",
    }
    for key in ("bad", "child", "grandchild"):
        assert outcomes[key].error == "a rule must hold, but it does not; mend it"


def test_an_error_of_ours_is_one_line_and_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    outcomes, _ = run([Job("bug", simple_jobs.crash)], tmp_path)
    assert "\n" not in outcomes["bug"].error
    assert "KeyError" in outcomes["bug"].error
    assert "in crash" in (tmp_path / "logs" / "bug.log").read_text()


def test_a_process_that_dies_without_a_word_is_a_failure(tmp_path: Path) -> None:
    outcomes, _ = run([Job("dead", simple_jobs.die), Job("ok", simple_jobs.succeed)], tmp_path)
    assert outcomes["dead"].status == "failed"
    assert "exit code 7" in outcomes["dead"].error
    assert outcomes["ok"].status == "done"


@pytest.mark.parametrize("processes", [1, 3])
def test_no_more_processes_than_asked_for_run_at_once(tmp_path: Path, processes: int) -> None:
    _, events = run([Job(str(place), simple_jobs.succeed) for place in range(5)], tmp_path, processes=processes)
    running = peak = 0
    for event in events:
        running += {"started": 1, "ended": -1}.get(event[0], 0)
        peak = max(peak, running)
    assert peak <= processes


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not show processes in /proc")
def test_jobs_end_by_themselves_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = f"from pathlib import Path; import simple_jobs; simple_jobs.run_in_silence(Path({str(tmp_path)!r}))"
    here = str(Path(__file__).parent)
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": here})
    pid_file = tmp_path / "pid"
    try:
        deadline = time.monotonic() + 300
        while not pid_file.exists() and parent.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        worker = int(pid_file.read_text())
        assert simple_jobs.is_alive(worker)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while simple_jobs.is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    ended_by_itself = not simple_jobs.is_alive(worker)
    if not ended_by_itself:
        os.kill(worker, signal.SIGKILL)
    assert ended_by_itself


@pytest.mark.parametrize(
    ("visible", "seen"), [("3,GPU-5", {"3", "GPU-5"}), ("7", {os.environ.get("CUDA_VISIBLE_DEVICES")})]
)
def test_jobs_side_by_side_see_a_gpu_each_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, seen: set[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    folder = tmp_path / "running"
    folder.mkdir()
    outcomes, _ = run([Job(name, partial(simple_jobs.see, folder, name)) for name in "ab"], tmp_path)
    assert {outcome.value for outcome in outcomes.values()} == seen


def test_gpus_are_counted_and_slots_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
    assert [gpu_of(slot) for slot in range(3)] == ["0", "1", "0"]
    assert jobs_at_once(threads=1, device="cuda") == 2
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert gpu_of(1) is None
    slots = Slots()
    assert [slots.take(), slots.take(), slots.take()] == [0, 1, 2]
    slots.give_back(1)
    assert [slots.take(), slots.take()] == [1, 3]


def test_a_device_without_memory_is_told_as_that_in_one_line(tmp_path: Path) -> None:
    def fill(send: Send) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 79 GiB")

    kind, told = outcome_of(fill, lambda content: None, tmp_path / "log")
    assert kind == "failed"
    assert "lower batch_size or chunk_size" in told
    assert "Tried to allocate 20.00 GiB. GPU 0" in told
    assert "\n" not in told
    assert not (tmp_path / "log").exists()
