"""What takes seconds of imports to find out, and changes only with code: kept in the user's cache folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OWN = ("harness", "baselines", "etegrec")  # packages whose code decides what is remembered
SHOWN_DIGITS = 16


def remembered(name: str, make: Callable[[], Any], group: str, folder: Path | None = None) -> Any:
    """`make()`, plain JSON, made anew only after a change of our code or of the packages that the group names.

    A change is seen by the path, size or time of any of their files. `folder`: where it is kept, by default the user's
    cache folder; where nothing can be written, nothing is kept.
    """
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("etegrec-harness")
    place = sha256(f"{sys.prefix} {__file__}".encode()).hexdigest()[:8]  # several environments share the user's folder
    path, code = folder / f"{name}-{place}.json", _code(group)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["code"] == code:
            return kept["value"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: made anew
        pass
    value = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"code": code, "value": value}), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        pass
    return value


def _code(group: str) -> str:
    """Names the state of the code: every file of our packages, and of those that the entry points of the group name."""
    entries = sorted((entry.name, entry.value) for entry in entry_points(group=group))
    names = dict.fromkeys([*OWN, *(value.partition(":")[0].partition(".")[0] for _, value in entries)])
    files = sorted({file for name in names for file in _files(name)})
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256(json.dumps([sys.version, entries, stats]).encode()).hexdigest()[:SHOWN_DIGITS]


def _files(name: str) -> Iterator[Path]:
    """The Python files of a top-level module or package, which is not imported."""
    spec = find_spec(name)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        yield from Path(folder).rglob("*.py")
    if spec.origin is not None and not spec.submodule_search_locations:
        yield Path(spec.origin)
