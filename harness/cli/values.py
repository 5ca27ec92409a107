"""What option texts mean: seeds, lists of names, a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import FieldError, UsageError, nearest

MOST_SEEDS, LARGEST_SEED = 100, 2**63 - 1
PUBLISHED = ("paper", "elsewhere", "all")  # what --published shows


def seeds_of(text: str) -> list[int]:
    """`3` is three seeds, 0, 1, 2; `0` is seed 0; with a comma the seeds themselves: `0,7`, or `7,` for one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--seeds must be a number of seeds, or seeds with commas, but got '{text}'; write 3 or 0,1,2")
    numbers = list(dict.fromkeys(int(part) for part in parts))
    if max(numbers) > LARGEST_SEED:
        raise UsageError(f"--seeds must be at most {LARGEST_SEED}, but got {max(numbers)}; choose smaller ones")
    if "," in text:
        return numbers
    if numbers[0] > MOST_SEEDS:
        raise UsageError(
            f"--seeds {text} means {numbers[0]:,} seeds, but at most {MOST_SEEDS} are taken at once; for seed "
            f"{numbers[0]} alone write {numbers[0]}, with a comma"
        )
    return list(range(max(1, numbers[0])))


def names_of(text: str, known: Sequence[str], what: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Names, and names of groups of them, with commas between; `UsageError` for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"a {what} must be named, but got '{text}'; {nearest(text, [*known, *groups])}")
    for name in names:
        if name not in known and name not in groups:
            raise UsageError(f"unknown {what} '{name}'; {nearest(name, [*known, *groups])}")
    return list(dict.fromkeys(one for name in names for one in groups.get(name, [name])))


def completed(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `paper` behind a `--published` that stands alone, as it could before it took a word."""
    made: list[str] = []
    for place, argument in enumerate(arguments):
        made.append(argument)
        if argument == "--published" and (place + 1 == len(arguments) or arguments[place + 1] not in PUBLISHED):
            made.append(PUBLISHED[0])
    return made


def names_in(text: str, option: str) -> list[str]:
    """Whatever names stand in the text, with commas between, each once; `UsageError` where there is none."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise UsageError(f"{option} must name something, but got '{text}'; write names with commas between")
    return names


def by_group_alone(text: str, names: Sequence[str]) -> list[str]:
    """Those of the names that a text gives through groups alone, and not by themselves."""
    named = {name.strip() for name in text.split(",")}
    return [name for name in names if name not in named]


def formats_of(text: str) -> list[str]:
    """Formats of a figure, with commas between; `UsageError` for an unknown one."""
    from results.figures.rendering import FORMATS

    formats = [part.strip() for part in text.split(",")]
    unknown = [part for part in formats if part not in FORMATS]
    if unknown:
        raise UsageError(f"--format must be of {', '.join(FORMATS)}, with commas between, but got '{unknown[0]}'")
    return formats


Table = dict[str, Any]


def config_file(path: Path) -> dict[str, Table]:
    """The tables of a TOML file, by method; `UsageError` with the line for broken TOML or a value outside a table."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: must be TOML, but {error}; mend that line") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: must be UTF-8 text, but byte {error.start} is not; save it as UTF-8") from None
    for name, value in content.items():
        if not isinstance(value, dict):
            where = f"{path}:{line_of(path, name)}"
            raise UsageError(f"{where}: '{name}' must stand in a table, but stands alone; put it below, say, [etegrec]")
    return content


@contextmanager
def telling_lines(path: Path | None, above: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Puts file and line before a `FieldError` of a field that the TOML file gives and `above` does not overlay."""
    try:
        yield
    except FieldError as error:
        is_above = as_spelled(error.field) in dotted_names(above or {})
        line = None if path is None or is_above else line_of(path, error.field)
        if line is None:
            raise
        raise UsageError(f"{path}:{line}: {error}") from None


def line_of(path: Path, field: str) -> int | None:
    """The line on which the TOML file begins to give the dotted field or table; None where it does not.

    The file's first lines are TOML too, up to any line but those within a value that takes several.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    begin = 1
    for end in range(1, len(lines) + 1):
        try:
            content = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if as_spelled(field) in dotted_names(content):
            return begin
        begin = end + 1
    return None


def dotted_names(table: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Of each field and table, `as_spelled`."""
    names = set()
    for key, value in table.items():
        names.add(as_spelled(f"{prefix}{key}"))
        if isinstance(value, Mapping):
            names |= dotted_names(value, f"{prefix}{key}.")
    return names


def as_spelled(field: str) -> str:
    """The dotted field as users may write it: `lambda` for `lambda_`."""
    return ".".join(part.rstrip("_") for part in field.split("."))
