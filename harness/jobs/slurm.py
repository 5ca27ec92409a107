"""Jobs on a Slurm cluster, through submitit: the same order and the same outcomes as on this machine.

A cluster job says how it goes, and how it ended, in lines of JSON that it appends to a file of its own beside the logs.
The submitting process reads them, so the two need nothing in common but the file system, on which file locks must work
between machines. Jobs outlive the submitting process: when the same command is given again, it watches those that are
still in the queue or at work, and submits what is missing. Whatever happens, a lock for each job's key keeps two of the
same from working at once.

A job that is preempted, or runs out of its time, is put into the queue again and goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from harness.errors import StageError, UsageError
from harness.interfaces import Progress
from harness.jobs.graph import Event, Interrupted, Job, Observer, Outcome, Send, run_in
from harness.jobs.local import outcome_of, use_threads
from harness.stages import locked, read_json, write_json

if TYPE_CHECKING:
    import submitit

FOLDER = "cluster"  # below the logs
POLL_SECONDS = {"slurm": 2.0, "local": 0.1}
# A job's last lines may reach this machine after the news that it has ended.
SETTLE_SECONDS = {"slurm": 60.0, "local": 0.0}
MAX_TIMEOUTS = 100  # how often a job that runs out of its time is put into the queue again
# Of a job that Slurm has not yet ended; a state that is not known is none of them.
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED")
ONE_PROCESS = ("nodes", "ntasks", "ntasks_per_node")


@dataclass(frozen=True)
class Cluster:
    """Where jobs are submitted, and with which of sbatch's options."""

    kind: Literal["slurm", "local"] = "slurm"  # local: processes on this machine that outlive this one
    options: Mapping[str, str] = field(default_factory=dict)  # sbatch's long options, without their dashes

    @property
    def has_gpu(self) -> bool:
        """Whether the options ask for one."""
        return any(name.startswith(("gpus", "gres")) for name in self.options)

    @property
    def minutes(self) -> int:
        """Minutes that a job may take before it is put into the queue again; 240 unless an option says otherwise."""
        return minutes_of(self.options.get("time", "240"))


def options_of(texts: Iterable[str]) -> dict[str, str]:
    """Options of sbatch by name from texts like `partition=gpu`; dashes in names become underscores."""
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not name or not equals or not value.strip():
            raise UsageError(f"--slurm must be OPTION=VALUE, but got '{text}'; for example partition=gpu or time=240")
        if name in ONE_PROCESS:
            raise UsageError(f"a job must be one process, but got --slurm {text}; leave it out")
        options[name] = value.strip()
    minutes_of(options.get("time", "240"))
    return options


def minutes_of(text: str) -> int:
    """Minutes of one of Slurm's spellings: `90`, `90:00` (minutes and seconds), `1:30:00`, `2-12`, `2-12:00:00`."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise UsageError(f"--slurm time must be minutes, or [days-]hours:minutes:seconds, but got '{text}'; write 240")
    days, *parts = match.groups()
    first, second, third = (int(part or 0) for part in parts)
    has_hours = days is not None or parts[2] is not None
    seconds = 3600 * first + 60 * second + third if has_hours else 60 * first + second
    return max(1, (86_400 * int(days or 0) + seconds + 59) // 60)


def run_jobs_submitit(
    jobs: Mapping[str, Job],
    *,
    cluster: Cluster,
    processes: int,
    threads: int,
    logs: Path,
    observer: Observer,
    interrupt: Connection | None = None,
) -> dict[str, Outcome]:
    """Every job's outcome, each in a cluster job of its own, `processes` of them at once; as `run_jobs`.

    Messages are `Progress` or plain JSON, and so is what a job returns. When this process is interrupted the jobs are
    cancelled; when it is killed they go on. `UsageError` without submitit or without Slurm.
    """
    return run_in(ClusterPool(cluster, threads, logs / FOLDER, interrupt), jobs, at_once=processes, observer=observer)


@dataclass(frozen=True)
class ClusterJob:
    """What a cluster job does: its lines go to the file `lines`."""

    key: str
    run: Callable[[Send], Any]
    threads: int
    lines: Path

    def __call__(self) -> None:
        """Does the work, when no other process does it."""
        use_threads(self.threads)
        say = partial(_append, self.lines)
        with locked(self.lines.parent / f"{self.key}.lock", f"the job {self.key}", wait_seconds=-1):
            say(*outcome_of(self._run, lambda content: say("message", content), self.lines.with_suffix(".log")))

    def _run(self, send: Send) -> Any:
        from submitit.core.utils import UncompletedJobError

        try:
            return self.run(send)
        except UncompletedJobError as error:
            raise StageError(
                f"a cluster job may run out of its time {MAX_TIMEOUTS} times, but this one did once more; give it more "
                "with --slurm time=MINUTES, and the same command again to go on"
            ) from error

    def checkpoint(self) -> Any:
        """What submitit puts into the queue when the job is stopped: the same again, since stages keep checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _append(path: Path, kind: str, content: Any) -> None:
    """One line more: what it is, and what it says."""
    if isinstance(content, Progress):
        kind, content = "progress", content._asdict()
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([kind, content]) + "\n")


@dataclass
class Watched:
    """A cluster job that has been submitted, by this process or by one before it."""

    job: submitit.Job[None]
    lines: Path
    read: int = 0  # bytes of whole lines
    gone_since: float | None = None  # when it was first seen to have ended

    def new_lines(self) -> list[tuple[str, Any]]:
        """Kind and content of each whole line that was not read yet."""
        if not self.lines.exists():
            return []
        with self.lines.open("rb") as file:
            file.seek(self.read)
            whole = file.read().rpartition(b"\n")[0]
        self.read += len(whole) + 1 if whole else 0
        found = [json.loads(line) for line in whole.splitlines()]
        return [("message", Progress(**content)) if kind == "progress" else (kind, content) for kind, content in found]

    def is_lost(self, settle_seconds: float) -> bool:
        """Whether the job ended so long ago that no line of it can still be under way."""
        if not self.job.done():
            self.gone_since = None
        elif self.gone_since is None:
            self.gone_since = time.monotonic()
        return self.gone_since is not None and time.monotonic() - self.gone_since >= settle_seconds


class ClusterPool:
    """A cluster job for each job."""

    def __init__(self, cluster: Cluster, threads: int, folder: Path, interrupt: Connection | None = None):
        self.cluster = cluster
        self.threads = threads
        self.interrupt = interrupt  # when it can be read, all is to end
        self.folder = folder.absolute()
        self.executor = _executor(cluster, threads, self.folder)
        self.running: dict[str, Watched] = {}

    def start(self, job: Job) -> None:
        """Watches the cluster job that an earlier command submitted for the same, or submits one."""
        content = _content(job)
        self.running[job.key] = self._found(job.key, content) or self._submitted(job, content)

    def _found(self, key: str, content: str) -> Watched | None:
        if self.cluster.kind != "slurm" or not self._record(key).exists():
            return None
        record = read_json(self._record(key))
        if record["content"] != content:
            return None
        import submitit

        job: submitit.Job[None] = submitit.SlurmJob(self.folder, record["job"])
        is_alive = str(job.get_info(mode="force").get("State", "")).startswith(ALIVE)
        return Watched(job, Path(record["lines"])) if is_alive else None

    def _submitted(self, job: Job, content: str) -> Watched:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        lines = self.folder / f"{job.key}-{uuid4().hex[:8]}.jsonl"
        try:
            cluster_job = self.executor.submit(ClusterJob(job.key, job.run, self.threads, lines))
        except (FailedJobError, FailedSubmissionError) as error:
            reason = " ".join(str(error).split())
            raise StageError(f"the cluster must take the job, but says: {reason}; mend the --slurm options") from error
        write_json(self._record(job.key), {"job": cluster_job.job_id, "content": content, "lines": str(lines)})
        return Watched(cluster_job, lines)

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def hear(self) -> list[Event]:
        """What the running jobs have written since; a job that ended without its last line has failed."""
        events: list[Event] = []
        while not events:
            for key, watched in list(self.running.items()):
                is_lost = watched.is_lost(SETTLE_SECONDS[self.cluster.kind])  # asked first: what it wrote is then there
                found = [Event(key, kind, content) for kind, content in watched.new_lines()]
                has_ended = any(event.kind != "message" for event in found)
                if is_lost and not has_ended:
                    found.append(Event(key, "killed", _loss(watched.job)))
                if is_lost or has_ended:
                    del self.running[key]
                    self._record(key).unlink(missing_ok=True)
                events += found
            if not events:
                self._pause()
        return events

    def _pause(self) -> None:
        seconds = POLL_SECONDS[self.cluster.kind]
        if self.interrupt is None:
            time.sleep(seconds)
        elif self.interrupt.poll(seconds):
            raise Interrupted

    def stop(self) -> None:
        """Cancels the cluster jobs."""
        for key, watched in self.running.items():
            watched.job.cancel(check=False)
            self._record(key).unlink(missing_ok=True)


def _loss(job: submitit.Job[None]) -> str:
    return (
        f"the cluster job {job.job_id} ended without a word ({job.state}; out of memory?); its log is "
        f"{job.paths.stderr}; give the same command again to go on"
    )


def _content(job: Job) -> str:
    """Names what the job does, and where."""
    return hashlib.sha256(os.getcwd().encode() + pickle.dumps(job.run)).hexdigest()


def _executor(cluster: Cluster, threads: int, folder: Path) -> submitit.Executor:
    """What submits to the cluster."""
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "ERROR")  # it would write on stdout
    try:
        import submitit
    except ImportError:
        raise UsageError(
            "clusters need submitit, which is not installed; pip install 'etegrec-harness[slurm]'"
        ) from None
    if cluster.kind == "local":
        executor = submitit.LocalExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
        executor.update_parameters(timeout_min=cluster.minutes, gpus_per_node=int(cluster.has_gpu))
        return executor
    if submitit.SlurmExecutor.affinity() <= 0:
        raise UsageError("Slurm must be at hand, but there is no srun on this machine; go to a machine of the cluster")
    slurm = submitit.SlurmExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
    options = {"cpus_per_task": str(threads), **cluster.options}
    options.pop("time", None)
    slurm.update_parameters(
        job_name="harness",
        time=cluster.minutes,
        nodes=1,
        additional_parameters=options,
        srun_args=["--cpus-per-task", options["cpus_per_task"]],  # newer versions of srun do not take sbatch's
    )
    return slurm
