"""A data set by its name or path, prepared when it is not yet: the way in for everything that needs one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.config import digest, merged
from harness.data.catalog import NAMED
from harness.data.formats import Columns, SourceFiles, locate, read_files
from harness.data.prepare import LAYOUT, META, PrepareConfig, prepare
from harness.data.unseen_users import UnseenUsersConfig, derived_folder, prepare_unseen_users
from harness.errors import DataError, UsageError, nearest
from harness.stages import locked

PREPARED = "prepared"  # the cache's folder of prepared data sets

Protocol = Literal["leave-one-out", "unseen-users"]  # unseen-users: the same, but nothing is learnt of some users


@dataclass(frozen=True)
class Source:
    """A data set as a user names it, and how its files are read and filtered."""

    name: str  # of a named data set, or a path
    format: str | None = None
    metadata: Path | None = None
    columns: Columns = field(default_factory=Columns)
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of `PrepareConfig` that differ from the default
    protocol: Protocol = "leave-one-out"

    @property
    def is_named(self) -> bool:
        """Whether it is one of the harness's own data sets rather than a path."""
        return self.name in NAMED

    @property
    def is_prepared(self) -> bool:
        """Whether it is the folder of a prepared data set."""
        return not self.is_named and (Path(self.name) / META).is_file()

    @property
    def preset(self) -> str:
        """The preset that goes with it: `paper` for the paper's own data sets."""
        return "paper" if self.is_named and NAMED[self.name].category is not None else "lite"

    @property
    def config(self) -> PrepareConfig:
        """How it is prepared; `UsageError` for a value that breaks a rule."""
        config = merged(PrepareConfig(), dict(self.changes))
        assert isinstance(config, PrepareConfig)
        return config

    def check(self) -> None:
        """`UsageError` for reading or filtering options beside a data set that is fixed, and for unknown names."""
        options = [self.format, self.metadata, *asdict(self.columns).values(), *self.changes.values()]
        if (self.is_named or self.is_prepared) and any(option is not None for option in options):
            raise UsageError(
                f"options for reading and filtering need raw files, but '{self.name}' is prepared in a fixed way; "
                "leave them out, or name a file"
            )
        if not self.is_named and not Path(self.name).exists():
            if "/" in self.name or "." in self.name:
                raise DataError(f"{self.name}: no such file or folder; check the path")
            raise UsageError(
                f"unknown data set '{self.name}', and no such path; {nearest(self.name, NAMED)}, or a path"
            )


def open_dataset(source: Source, cache: Path, *, again: bool = False) -> Path:
    """The folder of the prepared data set, prepared now if it is not there yet (`again`: in any case).

    `DataError` and `UsageError` in one line for what cannot be read or prepared.
    """
    source.check()
    original = _open_original(source, cache, again=again)
    if source.protocol == "leave-one-out":
        return original
    config = UnseenUsersConfig()
    folder = derived_folder(original, config, cache / PREPARED)
    with _preparing(folder, folder.name):
        if again or not (folder / META).exists():
            prepare_unseen_users(original, config, folder)
    return folder


def _open_original(source: Source, cache: Path, *, again: bool) -> Path:
    """The folder of the prepared data set with all its users."""
    if source.is_prepared:
        return Path(source.name)
    if source.is_named:
        named = NAMED[source.name]
        folder = cache / PREPARED / named.name
        with _preparing(folder, named.name):
            if again or not (folder / META).exists():
                prepare(named.read(cache), named.config, folder, named.name, expected=named.expected)
        return folder
    files = locate(source.name, format=source.format, metadata=source.metadata, columns=source.columns)
    name = dataset_name(Path(source.name))
    folder = cache / PREPARED / f"{name}-{_key(source, files)}"
    with _preparing(folder, name):
        if again or not (folder / META).exists():
            prepare(read_files(files, columns=source.columns), source.config, folder, name)
    return folder


def _preparing(folder: Path, name: str) -> locked:
    """A lock, so that of two processes the second waits and then finds the first one's work."""
    return locked(folder.with_name(f"{folder.name}.lock"), f"the preparation of '{name}'", wait_seconds=-1)


def dataset_name(path: Path) -> str:
    """What a data set at a path is called: the folder's or the file's name, without endings."""
    path = path.resolve()
    return path.name if path.is_dir() else path.name.split(".")[0]


def prepared_folders(cache: Path) -> list[Path]:
    """All prepared data sets in the cache, the oldest first."""
    folders = [path.parent for path in (cache / PREPARED).glob(f"*/{META}")]
    return sorted(folders, key=lambda folder: folder.stat().st_mtime_ns)


def _key(source: Source, files: SourceFiles) -> str:
    """Names what the files hold (by their sizes and times) and how they are read and filtered."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files.all]
    return digest([LAYOUT, files.format, stats, asdict(source.columns), source.config.model_dump(mode="json")])[:12]
