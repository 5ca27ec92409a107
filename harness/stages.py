"""Content-addressed stages: a result is named by what made it, so equal work is done once and never twice.

A stage's key is the hash of its kind, config, seed, data set and its inputs' keys. Every method, ablation, seed
and sweep trial that needs the same stage shares its folder, `cache/<kind>/<key>/`. While a stage is being computed its
folder is named `<key>.partial`; checkpoints in it let an interrupted stage go on where it stopped.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from harness.config import Config, digest
from harness.errors import StageError
from results.store.whole_files import write_whole

RESUME_FOLDER = "resume"  # checkpoints of an unfinished stage; removed when it is done
PARTIAL = ".partial"  # ending of the folder of an unfinished stage
IN_USE = "in-use"  # the cache's folder of the locks of processes that work with it


@dataclass(frozen=True)
class Stage:
    """One computation with a name for its result.

    `build(config, dataset, inputs, context)` writes the result into `context.folder`; `inputs` maps each input's name
    to its finished folder. It must be importable by name, since stages travel to worker processes.
    """

    kind: str
    config: Config
    build: Callable[..., None]
    dataset: str  # fingerprint of the prepared data set
    seed: int
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)  # what else decides the result: contract, precision
    effort: float = 1.0  # about how long it takes, in epochs of a generator; names nothing
    version: int = 1  # raised when the code of `build` changes its result

    @cached_property
    def key(self) -> str:
        """16 hex digits that name the result."""
        return digest(
            {
                "kind": self.kind,
                "version": self.version,
                "config": self.config.model_dump(mode="json"),
                "dataset": self.dataset,
                "seed": self.seed,
                "inputs": {name: stage.key for name, stage in self.inputs.items()},
                "conditions": dict(self.conditions),
            }
        )

    def with_ancestors(self) -> list[Stage]:
        """This stage after all that it needs, each once, inputs first."""
        ordered: dict[str, Stage] = {}
        for stage in self.inputs.values():
            ordered.update((ancestor.key, ancestor) for ancestor in stage.with_ancestors())
        ordered[self.key] = self
        return list(ordered.values())


@dataclass(frozen=True)
class StageStore:
    """Finished and unfinished stages under one cache folder."""

    root: Path

    def folder(self, stage: Stage) -> Path:
        """Where the stage's finished result lies."""
        return self.root / stage.kind / stage.key

    def is_done(self, stage: Stage) -> bool:
        """Whether the result is there, whole."""
        return (self.folder(stage) / "stage.json").exists()

    def compute(self, stage: Stage, build: Callable[[Path], dict[str, Any]], *, wait_seconds: float = -1) -> Path:
        """The stage's finished folder, computed by `build(partial folder)` unless it is there already.

        `build` returns what to record of the computation (seconds, memory, environment). Two processes never compute
        the same stage: the second waits for the first, `wait_seconds` at most (-1: as long as it takes).
        """
        final = self.folder(stage)
        partial = final.with_name(f"{stage.key}{PARTIAL}")
        with (
            full_disk_as_one_line(final),
            locked(final.with_name(f"{stage.key}.lock"), stage.kind, wait_seconds),
        ):
            if not self.is_done(stage):
                partial.mkdir(parents=True, exist_ok=True)
                record = build(partial)
                shutil.rmtree(partial / RESUME_FOLDER, ignore_errors=True)
                write_json(partial / "stage.json", {**self.describe(stage), **record})
                os.replace(partial, final)
        return final

    def describe(self, stage: Stage) -> dict[str, Any]:
        """What made the stage, as plain JSON."""
        return {
            "kind": stage.kind,
            "key": stage.key,
            "version": stage.version,
            "config": stage.config.model_dump(mode="json"),
            "dataset": stage.dataset,
            "seed": stage.seed,
            "inputs": {name: f"{child.kind}/{child.key}" for name, child in stage.inputs.items()},
            "effort": stage.effort if math.isfinite(stage.effort) else None,
        }

    def record(self, stage: Stage) -> dict[str, Any]:
        """What was recorded when the finished stage was computed."""
        return read_json(self.folder(stage) / "stage.json")


class locked:
    """A lock file held by one process, released even when that process is killed."""

    def __init__(self, path: Path, what: str, wait_seconds: float):
        self.what = what
        self.path = path
        self.wait_seconds = wait_seconds
        self.lock = FileLock(path)

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=self.wait_seconds)
        except Timeout:
            raise StageError(
                f"one process at a time may work on {self.what}, but another one holds {self.path}; "
                "wait for it or stop it, then give the same command again"
            ) from None

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@contextmanager
def alive(folder: Path) -> Iterator[str]:
    """An id of this process's own: while the block lasts, and it lives, it holds the lock `<id>.lock` in the folder."""
    me = uuid4().hex[:12]
    path = folder / f"{me}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path):
            yield me
    finally:
        path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file; a file that is not there is not made."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


class full_disk_as_one_line:
    """Turns the operating system's `no space left` into a `StageError` that says what to do."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # safetensors reports the system's error inside its own, so the text is looked at too.
        if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or (
            error is not None and "No space left on device" in str(error)
        ):
            raise StageError(
                f"the disk must have room for {self.path}, but it is full; free some space and give the same command "
                "again: it goes on from the last checkpoint"
            ) from error


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, which no reader sees half of."""
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file; `StageError` when it is cut short or holds another kind."""
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise StageError(
            f"{path}:{error.lineno}: must be whole JSON, but {error.msg}; delete the file's folder"
        ) from None
    if not isinstance(content, kind):
        found = type(content).__name__
        raise StageError(f"{path}: must hold a {kind.__name__}, but holds a {found}; delete the file's folder")
    return content
