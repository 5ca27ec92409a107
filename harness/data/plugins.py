"""Formats and splits of installed packages, found through entry points."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

from harness.errors import UsageError


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """As given on the command line."""
        ...


T = TypeVar("T", bound=Named)


def registered(group: str, kind: type[T], built_in: Iterable[T]) -> dict[str, T]:
    """By name: the built-in ones, then those that the entry points of the group load to.

    `UsageError` for an entry point that loads to something else, or whose name is taken.
    """
    found = {one.name: one for one in built_in}
    for entry in entry_points(group=group):
        loaded = entry.load()
        if not isinstance(loaded, kind):
            raise UsageError(
                f"entry point '{entry.value}' in group '{group}' must load to a {kind.__module__}.{kind.__name__}, "
                f"but loads to a {type(loaded).__name__}; mend or uninstall that package"
            )
        if loaded.name in found:
            raise UsageError(
                f"entry point '{entry.value}' registers a second '{loaded.name}' in '{group}'; rename one of the two"
            )
        found[loaded.name] = loaded
    return found
