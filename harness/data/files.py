"""Raw files as text: plain or gzipped, and lines of JSON; what is broken is told by file and line."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from harness.errors import DataError

EXCERPT = 60  # characters of a line that a message quotes
HEAD_SIZE = 1 << 16  # characters that tell a file's kind
OTHER_FILES = {  # their first bytes; what they are, and the remedy
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ": "an xz file; unpack it first",
    b"(\xb5/\xfd": "a zstd file; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"ARROW1": "an Arrow file; save it as parquet",
    b"\x89HDF": "an HDF5 file; save it as parquet",
}


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
            raise DataError(not_utf8(path, error.object) or f"{path}: text must be UTF-8; convert the file") from None


def check_text(path: Path) -> None:
    """`DataError` for an empty file, and one that says what a file is whose beginning is not whole UTF-8 text."""
    with readable(path) as stream:
        text = stream.read(HEAD_SIZE)
    if not text:
        raise DataError(f"{path}: the file is empty")
    if told := not_utf8(path, text.encode()):
        raise DataError(told)


def not_utf8(path: Path, head: bytes) -> str | None:
    """What a file is that begins with these bytes, and the remedy; None for UTF-8 text, whose end may be cut."""
    for magic, kind in OTHER_FILES.items():
        if head.startswith(magic):
            return f"{path}: must be a text, gzip or parquet file, but is {kind}"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or head.count(0) > len(head) // 4 > 2:
        has_mark = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "UTF-16" if has_mark else "UTF-16BE" if head[:1] == b"\0" else "UTF-16LE"
    else:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)
            return None
        except UnicodeDecodeError as error:
            if any(byte < 9 for byte in head):
                return (
                    f"{path}: not an interaction file of a known format: it is no text; name another, or its --format"
                )
            byte, encoding = head[error.start], "WINDOWS-1252"
            told = f"byte {byte:#04x} is not: it looks like Latin-1 or Windows-1252"
    if encoding != "WINDOWS-1252":
        told = f"this is {encoding}"
    name = shlex.quote(str(path))
    return f"{path}: text must be UTF-8, but {told}; convert it: iconv -f {encoding} -t UTF-8 {name} > NEW"


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


def excerpt(line: str) -> str:
    """The line's start, quoted, for a message."""
    line = line.rstrip("\n")
    return repr(line if len(line) <= EXCERPT else line[:EXCERPT] + "…")
