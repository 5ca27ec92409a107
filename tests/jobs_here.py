"""Jobs done in the process of the test, where it is about no process: most take less time than to start one."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.jobs.graph import Event, Job, Observer, Outcome, run_in
from harness.jobs.local import outcome_of


class JobsHere:
    """In place of `harness.jobs.local.ProcessPool`: each job is done when it is started.

    The job and what it says are copied as they are between processes. All that it says is heard when it has ended: not
    for tests of what is done meanwhile, such as pruning or the scores that a sweep notes of each epoch.
    """

    def __init__(self, threads: int, logs: Path, interrupt: object = None):
        self.threads = threads
        self.logs = logs
        self.events: list[Event] = []

    def start(self, job: Job) -> None:
        """Does the job."""
        torch.set_num_threads(self.threads)

        def send(content: Any) -> None:
            self.events.append(Event(job.key, "message", _copied(content)))

        kind, content = outcome_of(_copied(job.run), send, self.logs / f"{job.key}.log")
        self.events.append(Event(job.key, kind, _copied(content)))

    def hear(self) -> list[Event]:
        """What the jobs have said since it was last asked."""
        heard, self.events = self.events, []
        return heard

    def stop(self) -> None:
        """No job runs on."""


def _copied(value: Any) -> Any:
    """What another process would get."""
    return pickle.loads(pickle.dumps(value))


def run_here(jobs: Mapping[str, Job], *, threads: int, logs: Path, observer: Observer, **_: Any) -> dict[str, Outcome]:
    """`harness.jobs.local.run_jobs` in this process, one job after the other."""
    return run_in(JobsHere(threads, logs), jobs, at_once=1, observer=observer)
