"""Builds sdist and wheel, installs the wheel without the repository, and runs a small comparison there.

    python scripts/check_package.py [--dist FOLDER]

The new environment has the packages that the wheel declares, by links to those of the interpreter that runs this, and
no others: what is imported without being declared fails. FOLDER keeps sdist and wheel. Exit code 1 when a step fails.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NAME = "etegrec-harness"
PIP = (sys.executable, "-m", "pip", "--quiet")
SMOKE = (
    ("--version",),
    ("doctor",),
    ("methods",),
    ("run", "--methods", "popularity,markov,sasrec", "--set", "sasrec.epochs=1"),
    ("table", "overall", "--published", "paper", "--format", "md"),
    ("report",),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, help="folder that keeps sdist and wheel")
    dist = parser.parse_args().dist
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        wheel = built(work)
        if missing := package_files() - packed_files(wheel):
            print(
                f"error: the wheel must hold every file of the packages, but lacks {sorted(missing)}", file=sys.stderr
            )
            return 1
        command = installed(wheel, work / "environment")
        for words in SMOKE:
            print("\n$ harness", *words, flush=True)
            step([str(command), *words], work)
        if dist is not None:
            shutil.copytree(work / "dist", dist, dirs_exist_ok=True)
    return 0


def step(command: list[str], folder: Path) -> None:
    """Runs a command in a folder and with no setting of the user's."""
    subprocess.run(
        command, cwd=folder, check=True, env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "120"}
    )


def built(work: Path) -> Path:
    """The wheel that is built from an sdist that is built from the repository's files."""
    for name in repository_files():
        target = work / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    build = "from setuptools import build_meta; build_meta.build_sdist('../dist')"
    subprocess.run([sys.executable, "-c", build], cwd=work / "source", check=True, stdout=subprocess.DEVNULL)
    (sdist,) = (work / "dist").glob("*.tar.gz")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "dist"))
    subprocess.run([*PIP, "wheel", *options, str(sdist)], cwd=work, check=True)
    (wheel,) = (work / "dist").glob("*.whl")
    return wheel


def repository_files() -> list[str]:
    """What git tracks or would track, by name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def package_files() -> set[str]:
    """The files of the repository's packages."""
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}
    return {name for name in repository_files() if name.split("/")[0] in packages}


def packed_files(wheel: Path) -> set[str]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def installed(wheel: Path, environment: Path) -> Path:
    """The command `harness` of a new environment with the wheel and what it declares."""
    venv.create(environment)
    python = environment / "bin" / "python"
    subprocess.run([*PIP, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    for distribution in declared(NAME):
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            link = Path(site) / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return environment / "bin" / "harness"


def declared(name: str) -> list[metadata.Distribution]:
    """The installed packages that a package needs, and those that these need, without extras that nobody names."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(name, "")]
    seen = set(waiting)
    while waiting:
        wanted, extra = waiting.pop()
        distribution = metadata.distribution(wanted)
        if wanted != name:
            found[wanted] = distribution
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                new = {(requirement.name.lower(), one) for one in ("", *requirement.extras)} - seen
                seen |= new
                waiting += new
    return list(found.values())


if __name__ == "__main__":
    sys.exit(main())
