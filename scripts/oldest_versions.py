"""Prints the oldest versions that pyproject.toml allows, as constraints for pip: `filelock==3.16`.

    python scripts/oldest_versions.py [EXTRA...]

Direct dependencies only, with those of the extras that are named.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def oldest(requirements: list[str]) -> list[str]:
    """Each requirement at its lower bound; one without a lower bound is an error."""
    pins = []
    for requirement in map(Requirement, requirements):
        bounds = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==")]
        if len(bounds) != 1:
            sys.exit(
                f"error: {PYPROJECT.name}: '{requirement}' must have one lower bound; write {requirement.name}>=VERSION"
            )
        pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = [line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]]
    print(*oldest([*project["dependencies"], *extras]), sep="\n")
