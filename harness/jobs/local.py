"""Jobs on this machine, side by side in processes of their own.

Each job gets a fresh process, so that its memory is its own to measure and nothing leaks from one job to the next.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.heap import keep_freed_memory
from harness.jobs.gpus import SLOTS, VISIBLE, gpu_of
from harness.jobs.graph import Event, Interrupted, Job, Observer, Outcome, Send, run_in

# What the server imports: all that some job imports late. The second is what torch's first optimiser in a process
# imports, in more than a second.
PRELOADED = ["harness.methods", "torch._dynamo", "sklearn.cluster", "sklearn.feature_extraction.text"]
START_POLL_SECONDS = 0.1  # between looks for an interrupt that arrives through a connection, while a process starts


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


class ProcessPool:
    """A fresh process on this machine for each job."""

    def __init__(self, threads: int, logs: Path, interrupt: Connection | None = None):
        self.threads = threads
        self.logs = logs
        self.interrupt = interrupt  # when it can be read, all is to end
        start_server()
        self.context = _context()
        self.running: dict[Any, tuple[str, BaseProcess, int]] = {}  # by the connection on which it is heard

    def start(self, job: Job) -> None:
        """Starts the job's process."""
        receiver, sender = self.context.Pipe(duplex=False)
        log = self.logs / f"{job.key}.log"
        slot = SLOTS.take()
        try:
            process = self.context.Process(target=_work, args=(job.run, sender, self.threads, log, gpu_of(slot)))
            _start(process, self.interrupt)
        except BaseException:
            SLOTS.give_back(slot)
            raise
        sender.close()
        self.running[receiver] = (job.key, process, slot)

    def hear(self) -> list[Event]:
        """One event of each process that has something to say. `Interrupted` when all is to end."""
        heard: list[Any] = wait([*self.running, *([self.interrupt] if self.interrupt else [])])
        if self.interrupt in heard:
            raise Interrupted
        return [self._hear(receiver) for receiver in heard]

    def _hear(self, receiver: Connection) -> Event:
        key, process, slot = self.running[receiver]
        kind, content = _receive(receiver, process)
        if kind != "message":
            del self.running[receiver]
            process.join()
            SLOTS.give_back(slot)
        return Event(key, kind, content)

    def stop(self) -> None:
        """Kills the processes."""
        for _, process, _ in self.running.values():
            process.kill()
        for _, process, slot in self.running.values():
            process.join()
            SLOTS.give_back(slot)


def start_server() -> None:
    """Lets the server that jobs are forked from import while this process does so too; without it, the first job waits.

    To be called before anything heavy is imported here. Does nothing where it runs already, or nothing can fork.
    """
    if _context().get_start_method() == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        resource_tracker.ensure_running()  # else the server would start it, which lifts the mask
        # The server inherits the mask: an interrupt while it imports would end it with a traceback.
        with interrupts_held():
            forkserver.ensure_running()


def _start(process: BaseProcess, interrupt: Connection | None) -> None:
    """Starts the process from another thread: that takes as long as the server imports, which no interrupt waits for.

    A process that starts after the interrupt is killed. `Interrupted` as `ProcessPool.hear` raises it.
    """
    begun: Future[None] = Future()
    left = threading.Event()

    def start() -> None:
        try:
            process.start()
            begun.set_result(None)
        except BaseException as error:
            begun.set_exception(error)
            return
        if left.is_set():
            process.kill()

    threading.Thread(target=start, daemon=True).start()
    try:
        while not wait_for([begun], timeout=START_POLL_SECONDS).done:
            if interrupt is not None and interrupt.poll():
                raise Interrupted
    except BaseException:
        left.set()
        if begun.done() and begun.exception() is None:
            process.kill()
        raise
    begun.result()


def kill_server() -> None:
    """Ends the server that jobs are forked from, which would else import to its end before it sees that all is over."""
    from multiprocessing import forkserver

    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Lets an interrupt wait until the block's end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _context() -> Any:
    """Fork from a server that has imported the heavy packages once; spawn where the system cannot."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _receive(receiver: Connection, process: BaseProcess) -> tuple[str, Any]:
    """The next message; when the process has died without one, that is a failure."""
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return "killed", "its process was killed (out of memory?); give the same command again to go on"
        return "failed", f"its process ended with exit code {process.exitcode}; give the same command again to go on"


def _work(run: Callable[[Send], Any], sender: Connection, threads: int, log: Path, gpu: str | None) -> None:
    """The body of a job's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(threads)
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # CUDA reads it when it is first used, which is later
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
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            return "failed", out_of_memory(error)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc())
        summary = (str(error).splitlines() or [""])[0]
        return "failed", f"{type(error).__name__}: {summary} (an error of the harness; traceback in {log})"


def out_of_memory(error: Exception) -> str:
    """What a device without enough memory means, in one line."""
    told = " ".join(str(error).split())
    return (
        "the device's memory must hold a step, but it is full; lower batch_size or chunk_size, stop what else runs on "
        f"it (or lower --jobs), or give the same command on a larger one: it goes on from the last epoch ({told[:200]})"
    )


def _end_with_parent() -> None:
    """Waits until the parent process is gone, then ends this one, so that nothing computes for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def use_threads(threads: int) -> None:
    """Gives torch and the BLAS libraries this many threads, and lets malloc keep the memory that it has."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)
    keep_freed_memory()
