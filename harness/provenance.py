"""Where a number comes from: versions, machine, threads, time, memory."""

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("etegrec-harness", "torch", "numpy", "polars", "scipy", "scikit-learn", "safetensors", "pydantic")
ROOT = Path(__file__).resolve().parents[1]  # of a checkout, or the folder of installed packages


def environment() -> dict[str, Any]:
    """Versions and machine, as plain JSON: no name of a user, a host or a folder."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "commit": commit(ROOT),
        "packages": versions,
    }


@cache
def commit(root: Path) -> str:
    """The commit that is checked out in `root`, with a + where files differ from it; `none` outside of a checkout."""
    if not (root / ".git").exists():
        return "none"
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # looking must not disturb who commits meanwhile
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return ended.stdout.strip()


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MiB (resident, as the operating system counts it)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def gpu(device: str) -> dict[str, Any]:
    """Name of the GPU, driver and CUDA version of this process's device, as plain JSON; nothing for a CPU."""
    if device != "cuda":
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name(), "driver": _driver(), "cuda": torch.version.cuda}


def _driver() -> str:
    """The version of NVIDIA's driver, where the system tells it."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def peak_gpu_memory(device: str) -> dict[str, float]:
    """`peak_gpu_memory_mb`: the most memory of its GPU that this process has held so far, MiB; nothing for a CPU."""
    if device != "cuda":
        return {}
    import torch

    return {"peak_gpu_memory_mb": torch.cuda.max_memory_reserved() / 2**20}


def now() -> str:
    """The present time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
