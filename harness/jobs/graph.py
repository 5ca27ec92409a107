"""Jobs that depend on each other: what goes first, what is skipped, how each ended. Where they run is up to a pool.

Numbers do not depend on how many jobs run at once, only on the threads that each is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Send = Callable[[Any], None]  # passes a job's message to the parent process
RunJobs = Callable[..., "dict[str, Outcome]"]  # `harness.jobs.local.run_jobs`, or what has its signature


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
    """What the parent process does as jobs go on; by default nothing."""

    started: Callable[[str], None] = lambda key: None
    message: Callable[[str, Any], None] = lambda key, content: None
    ended: Callable[[str, Outcome], None] = lambda key, outcome: None
    waiting: Callable[[str], None] = lambda what: None  # for another process that works on it


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


def _loads(jobs: Mapping[str, Job]) -> dict[str, float]:
    """The weight of the heaviest chain from each job, itself included, to a last dependent."""
    loads = {key: job.weight for key, job in jobs.items()}
    for key in reversed(list(jobs)):  # needs stand before their dependents
        for need in jobs[key].needs:
            if need in loads:
                loads[need] = max(loads[need], jobs[need].weight + loads[key])
    return loads
