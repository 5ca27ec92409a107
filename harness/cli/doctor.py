"""`harness doctor`: whether everything is in place, and what to do where it is not."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from runpy import run_path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.options import CacheDir, Json, RunsDir, print_json, print_view
from results.terminal.quantities import size

EXAMPLES = "Examples: [bold]harness doctor[/] · [bold]harness doctor --thorough[/]"

PURPOSES = {  # of extras, as pyproject.toml declares them
    "minilm": "text vectors by all-MiniLM-L6-v2, offline",
    "text": "text vectors by any sentence-transformers model",
    "figures": "pictures of harness figure and harness report",
    "dashboard": "harness sweep dashboard",
    "postgresql": "studies in a PostgreSQL database",
    "slurm": "runs on a Slurm cluster",
    "bench": "comparisons with transformers' T5",
    "docs": "the pages of docs/ as a site (make docs)",
    "dev": "the tests and checks of the harness itself",
}
IMPORTED = ("torch", "numpy", "polars", "scipy.stats", "sklearn", "safetensors", "optuna", "harness.methods")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: str  # ok, absent (optional), or problem
    told: str


def doctor(
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Import every package too, and ask torch itself for its devices.")
    ] = False,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
) -> int:
    """Check installation, devices, threads, caches and optional extras."""
    findings = [*_installation(), *_devices(), *_folders(runs_dir, cache_dir), *_extras(), *_methods()]
    findings += _imports() if thorough else ()
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
    from harness.cli.machine import cores

    yield Finding("cpu", "ok", f"{cores()} cores: as many one-thread jobs side by side by default")
    yield _cuda(torch_build(), nvidia_names())
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if name in os.environ:
            yield Finding(name, "ok", f"{os.environ[name]}; jobs set their own threads, see --threads")


def _cuda(build: str | None, names: list[str]) -> Finding:
    if not names:
        return Finding("cuda", "absent", "the driver sees no GPU; presets `paper` want one")
    if build is None:
        return Finding(
            "cuda", "absent", f"{', '.join(names)}, but this torch is built without CUDA; install one with it"
        )
    return Finding("cuda", "ok", f"{', '.join(names)}; torch is built for CUDA {build}")


def torch_build() -> str | None:
    """The CUDA version that the installed torch is built for, read from its file: its import takes over a second."""
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    build: str | None = run_path(str(version)).get("cuda") if version.exists() else None
    return build


def nvidia_names() -> list[str]:
    """The names of the GPUs that the CUDA driver sees; empty where there is no driver."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    names = []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
        if not cuda.cuDeviceGet(ctypes.byref(device), index) and not cuda.cuDeviceGetName(name, len(name), device):
            names.append(name.value.decode(errors="replace"))
    return names


def _imports() -> Iterator[Finding]:
    """Whether packages load, and the devices that torch itself sees."""
    for name in IMPORTED:
        try:
            import_module(name)
            yield Finding(f"import {name}", "ok", "loads")
        except Exception as error:  # whatever a broken installation raises
            yield Finding(f"import {name}", "problem", f"{type(error).__name__}: {' '.join(str(error).split())}")
    torch = sys.modules.get("torch")
    if torch is not None:
        seen = ["cpu", *["cuda"] * torch.cuda.is_available()]
        yield Finding("torch devices", "ok", ", ".join(seen))


def _folders(runs_dir: Path, cache_dir: Path) -> Iterator[Finding]:
    for what, folder in (("runs", runs_dir), ("cache", cache_dir)):
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            yield Finding(what, "problem", f"{folder} must be a folder to write to; choose one with --{what}-dir")
            continue
        held = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
        free = shutil.disk_usage(existing).free
        yield Finding(what, "ok", f"{folder}: {size(held)} held, {size(free)} free")


def _extras() -> Iterator[Finding]:
    for extra, packages in extras().items():
        told, state = PURPOSES.get(extra, "an extra"), "ok"
        if missing := [package for package in packages if _version(package) is None]:
            told += f"; lacks {', '.join(missing)}; pip install 'etegrec-harness[{extra}]'"
            state = "absent"
        yield Finding(f"extra {extra}", state, told)


def extras() -> dict[str, list[str]]:
    """The packages that each extra brings, as the installed harness declares them."""
    found: dict[str, list[str]] = {}
    for requirement in metadata.requires("etegrec-harness") or ():
        extra = re.search(r"""extra\s*==\s*['"](.+?)['"]""", requirement)
        package = re.match(r"[\w.-]+", requirement)
        if extra is not None and package is not None:
            found.setdefault(extra[1], []).append(package[0])
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _methods() -> Iterator[Finding]:
    from harness.cli.methods import ENTRY_POINTS, method_rows
    from harness.errors import HarnessError

    try:
        yield Finding("methods", "ok", ", ".join(row["name"] for row in method_rows()))
    except (HarnessError, ImportError, AttributeError) as error:
        yield Finding("methods", "problem", f"an entry point does not load: {' '.join(str(error).split())}")
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        yield Finding(f"method {entry.name}", "ok", f"from {entry.value}")


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    from results.terminal.grids import bare_grid

    marks = {"ok": ("✓", "green"), "absent": ("–", "dim"), "problem": ("✗", "bold red")}
    grid = bare_grid()
    for finding in findings:
        grid.add_row(Text(*marks[finding.state]), Text(finding.what), Text(finding.told))
    print_view(grid)
    if any(finding.state == "problem" for finding in findings):
        print("error: there are problems (✗); mend them, then give harness doctor again", file=sys.stderr)
