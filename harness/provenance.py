"""Where a number comes from: versions, machine, threads, time, memory."""

import os
import platform
import resource
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

PACKAGES = ("etegrec-harness", "torch", "numpy", "polars", "scipy", "scikit-learn", "safetensors", "pydantic")


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
        "cores": os.cpu_count(),
        "packages": versions,
    }


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MiB (resident, as the operating system counts it)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def now() -> str:
    """The present time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
