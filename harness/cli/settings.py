"""What options decide: the settings of an experiment, the device, and how many jobs run at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.cli import values
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.experiment.plan import Settings
    from harness.jobs.graph import RunJobs
    from harness.jobs.slurm import Cluster

CLUSTER_JOBS = 100  # in a cluster's queue at once, unless --jobs says otherwise


def tables_of(
    config: Path | None,
    assignments: Sequence[str] | None,
    *,
    decoding: str | None,
    beams: int | None,
    top_k: int | None,
) -> dict[str, values.Table]:
    """A table per method, and the contract's: the file's values, over them the options', over them the assignments."""
    contract = {"decoding": decoding, "num_beams": beams, "top_k": top_k}
    given = {name: value for name, value in contract.items() if value is not None}
    tables = values.overlaid(values.config_file(config) if config else {}, {"contract": given})
    return values.overlaid(tables, values.assignments_of(assignments or []))


def settings_of(
    tables: dict[str, values.Table],
    preset: str,
    recipe: str,
    precision: Literal["fp32", "bf16"],
    text: str | None,
) -> Settings:
    """What decides numbers; the contract's table becomes the contract, the others stay with their methods."""
    from harness.config import merged
    from harness.experiment.plan import Settings
    from harness.interfaces import Contract

    # The official recipe decodes as each authors' code does, unless told otherwise (METHODS C.6).
    basis = Contract(decoding="released") if recipe == "official" else Contract()
    contract = merged(basis, tables.get("contract", {}), prefix="contract.")
    assert isinstance(contract, Contract)
    of_methods = {name: table for name, table in tables.items() if name != "contract"}
    return Settings(
        preset=preset, recipe=recipe, contract=contract, precision=precision, tables=of_methods, text_encoder=text
    )


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_at_once(threads: int, device: str, cluster: Cluster | None = None) -> int:
    """Jobs that fit side by side: as many as have cores on the CPU, one on another device; on Slurm, many."""
    if cluster is not None and cluster.kind == "slurm":
        return CLUSTER_JOBS
    return max(1, cores() // threads) if device == "cpu" else 1


def device_named(name: str) -> str:
    """The device to compute on; `UsageError` where the machine has none of that kind."""
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "cpu"
    if not present[name]:
        usable = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise UsageError(f"--device {name} must be present, but torch sees none; usable here: {usable}")
    return name


def cluster_of(kind: Literal["slurm", "local"], texts: Sequence[str], num_processes: int) -> Cluster:
    """Where jobs are submitted; `UsageError` for options that are not sbatch's, and among processes of torchrun's."""
    from harness.jobs.slurm import Cluster, options_of

    if num_processes > 1:
        raise UsageError(
            f"--executor submitit must be given to one process, but torchrun started {num_processes}; leave out one of "
            "the two"
        )
    return Cluster(kind, options_of(texts))


def device_of(cluster: Cluster, name: str) -> str:
    """The device of the cluster's jobs, which this machine need not have: a GPU where the options ask for one."""
    if name == "auto":
        return "cuda" if cluster.has_gpu else "cpu"
    if name == "cuda" and not cluster.has_gpu:
        raise UsageError("--device cuda needs jobs with a GPU; add --slurm gpus=1")
    return name


def execution(cluster: Cluster | None) -> RunJobs:
    """What runs the jobs."""
    from harness.jobs.local import run_jobs
    from harness.jobs.slurm import run_jobs_submitit

    return run_jobs if cluster is None else partial(run_jobs_submitit, cluster=cluster)
