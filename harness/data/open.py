"""A data set by its name or path, prepared when it is not yet: the way in for everything that needs one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.config import digest, merged
from harness.data.catalog import NAMED, NamedDataset
from harness.data.dataset import Dataset
from harness.data.filters import PrepareConfig
from harness.data.formats.format import Columns
from harness.data.formats.read import SourceFiles, locate, read_files
from harness.data.prepare import LAYOUT, META, prepare, read_meta, split_again
from harness.data.splits.registry import split_named
from harness.data.splits.split import LEAVE_ONE_OUT, Split
from harness.errors import DataError, UsageError, nearest
from harness.stages import locked

PREPARED = "prepared"  # the cache's folder of prepared data sets


@dataclass(frozen=True)
class Source:
    """A data set as a user names it, and how its files are read and filtered."""

    name: str  # of a named data set, or a path
    format: str | None = None
    metadata: Path | None = None
    columns: Columns = field(default_factory=Columns)
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of `PrepareConfig` that differ from the default
    split: str = LEAVE_ONE_OUT

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
        least = split_named(self.split).min_interactions
        config = merged(PrepareConfig(min_interactions=least), dict(self.changes))
        assert isinstance(config, PrepareConfig)
        return config

    def check(self) -> None:
        """`UsageError` for reading or filtering options beside a data set that is fixed, and for unknown names."""
        if not self.name.strip():
            raise UsageError(f"a data set must be named, but got '{self.name}'; known: {', '.join(NAMED)}, or a path")
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
    split = split_named(source.split)
    if source.is_prepared:
        original = Path(source.name)
        meta = read_meta(original)
        if split.name == LEAVE_ONE_OUT:
            return original
        name = f"{split.dataset_name(meta['name'])}-{digest([meta['fingerprint'], split.record()])[:12]}"
        make: Callable[[Path], Dataset] = partial(split_again, original, split)
    elif source.is_named:
        named = NAMED[source.name]
        name = split.dataset_name(named.folder_name)
        make = partial(_prepare_named, named, split, cache)
    else:
        files = locate(source.name, format=source.format, metadata=source.metadata, columns=source.columns)
        plain = dataset_name(Path(source.name))
        name = f"{split.dataset_name(plain)}-{_key(source, files)}"
        make = partial(_prepare_files, files, source, split, plain)
    folder = cache / PREPARED / name
    # Of two processes the second waits and then finds the first one's work.
    with locked(folder.with_name(f"{name}.lock"), f"the preparation of '{name}'", wait_seconds=-1):
        if again or not _is_current(folder, split):
            make(folder)
    return folder


def _prepare_named(named: NamedDataset, split: Split, cache: Path, folder: Path) -> Dataset:
    return prepare(named.read(cache), named.config, folder, named.name, split=split, expected=named.expected)


def _prepare_files(files: SourceFiles, source: Source, split: Split, name: str, folder: Path) -> Dataset:
    return prepare(read_files(files, columns=source.columns), source.config, folder, name, split=split)


def _is_current(folder: Path, split: Split) -> bool:
    """Whether the folder holds a data set of this layout, under this split."""
    return _is_readable(folder) and read_meta(folder)["split"] == split.record()


def _is_readable(folder: Path) -> bool:
    try:
        read_meta(folder)
    except DataError:  # prepared by another version, or damaged
        return False
    return True


def dataset_name(path: Path) -> str:
    """What a data set at a path is called: the folder's or the file's name, without endings."""
    path = path.resolve()
    return path.name if path.is_dir() else path.name.split(".")[0]


def prepared_folders(cache: Path) -> list[Path]:
    """All prepared data sets in the cache, the oldest first; those of another version are left out."""
    folders = [path.parent for path in (cache / PREPARED).glob(f"*/{META}") if _is_readable(path.parent)]
    return sorted(folders, key=lambda folder: folder.stat().st_mtime_ns)


def _key(source: Source, files: SourceFiles) -> str:
    """Names what the files hold (by their sizes and times) and how they are read and filtered."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files.all]
    return digest([LAYOUT, files.format, stats, asdict(source.columns), source.config.model_dump(mode="json")])[:12]
