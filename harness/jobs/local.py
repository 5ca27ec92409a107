"""Jobs that depend on each other, run side by side in processes of their own.

Each job gets a fresh process, so that its memory is its own to measure and nothing leaks from one job to the next.
Numbers do not depend on how many jobs run at once, only on the threads that each is given.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.errors import HarnessError

Send = Callable[[Any], None]  # passes a job's message to the parent process
RunJobs = Callable[..., "dict[str, Outcome]"]  # `run_jobs`, or what has its signature and runs jobs elsewhere
# What the server imports; the second is what torch's first optimiser in a process imports, in more than a second.
PRELOADED = ["harness.methods", "torch._dynamo"]


@dataclass(frozen=True)
class Job:
    """A function of the form `run(send) -> outcome`, importable by name, and the keys of the jobs that it needs."""

    key: str
    run: Callable[[Send], Any]
    needs: tuple[str, ...] = ()
    weight: float = 1.0  # about how long it takes, in any unit that all jobs share; decides only what goes first


class Outcome(NamedTuple):
    """How a job ended."""

    status: str  # "done", "failed", or "skipped" when a job that it needs did not end well
    value: Any = None  # what `run` returned
    error: str = ""  # one line; of a skipped job, what the job that it needs failed with
    killed: bool = False  # failed because its process was killed, so that trying again may help


class Interrupted(Exception):
    """The jobs were stopped from outside before they ended."""


class Observer(NamedTuple):
    """What the parent process does as jobs go on."""

    started: Callable[[str], None]
    message: Callable[[str, Any], None]
    ended: Callable[[str, Outcome], None]


class Event(NamedTuple):
    """What is heard of a running job."""

    key: str
    kind: str  # "message", or how it ended: "done", "failed" or "killed"
    content: Any  # the message, what `run` returned, or the error in one line


class Pool(Protocol):
    """Where jobs run."""

    def start(self, job: Job) -> None:
        """Starts a job, or puts it in a queue that will."""
        ...

    def hear(self) -> list[Event]:
        """What has happened since it was last asked, in order; waits until something has."""
        ...

    def stop(self) -> None:
        """Ends the jobs that still run."""
        ...


def run_jobs(
    jobs: Mapping[str, Job],
    *,
    processes: int,
    threads: int,
    logs: Path,
    observer: Observer,
    interrupt: Connection | None = None,
) -> dict[str, Outcome]:
    """Every job's outcome, each job in a process on this machine. A failed job stops only those that need it.

    When this process is interrupted, the running jobs are stopped at once; when it is killed, they stop by themselves.
    A caller that runs jobs in a thread interrupts them by writing to the other end of `interrupt`: `Interrupted`.
    """
    return run_in(ProcessPool(threads, logs, interrupt), jobs, at_once=processes, observer=observer)


def run_in(pool: Pool, jobs: Mapping[str, Job], *, at_once: int, observer: Observer) -> dict[str, Outcome]:
    """Every job's outcome. A failed job stops only those that need it.

    Jobs on the heaviest chains go first, so that no place is idle while one long chain remains, and light jobs fill the
    end.
    """
    loads = _loads(jobs)
    outcomes: dict[str, Outcome] = {}
    running: set[str] = set()
    try:
        while len(outcomes) < len(jobs):
            for key, job in jobs.items():
                bad = [outcomes[need] for need in job.needs if need in outcomes and outcomes[need].status != "done"]
                if bad and key not in outcomes:
                    outcomes[key] = Outcome("skipped", error=bad[0].error, killed=bad[0].killed)
                    observer.ended(key, outcomes[key])
            ready = [
                key
                for key, job in jobs.items()
                if key not in outcomes and key not in running and all(need in outcomes for need in job.needs)
            ]
            for key in sorted(ready, key=lambda key: -loads[key])[: at_once - len(running)]:
                pool.start(jobs[key])
                running.add(key)
                observer.started(key)
            for key, kind, content in pool.hear() if running else []:
                if kind == "message":
                    observer.message(key, content)
                else:
                    running.remove(key)
                    outcomes[key] = (
                        Outcome("done", value=content)
                        if kind == "done"
                        else Outcome("failed", error=content, killed=kind == "killed")
                    )
                    observer.ended(key, outcomes[key])
    finally:
        pool.stop()
    return outcomes


class ProcessPool:
    """A fresh process on this machine for each job."""

    def __init__(self, threads: int, logs: Path, interrupt: Connection | None = None):
        self.threads = threads
        self.logs = logs
        self.interrupt = interrupt  # when it can be read, all is to end
        start_server()
        self.context = _context()
        self.running: dict[Any, tuple[str, BaseProcess]] = {}  # by the connection on which it is heard

    def start(self, job: Job) -> None:
        """Starts the job's process."""
        receiver, sender = self.context.Pipe(duplex=False)
        log = self.logs / f"{job.key}.log"
        process = self.context.Process(target=_work, args=(job.run, sender, self.threads, log))
        process.start()
        sender.close()
        self.running[receiver] = (job.key, process)

    def hear(self) -> list[Event]:
        """One event of each process that has something to say. `Interrupted` when all is to end."""
        heard: list[Any] = wait([*self.running, *([self.interrupt] if self.interrupt else [])])
        if self.interrupt in heard:
            raise Interrupted
        return [self._hear(receiver) for receiver in heard]

    def _hear(self, receiver: Connection) -> Event:
        key, process = self.running[receiver]
        kind, content = _receive(receiver, process)
        if kind != "message":
            del self.running[receiver]
            process.join()
        return Event(key, kind, content)

    def stop(self) -> None:
        """Kills the processes."""
        for _, process in self.running.values():
            process.kill()
        for _, process in self.running.values():
            process.join()


def start_server() -> None:
    """Lets the server that jobs are forked from import while this process does so too; without it, the first job waits.

    To be called before anything heavy is imported here. Does nothing where it runs already, or nothing can fork.
    """
    if _context().get_start_method() == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        resource_tracker.ensure_running()  # else the server would start it, which lifts the mask
        # The server inherits the mask: an interrupt while it imports would end it with a traceback.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _context() -> Any:
    """Fork from a server that has imported the heavy packages once; spawn where the system cannot."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _loads(jobs: Mapping[str, Job]) -> dict[str, float]:
    """The weight of the heaviest chain from each job, itself included, to a last dependent."""
    loads = {key: job.weight for key, job in jobs.items()}
    for key in reversed(list(jobs)):  # needs stand before their dependents
        for need in jobs[key].needs:
            if need in loads:
                loads[need] = max(loads[need], jobs[need].weight + loads[key])
    return loads


def _receive(receiver: Connection, process: BaseProcess) -> tuple[str, Any]:
    """The next message; when the process has died without one, that is a failure."""
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return "killed", "its process was killed (out of memory?); give the same command again to go on"
        return "failed", f"its process ended with exit code {process.exitcode}; give the same command again to go on"


def _work(run: Callable[[Send], Any], sender: Connection, threads: int, log: Path) -> None:
    """The body of a job's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(threads)
    sender.send(outcome_of(run, lambda content: sender.send(("message", content)), log))


def outcome_of(run: Callable[[Send], Any], send: Send, log: Path) -> tuple[str, Any]:
    """How the function ends: "done" and its value, or "failed" and one line.

    An error that is no user's, a fault of ours, leaves its traceback in the file `log`.
    """
    try:
        return "done", run(send)
    except HarnessError as error:
        return "failed", str(error)
    except Exception as error:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc())
        summary = (str(error).splitlines() or [""])[0]
        return "failed", f"{type(error).__name__}: {summary} (an error of the harness; traceback in {log})"


def _end_with_parent() -> None:
    """Waits until the parent process is gone, then ends this one, so that nothing computes for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def use_threads(threads: int) -> None:
    """Gives torch and the BLAS libraries this many threads, and lets malloc keep the memory that it has.

    Fresh pages are dear: a training step frees and asks again for the same megabytes, so glibc is told not to return
    them.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_trim_threshold, m_mmap_max, m_top_pad = -1, -4, -2
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)
            libc.mallopt(m_top_pad, 64 * 2**20)
