"""What lies in the runs and cache folders and serves nothing: found, measured, and removed when asked for.

unfinished   a run, stage or preparation that was interrupted, with its checkpoints
damaged      a file is missing, cut short, or not what was written
stale        of an earlier version of the harness, or replaced by a newer run of the same row
unused       a whole stage or data set on which no finished run stands: a sweep's trial, say
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from harness.data.open import PREPARED
from harness.data.prepare import LayoutError, read_meta, sha256
from harness.errors import DataError, StageError
from harness.experiment.stored import stages_below
from harness.methods import current_versions
from harness.stages import IN_USE, PARTIAL, is_held, locked, read_json
from results.errors import ResultsError
from results.store.find import find_runs, seed_of
from results.store.runs import DONE, Run, read_run

STATES = UNFINISHED, DAMAGED, STALE, UNUSED = "unfinished", "damaged", "stale", "unused"
REMOVED = ".removed"  # ending of a folder that is being removed


@dataclass(frozen=True)
class Leftover:
    """A folder that may go."""

    what: str  # run, stage, data
    state: str  # one of `STATES`
    path: Path
    why: str
    lock: Path  # held by whoever works on it
    size: int = 0  # bytes, those that it shares with another folder included
    changed: str = ""  # when a file in it was last written, ISO 8601, UTC
    held: bool = False  # a process works on it, or may read it

    @property
    def name(self) -> str:
        """The end of its path that tells it apart."""
        return "/".join(self.path.parts[-5:] if self.what == "run" else self.path.parts[-2:])


def find_leftovers(runs_dir: Path, cache: Path, states: Iterable[str] = STATES) -> list[Leftover]:
    """Everything in one of the states, runs first.

    Whole stages and data sets count as held while any process works with the cache: it may be about to read them.
    """
    finished = find_runs(runs_dir)
    found = [*_runs(runs_dir, finished), *_stages(cache, finished), *_data(cache, finished)]
    is_busy = _in_use(cache) or any(map(is_held, runs_dir.glob("*/*/*/*/seed=*/.lock")))
    return [_measured(one, is_busy) for one in found if one.state in states]


def remove(leftovers: Sequence[Leftover], runs_dir: Path) -> tuple[list[Leftover], int]:
    """Removes those that nobody holds; which they were, and how many bytes the disk has back.

    A folder is renamed under its lock before its files go, so that what remains of an interrupted removal is never
    taken for a result. The disk has a file back when the last of its names is gone.
    """
    removed, freed = [], 0
    for one in leftovers:
        if one.held:
            continue
        with ExitStack() as held:
            try:
                if one.lock.parent.is_dir():
                    held.enter_context(locked(one.lock, one.what, wait_seconds=0))
            except StageError:  # taken since it was found
                continue
            freed += sum(file.st_size for file in _files(one.path) if file.st_nlink == 1)
            away = one.path if one.path.name.endswith(REMOVED) else one.path.with_name(f"{one.path.name}{REMOVED}")
            os.rename(one.path, away)
            shutil.rmtree(away)
        if one.what == "run":
            _remove_empty(one.path.parent, runs_dir)
        removed.append(one)
    return removed, freed


def _runs(runs_dir: Path, finished: Sequence[Run]) -> Iterator[Leftover]:
    current = {run.folder for run in finished}
    for folder in sorted(runs_dir.glob("*/*/*/*/seed=*")):
        lock = folder / ".lock"
        if folder.name.endswith(REMOVED):
            yield Leftover("run", DAMAGED, folder, "its removal was interrupted", lock)
        elif seed_of(folder) is None or folder in current:
            continue
        elif not (folder / DONE).exists():
            yield Leftover("run", UNFINISHED, folder, "never finished", lock)
        else:
            try:
                read_run(folder)
                yield Leftover("run", STALE, folder, "replaced by a newer run of the same row", lock)
            except ResultsError as error:
                yield Leftover("run", DAMAGED, folder, _reason(error, folder), lock)


def _stages(cache: Path, finished: Sequence[Run]) -> Iterator[Leftover]:
    versions = current_versions()
    used = stages_below(finished, cache)
    for folder in sorted(cache.glob("*/*")):
        key = re.match(r"[0-9a-f]{16}(?=$|\.)", folder.name)
        if key is None or not folder.is_dir():
            continue
        lock = folder.with_name(f"{key[0]}.lock")
        if folder.name.endswith(REMOVED):
            yield Leftover("stage", DAMAGED, folder, "its removal was interrupted", lock)
        elif folder.name.endswith(PARTIAL):
            yield Leftover("stage", UNFINISHED, folder, "interrupted; the same command would go on from it", lock)
        elif (why := _damage(folder)) is not None:
            yield Leftover("stage", DAMAGED, folder, why, lock)
        elif (version := _version(folder)) not in (None, versions.get(folder.parent.name, version)):
            yield Leftover("stage", STALE, folder, "made by an earlier version of the harness", lock)
        elif folder not in used:
            yield Leftover("stage", UNUSED, folder, "no finished run stands on it", lock)


def _data(cache: Path, finished: Sequence[Run]) -> Iterator[Leftover]:
    used = {run.record.dataset_fingerprint for run in finished}
    for folder in sorted(path for path in (cache / PREPARED).glob("*") if path.is_dir()):
        name = re.sub(r"^\.(.+)\.[0-9a-f]{8}\.(tmp|old)$", r"\1", folder.name).removesuffix(REMOVED)
        lock = folder.with_name(f"{name}.lock")
        if name != folder.name:
            yield Leftover("data", UNFINISHED, folder, "its preparation or removal was interrupted", lock)
            continue
        try:
            meta = read_meta(folder)
            _check_tables(folder, meta)
        except LayoutError as error:
            yield Leftover("data", STALE, folder, _reason(error, folder), lock)
        except (DataError, KeyError) as error:
            yield Leftover("data", DAMAGED, folder, _reason(error, folder), lock)
        else:
            if meta["fingerprint"] not in used:
                yield Leftover("data", UNUSED, folder, f"no finished run is of it ({meta['name']})", lock)


def _check_tables(folder: Path, meta: dict[str, Any]) -> None:
    for file, digest in meta["sha256"].items():
        if not (folder / file).exists() or sha256(folder / file) != digest:
            raise DataError(f"{folder / file}: missing or damaged; prepare the data set again")


def _damage(folder: Path) -> str | None:
    """Why a stage that should be whole is not; None if it is."""
    if not (folder / "stage.json").exists():
        return "stage.json is missing"
    try:
        for path in folder.glob("*.json"):
            read_json(path, dict if path.name == "stage.json" else object)
    except StageError as error:
        return _reason(error, folder)
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, framework="np"):  # looks at the header, and whether the file has its length
                pass
        except (SafetensorError, OSError):
            return f"{path.name} is cut short or damaged"
    return None


def _version(folder: Path) -> int | None:
    """The version of the code that made a stage; None where the harness did not write it down yet."""
    version: int | None = json.loads((folder / "stage.json").read_text()).get("version")
    return version


def _reason(error: Exception, folder: Path) -> str:
    """The error without its remedy and without the folder, which is told already."""
    return str(error).partition(";")[0].replace(f"{folder}/", "").replace(f"{folder}: ", "").removeprefix(f"{folder} ")


def _in_use(cache: Path) -> bool:
    """Whether a process works with the cache; the locks of killed ones are removed."""
    locks = list((cache / IN_USE).glob("*.lock"))
    held = [path for path in locks if is_held(path)]
    for path in set(locks) - set(held):
        path.unlink(missing_ok=True)
    return bool(held)


def _measured(one: Leftover, is_busy: bool) -> Leftover:
    files = _files(one.path)
    newest = max((file.st_mtime for file in files), default=one.path.stat().st_mtime)
    is_read = is_busy and one.state == UNUSED
    return replace(
        one,
        size=sum(file.st_size for file in files),
        changed=datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds"),
        held=is_read or is_held(one.lock),
    )


def _files(folder: Path) -> list[os.stat_result]:
    return [path.lstat() for path in folder.rglob("*") if not path.is_dir()]


def _remove_empty(folder: Path, top: Path) -> None:
    """Removes the folder and those above it, below `top`, as far as they are empty."""
    while folder != top and top in folder.parents and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
