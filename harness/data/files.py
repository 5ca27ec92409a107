"""Raw files as text: plain or gzipped, and lines of JSON; what is broken is told by file and line."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from harness.errors import DataError


@contextmanager
def readable(path: Path) -> Iterator[TextIO]:
    """A text stream of a plain or gzipped UTF-8 file (told by its first two bytes), a leading BOM removed.

    `DataError` that names the file when its gzip data or its UTF-8 turns out to be broken.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            yield io.TextIOWrapper(data, encoding="utf-8-sig")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise DataError(f"{path}: the gzip data ends early or is damaged; fetch the file again") from None
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise DataError(f"{path}: text must be UTF-8, but byte {byte:#04x} is not; convert the file") from None


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number (from 1) and its object; `DataError` for a line that is no JSON object."""
    with readable(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}:{number}: each line must be a JSON object, but {error.msg} at column {error.colno}: "
                    f"{excerpt(line)}; mend or remove the line"
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{path}:{number}: each line must be a JSON object, but got {excerpt(line)}")
            yield number, record


def excerpt(line: str, width: int = 60) -> str:
    """The line's start, quoted, for a message."""
    line = line.rstrip("\n")
    return repr(line if len(line) <= width else line[:width] + "…")
