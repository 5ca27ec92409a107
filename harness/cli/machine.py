"""The machine that computes: the device, how many jobs run side by side, and a cluster in its place."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from harness.cli.options import CACHE, CacheDir, machine_option
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.experiment.place import Place
    from harness.jobs.graph import RunJobs
    from harness.jobs.slurm import Cluster
    from harness.jobs.torchrun import World

CLUSTER_JOBS = 100  # in a cluster's queue at once, unless --jobs says otherwise


DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Machine:
    """Where to compute, and with how many processes; it changes no number but through the threads and the device."""

    jobs: Annotated[
        int | None,
        machine_option(
            min=1, help="Processes side by side (default: cores / threads; GPUs, each its own); changes no number."
        ),
    ] = None
    threads: Annotated[int, machine_option(min=1, help="Threads of each process.")] = 1
    device: Annotated[DeviceName, machine_option(help="Where to compute.")] = "auto"
    cache_dir: CacheDir = CACHE

    def checked(self) -> Machine:
        """The machine with its device and its number of jobs; `UsageError` where it has no such device."""
        device = device_named(self.device)
        return replace(self, device=device, jobs=self.jobs or jobs_at_once(self.threads, device))

    def place(self, dataset: Path, runs: Path, world: World | None = None) -> Place:
        """Where an experiment on the prepared data set reads, writes and computes, for a checked machine."""
        from harness.experiment.place import Place
        from harness.jobs.torchrun import World

        assert self.jobs is not None
        return Place(dataset, self.cache_dir, runs, self.device, self.threads, self.jobs, world or World())


@dataclass(frozen=True)
class Execution:
    """What runs the jobs: processes here, or a cluster."""

    executor: Annotated[
        Literal["local", "submitit"],
        machine_option(
            help="Where jobs run: in processes here, or through submitit on a Slurm cluster (100 at once, or --jobs)."
        ),
    ] = "local"
    slurm: Annotated[
        list[str] | None,
        machine_option(
            help="Any long option of sbatch: partition=gpu, time=240, gpus=1, mem=16G. Repeatable.",
            metavar="OPTION=VALUE",
        ),
    ] = None
    submitit_cluster: Annotated[Literal["slurm", "local"], machine_option(help="local: try it without a cluster.")] = (
        "slurm"
    )
    busy: Annotated[
        Literal["wait", "leave"],
        machine_option(help="Runs that another process works on: wait for them when all else is done, or leave them."),
    ] = "wait"

    def checked(self, machine: Machine, num_processes: int) -> tuple[Machine, RunJobs]:
        """The machine that the jobs see, and what runs them, for one of so many processes that torchrun started.

        `UsageError` for options that exclude each other, and for devices and options that are not to be had.
        """
        from harness.jobs.local import run_jobs
        from harness.jobs.slurm import Cluster, options_of, run_jobs_submitit

        if num_processes > 1 and machine.jobs not in (None, 1):
            raise UsageError(
                "processes that torchrun started work on one job at a time, but got --jobs "
                f"{machine.jobs}; leave it out"
            )
        if self.executor == "local":
            if self.slurm:
                raise UsageError("--slurm options need a cluster; add --executor submitit, or leave them out")
            return (machine if num_processes == 1 else replace(machine, jobs=1)).checked(), run_jobs
        if num_processes > 1:
            raise UsageError(
                f"--executor submitit must be given to one process, but torchrun started {num_processes}; leave out "
                "one of the two"
            )
        cluster = Cluster(self.submitit_cluster, options_of(self.slurm or []))
        device = device_of(cluster, machine.device)
        at_once = CLUSTER_JOBS if cluster.kind == "slurm" else jobs_at_once(machine.threads, device)
        jobs = machine.jobs or at_once
        return replace(machine, device=device, jobs=jobs), partial(run_jobs_submitit, cluster=cluster)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_at_once(threads: int, device: str) -> int:
    """Jobs that fit side by side: as many as have cores on the CPU, elsewhere one for each device."""
    if device == "cpu":
        return max(1, cores() // threads)
    from harness.jobs.gpus import visible_gpus

    return max(1, len(visible_gpus()))


def device_named(name: DeviceName) -> DeviceName:
    """The device to compute on; `UsageError` where the machine has none of that kind."""
    import torch

    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    if name == "cuda" and not has_cuda:
        raise UsageError("--device cuda must be present, but torch sees none; usable here: cpu")
    return name


def device_of(cluster: Cluster, name: DeviceName) -> DeviceName:
    """The device of the cluster's jobs, which this machine need not have: a GPU where the options ask for one."""
    if name == "auto":
        return "cuda" if cluster.has_gpu else "cpu"
    if name == "cuda" and not cluster.has_gpu:
        raise UsageError("--device cuda needs jobs with a GPU; add --slurm gpus=1")
    return name
