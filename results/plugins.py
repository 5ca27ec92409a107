"""What registers itself: the modules of a folder, and the entry points of installed packages."""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points

from results.errors import ResultsError


def offered(package: str, attribute: str, group: str) -> Iterator[object]:
    """The attribute of each module of the package that has it, by name; then what the group's entry points name."""
    folder = importlib.import_module(package).__path__
    for module in sorted(module.name for module in pkgutil.iter_modules(folder)):
        found = getattr(importlib.import_module(f"{package}.{module}"), attribute, None)
        if found is not None:
            yield found
    for entry in entry_points(group=group):
        try:
            yield entry.load()
        except Exception as error:  # another package's code: whatever it raises is told in one line
            raise ResultsError(
                f"entry point '{entry.name}' of {group} must give a value, but {entry.value} raises "
                f"{type(error).__name__}: {error}; mend or uninstall that package"
            ) from None
