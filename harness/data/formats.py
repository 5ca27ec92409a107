"""Raw interaction files → one table of (user, item, time) in the file's order, and the items' texts.

A format is recognised from the file's content, never from its name alone, and can be forced:

| format | file | beside it |
|---|---|---|
| amazon2023 | csv `user_id,parent_asin,rating,timestamp` (milliseconds; header optional) | metadata jsonl |
| recbole | tab-separated atomic `.inter`, header `name:type` | `.item` |
| s3rec | one user a line: `user item item ...` | `*item2attributes*.json` |
| etegrec-jsonl | `<name>.{train,valid,test}.jsonl` with `inter_history` and `target_id` | `<name>.emb_map.json` |
| csv, parquet | any table, its columns named by the user | |

Text files may be gzipped. Reading is one vectorised pass; only when it fails does a slow pass look for the
line that broke the rule.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from harness.data.item_text import (
    MetadataReader,
    amazon_texts,
    attribute_texts,
    excerpt,
    json_lines,
    readable,
    recbole_texts,
)
from harness.errors import DataError, UsageError, nearest

FORMATS = ("amazon2023", "recbole", "s3rec", "etegrec-jsonl", "csv", "parquet")
AMAZON_COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a generic table; without `time` the rows' order is the time."""

    user: str | None = None
    item: str | None = None
    time: str | None = None

    @property
    def named(self) -> bool:
        """Whether the user named any column, which makes a text table a generic one."""
        return any((self.user, self.item, self.time))


@dataclass(frozen=True)
class RawInteractions:
    """What a source holds before any filter: one row per interaction, in the source's order."""

    frame: pl.DataFrame  # user, item: Categorical; time: Int64 or Float64, comparable within a user only
    texts: Mapping[str, str | None] | None = None  # by item key; None: the source carries no text at all
    item_order: tuple[str, ...] | None = None  # a given order of item ids; else the order of first appearance
    synthetic: bool = False


@dataclass(frozen=True)
class SourceFiles:
    """The files of one data set and their format."""

    format: str
    interactions: tuple[Path, ...]  # one file; the three of etegrec-jsonl: train, valid, test
    metadata: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that is read."""
        return (*self.interactions, *([self.metadata] if self.metadata else []))


def read_interactions(
    path: Path | str,
    *,
    format: str | None = None,
    metadata: Path | str | None = None,
    columns: Columns | None = None,
    text_fields: Collection[str] | None = None,
) -> RawInteractions:
    """The interactions of a file or folder, with the texts of its items where metadata lies beside it.

    `text_fields` chooses and orders the metadata fields that make an item's text (default: METHODS B.3).
    Raises `DataError` naming file, line, rule and value; `UsageError` for an unknown format.
    """
    return read_files(
        locate(path, format=format, metadata=metadata, columns=columns), columns=columns, text_fields=text_fields
    )


def read_files(
    files: SourceFiles, *, columns: Columns | None = None, text_fields: Collection[str] | None = None
) -> RawInteractions:
    """The interactions and texts of files found by `locate`."""
    path, columns = files.interactions[-1], columns or Columns()
    item_order = None
    if files.format == "amazon2023":
        frame = _read_amazon(path)
    elif files.format == "recbole":
        frame = _read_recbole(path)
    elif files.format == "s3rec":
        frame = _read_s3rec(path)
    elif files.format == "etegrec-jsonl":
        frame = _read_etegrec(files.interactions)
        item_order = _emb_map_order(files.metadata) if files.metadata else None
    elif files.format == "csv":
        frame = _read_csv(path, columns)
    else:
        frame = _read_parquet(path, columns)
    if frame.is_empty():
        raise DataError(f"{path}: the file holds no interaction")
    texts = None
    if files.metadata and files.format in _METADATA_READERS:
        wanted = set(frame["item"].unique().cast(pl.String).to_list())
        texts = _METADATA_READERS[files.format](files.metadata, wanted, text_fields)
    return RawInteractions(frame, texts, item_order)


# --- which files, which format ---------------------------------------------------------------------------


def locate(
    path: Path | str,
    *,
    format: str | None = None,
    metadata: Path | str | None = None,
    columns: Columns | None = None,
) -> SourceFiles:
    """The files of the data set at `path` (a file, or a folder that holds one data set) and their format."""
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise UsageError(f"unknown format '{format}'; {nearest(format, FORMATS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if metadata is not None and not Path(metadata).is_file():
        raise DataError(f"{metadata}: no such metadata file")
    named = columns is not None and columns.named

    if path.is_dir():
        found = _interaction_file(path, format, named)
    else:
        found = path, format or _table_format(recognise(path), named)
    file, format = found
    if format not in FORMATS:
        raise DataError(
            f"{file}: not an interaction file of a known format ({format}); "
            f"name one with --format: {', '.join(FORMATS)}"
        )
    interactions = _etegrec_triple(file) if format == "etegrec-jsonl" else (file,)
    beside = Path(metadata) if metadata else _metadata_beside(interactions[-1], format)
    return SourceFiles(format, interactions, beside)


def recognise(path: Path) -> str:
    """The kind of a file's content: one of `FORMATS`, `amazon-metadata`, `recbole-item`, `s3rec-attributes`,
    `etegrec-map` or `unknown`; `DataError` for an empty file."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    if not magic:
        raise DataError(f"{path}: the file is empty")
    if magic == b"PAR1":
        return "parquet"
    try:
        with readable(path) as stream:
            head = stream.read(1 << 16)
    except DataError:  # a picture, an archive, a damaged file: nothing that can be told from its content
        return "unknown"
    lines = head.splitlines()
    lines = lines[:-1] if len(head) == 1 << 16 and len(lines) > 1 else lines  # the last may be cut
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return _recognise_text(lines)


def _recognise_text(lines: list[str]) -> str:
    first = lines[0].strip()
    if first.startswith("{"):
        return _recognise_json(first)
    fields = first.split("\t")
    if all(re.fullmatch(r"[^:\s]+:(token|float)(_seq)?", field) for field in fields):
        names = {field.partition(":")[0] for field in fields}
        return "recbole" if "user_id" in names else "recbole-item" if "item_id" in names else "unknown"
    fields = first.split(",")
    is_amazon_header = fields[0] == "user_id" and "parent_asin" in fields
    if is_amazon_header or re.fullmatch(r"[^,]+,[^,]+,[0-9.]+,[0-9]{9,}", first):
        return "amazon2023"
    if all(re.fullmatch(r"[0-9]+( [0-9]+)+ ?", line) for line in lines[:100]):
        return "s3rec"
    return "csv" if _separator(first) in first else "unknown"


def _recognise_json(first: str) -> str:
    if '"inter_history"' in first and '"target_id"' in first:
        return "etegrec-jsonl"
    if '"parent_asin"' in first:
        return "amazon-metadata"
    if re.match(r'\{\s*"[^"]*"\s*:\s*\[', first):
        return "s3rec-attributes"
    return "etegrec-map" if '"[PAD]"' in first else "unknown"


def _table_format(kind: str, columns_named: bool) -> str:
    """A text table whose columns the user named is read by those names."""
    return "csv" if columns_named and kind in ("amazon2023", "csv", "recbole") else kind


_METADATA_KINDS = {"amazon2023": "amazon-metadata", "recbole": "recbole-item", "s3rec": "s3rec-attributes"}
_METADATA_READERS: dict[str, MetadataReader] = {
    "amazon2023": amazon_texts,
    "recbole": recbole_texts,
    "s3rec": attribute_texts,
}


def _plain_files(folder: Path) -> list[Path]:
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.stat().st_size > 0]


def _interaction_file(folder: Path, format: str | None, columns_named: bool) -> tuple[Path, str]:
    kinds = {file: _table_format(recognise(file), columns_named) for file in _plain_files(folder)}
    found = [file for file, kind in kinds.items() if kind in ((format,) if format else FORMATS)]
    if found and all(kinds[file] == "etegrec-jsonl" for file in found):
        found = [file for file in found if ".test." in file.name] or found
    if len(found) == 1:
        return found[0], kinds[found[0]]
    wanted = f"{format} file" if format else "interaction file of a known format"
    if not found:
        raise DataError(f"{folder}: the folder holds no {wanted}; name the file itself, and --format if need be")
    raise DataError(
        f"{folder}: the folder must hold one {wanted}, but holds {len(found)}: "
        f"{', '.join(file.name for file in found)}; name the one that you mean"
    )


def _metadata_beside(file: Path, format: str) -> Path | None:
    """The metadata file in the same folder; of several, the one whose name holds the interaction file's stem."""
    if format == "etegrec-jsonl":
        mapped = file.with_name(f"{_stem(file)}.emb_map.json")
        return mapped if mapped.exists() else None
    if format not in _METADATA_KINDS:
        return None
    others = [other for other in _plain_files(file.parent) if other != file]
    found = [other for other in others if recognise(other) == _METADATA_KINDS[format]]
    namesakes = [other for other in found if _stem(file).lower() in other.name.lower()]
    found = namesakes if len(found) > 1 else found
    if len(found) > 1:
        raise DataError(
            f"{file}: one metadata file may lie beside it, but there are {len(found)}: "
            f"{', '.join(other.name for other in found)}; choose one with --metadata"
        )
    return found[0] if found else None


def _stem(file: Path) -> str:
    """The name up to its first known ending: `Beauty` of `Beauty.txt.gz`, `x` of `x.test.jsonl`."""
    return re.sub(r"(\.(train|valid|test))?\.(csv|tsv|txt|inter|jsonl|json)(\.gz)?$", "", file.name)


def _etegrec_triple(file: Path) -> tuple[Path, ...]:
    triple = tuple(
        file.with_name(re.sub(r"\.(train|valid|test)\.", f".{split}.", file.name))
        for split in ("train", "valid", "test")
    )
    missing = [path.name for path in triple if not path.exists()]
    if missing or len(set(triple)) != 3:
        raise DataError(
            f"{file}: etegrec-jsonl needs the files <name>.train.jsonl, <name>.valid.jsonl and <name>.test.jsonl, "
            f"but {', '.join(missing) or file.name} {'is missing' if missing else 'is named otherwise'}"
        )
    return triple


# --- text tables -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """How a delimited text file is to be read."""

    path: Path
    separator: str
    names: tuple[str, ...]  # of all columns
    header: bool
    user: str
    item: str
    time: str | None
    time_type: type[pl.DataType] = pl.Int64
    quote: str | None = '"'


def _read_amazon(path: Path) -> pl.DataFrame:
    first = _first_line(path).split(",")
    if first[0] == "user_id":
        names, header = _checked_names(path, first, ("user_id", "parent_asin", "timestamp")), True
    else:
        names, header = AMAZON_COLUMNS, False
    return _read_table(_Table(path, ",", names, header, "user_id", "parent_asin", "timestamp"))


def _read_recbole(path: Path) -> pl.DataFrame:
    first = _first_line(path).split("\t")
    names = _checked_names(path, [field.partition(":")[0] for field in first], ("user_id", "item_id"))
    time = "timestamp" if "timestamp" in names else None
    return _read_table(_Table(path, "\t", names, True, "user_id", "item_id", time, pl.Float64, quote=None))


def _read_csv(path: Path, columns: Columns) -> pl.DataFrame:
    line = _first_line(path)
    separator = _separator(line)
    header = next(csv.reader([line], delimiter=separator))
    user, item = _named_columns(path, header, columns)
    names = _checked_names(path, header, (user, item, *([columns.time] if columns.time else [])))
    time_type: type[pl.DataType] = pl.String
    return _read_table(_Table(path, separator, names, True, user, item, columns.time, time_type))


def _named_columns(path: Path, header: Sequence[str], columns: Columns) -> tuple[str, str]:
    if not columns.user or not columns.item:
        raise DataError(
            f"{path}: the format is not one that names its columns; name them with --user-col and --item-col "
            f"(and --time-col), out of: {', '.join(header)}"
        )
    return columns.user, columns.item


def _read_table(table: _Table) -> pl.DataFrame:
    types: dict[str, type[pl.DataType]] = dict.fromkeys(table.names, pl.String)
    if table.time:
        types[table.time] = table.time_type
    try:
        frame = (
            pl.scan_csv(
                table.path,
                separator=table.separator,
                has_header=False,
                skip_rows=int(table.header),
                schema=types,
                quote_char=table.quote,
            )
            .select(
                pl.col(table.user).cast(pl.Categorical).alias("user"),
                pl.col(table.item).cast(pl.Categorical).alias("item"),
                (pl.col(table.time) if table.time else pl.int_range(pl.len(), dtype=pl.Int64)).alias("time"),
                # Polars checks the number of fields only when it reads all columns.
                pl.any_horizontal(pl.col(name).is_null() for name in table.names).alias("incomplete"),
            )
            .collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        _raise_first_bad_row(table)
        raise DataError(f"{table.path}: {str(error).splitlines()[0]}") from None
    if frame["incomplete"].any():  # by too few fields, or by empty ones, which only some columns may have
        _raise_first_bad_row(table)
    frame = frame.drop("incomplete")
    if frame["time"].dtype == pl.String:
        frame = frame.with_columns(_parsed_times(table, frame["time"]))
    if frame["time"].dtype == pl.Float64 and not frame["time"].is_finite().all():
        _raise_first_bad_row(table)
    return frame


def _parsed_times(table: _Table, texts: pl.Series) -> pl.Series:
    """Whole numbers, else decimal numbers, else ISO 8601 dates (as microseconds since 1970)."""
    for kind in (pl.Int64, pl.Float64):
        times = texts.cast(kind, strict=False)
        if times.null_count() == 0:
            return times
    for parse in (lambda: texts.str.to_datetime(strict=False, time_unit="us"), lambda: texts.str.to_date(strict=False)):
        try:
            times = parse()
        except pl.exceptions.ComputeError:  # polars could not guess the pattern from the first rows
            continue
        if times.null_count() == 0:
            return times.cast(pl.Datetime("us")).to_physical().alias("time")
    _raise_first_bad_row(table)
    raise DataError(
        f"{table.path}: column '{table.time}' must hold numbers or dates of one pattern, but the patterns differ"
    )


def _raise_first_bad_row(table: _Table) -> None:
    """Raise for the first row that breaks a rule; the slow pass, taken only after the fast one failed."""
    time_place = table.names.index(table.time) if table.time else None
    places = {"user": table.names.index(table.user), "item": table.names.index(table.item)}
    with readable(table.path) as stream:
        rows = csv.reader(
            stream, delimiter=table.separator, quoting=csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE
        )
        for row in rows:
            at = f"{table.path}:{rows.line_num}"
            if (table.header and rows.line_num == 1) or not row:
                continue
            if len(row) != len(table.names):
                raise DataError(
                    f"{at}: each row must have {len(table.names)} fields ({table.separator.join(table.names)}), "
                    f"but has {len(row)}: {excerpt(table.separator.join(row))}; mend or remove the row"
                )
            for role, place in places.items():
                if not row[place]:
                    raise DataError(f"{at}: the {role} must not be empty; mend or remove the row")
            if time_place is not None and not _is_time(row[time_place], table.time_type):
                raise DataError(f"{at}: {_TIME_RULES[table.time_type]}, but got {excerpt(row[time_place])}")


_TIME_RULES = {
    pl.Int64: "the timestamp must be a whole number (milliseconds)",
    pl.Float64: "the timestamp must be a finite number",
    pl.String: "the time must be a number or an ISO 8601 date",
}


def _is_time(text: str, kind: type[pl.DataType]) -> bool:
    if kind == pl.Int64:
        return re.fullmatch(r"[+-]?[0-9]{1,18}", text) is not None
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return True
    return kind == pl.String and re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?", text) is not None


def _first_line(path: Path) -> str:
    with readable(path) as stream:
        line = stream.readline().rstrip("\n")
    if not line:
        raise DataError(f"{path}: the file is empty, or its first line is")
    return line


def _separator(line: str) -> str:
    return max(",\t;|", key=line.count)


def _checked_names(path: Path, names: Sequence[str], needed: Sequence[str]) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}:1: each column must be named once, but '{repeated[0]}' is named twice")
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(f"{path}:1: no column '{missing[0]}'; the columns are: {', '.join(names)}")
    return tuple(names)


def _read_parquet(path: Path, columns: Columns) -> pl.DataFrame:
    try:
        names = pl.read_parquet_schema(path)
        user, item = _named_columns(path, list(names), columns)
        _checked_names(path, list(names), (user, item, *([columns.time] if columns.time else [])))
        time = pl.col(columns.time) if columns.time else pl.int_range(pl.len(), dtype=pl.Int64)
        frame = (
            pl.scan_parquet(path)
            .select(
                pl.col(user).cast(pl.String).cast(pl.Categorical).alias("user"),
                pl.col(item).cast(pl.String).cast(pl.Categorical).alias("item"),
                time.alias("time"),
            )
            .collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    kind = frame["time"].dtype
    if not (kind.is_numeric() or kind.is_temporal()):
        raise DataError(f"{path}: column '{columns.time}' must hold numbers or dates, but holds {kind}")
    for name in frame.columns:
        if frame[name].null_count():
            row = int(frame[name].is_null().arg_max() or 0)
            raise DataError(f"{path}: row {row + 1}: the {name} must not be null; mend or remove the row")
    is_decimal = kind.is_float() or kind.is_decimal()
    return frame.with_columns(pl.col("time").to_physical().cast(pl.Float64 if is_decimal else pl.Int64))


# --- one line a user -------------------------------------------------------------------------------------


def _read_s3rec(path: Path) -> pl.DataFrame:
    with readable(path) as stream:
        lines = pl.Series("line", stream.read().splitlines(), dtype=pl.String)
    tokens = lines.str.extract_all(r"\S+")
    short = tokens.list.len() < 2
    if short.any():
        number = int(short.arg_max() or 0)
        raise DataError(
            f"{path}:{number + 1}: each line must be 'user item item ...' with one item at least, but got "
            f"{excerpt(lines[number])}; mend or remove the line"
        )
    users = tokens.list.first()
    if not users.is_first_distinct().all():
        number = int((~users.is_first_distinct()).arg_max() or 0)
        raise DataError(
            f"{path}:{number + 1}: each user must have one line, but '{users[number]}' has an earlier one; join them"
        )
    return _ragged_frame(users, tokens.list.slice(1))


def _ragged_frame(users: pl.Series, items: pl.Series) -> pl.DataFrame:
    """One row per interaction, the time being the place in the row, from one list of items per user."""
    return (
        pl.DataFrame(
            {"user": users, "item": items, "time": pl.int_ranges(items.list.len(), dtype=pl.Int64, eager=True)}
        )
        .explode("item", "time")
        .with_columns(pl.col("user", "item").cast(pl.Categorical))
    )


def _read_etegrec(paths: Sequence[Path]) -> pl.DataFrame:
    """Sequences from the authors' triple (METHODS A.5): a user's test history and then the test target.

    Histories there are cut at 50 items, so of a longer sequence only the last 51 interactions come back, and
    such a user yields fewer training samples than the authors' own file holds. The validation file must tell
    the same sequences, line by line: that is the check that the lines pair the same users.
    """
    _, valid_path, test_path = paths
    users, rows = [], []
    for line, (number, user, history, target) in enumerate(_samples(test_path)):
        users.append(user if user is not None else str(line))
        rows.append([*history, target])
        if not history:
            raise DataError(f"{test_path}:{number}: 'inter_history' must hold one item at least")
    valid_lines = 0
    for line, (number, user, history, target) in enumerate(_samples(valid_path)):
        known, after = [*history, target], rows[line][:-1] if line < len(rows) else []
        # Both histories are cut at the same length, so `after` ends `known` and is at most one item shorter.
        tells_the_same = bool(after) and known[-len(after) :] == after and len(known) <= len(after) + 1
        if not tells_the_same or user not in (None, users[line]):
            raise DataError(
                f"{valid_path}:{number}: the line must hold the sequence of the same line of {test_path.name} "
                f"up to its next-to-last item, but does not; the two files list users in different orders"
            )
        valid_lines += 1
    if valid_lines != len(rows):
        raise DataError(
            f"{valid_path}: must have as many lines as {test_path.name}, {len(rows)}, but has {valid_lines}"
        )
    return _ragged_frame(pl.Series(users, dtype=pl.String), pl.Series(rows, dtype=pl.List(pl.String)))


def _samples(path: Path) -> Iterator[tuple[int, str | None, list[str], str]]:
    """Line number, user or None, history and target of each line of an etegrec-jsonl file."""
    for number, record in json_lines(path):
        history = record.get("inter_history")
        if not isinstance(history, list) or "target_id" not in record:
            raise DataError(
                f"{path}:{number}: each line needs 'inter_history' (a list of items) and 'target_id', but has "
                f"{', '.join(record) or 'no key'}"
            )
        user = record.get("user_id")
        yield number, None if user is None else str(user), list(map(str, history)), str(record["target_id"])


def _emb_map_order(path: Path) -> tuple[str, ...]:
    """Item keys in the order of the authors' integers, so that row i of their vectors is our item i."""
    try:
        with readable(path) as stream:
            places = json.load(stream)
        ordered = sorted((int(place), key) for key, place in places.items() if key != "[PAD]")
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError):
        raise DataError(f"{path}: the file must be one JSON object of item: integer") from None
    return tuple(key for _, key in ordered)
