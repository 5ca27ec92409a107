"""The triple of ETEGRec's authors: `<name>.{train,valid,test}.jsonl` with `inter_history` and `target_id`.

The item ids are those of `<name>.emb_map.json`, where it lies beside them (METHODS A.5).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from harness.data.files import json_lines, readable
from harness.data.formats.format import Columns, Format, Head, ragged_frame, stem
from harness.errors import DataError


def recognises(head: Head) -> bool:
    """Whether the first line is a sample."""
    return head.first.startswith("{") and '"inter_history"' in head.first and '"target_id"' in head.first


def triple_of(file: Path) -> tuple[Path, ...]:
    """The files of train, valid and test, given one of them; `DataError` where one is missing."""
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


def item_map(file: Path) -> Path | None:
    """The file with the authors' item numbers."""
    mapped = file.with_name(f"{stem(file)}.emb_map.json")
    return mapped if mapped.exists() else None


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
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
    return ragged_frame(pl.Series(users, dtype=pl.String), pl.Series(rows, dtype=pl.List(pl.String)))


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


def item_order(path: Path) -> tuple[str, ...]:
    """Item keys in the order of the authors' integers, so that row i of their vectors is our item i."""
    try:
        with readable(path) as stream:
            places = json.load(stream)
        ordered = sorted((int(place), key) for key, place in places.items() if key != "[PAD]")
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError):
        raise DataError(f"{path}: the file must be one JSON object of item: integer") from None
    return tuple(key for _, key in ordered)


FORMAT = Format("etegrec-jsonl", recognises, read, parts=triple_of, metadata=item_map, item_order=item_order)
