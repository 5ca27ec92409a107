"""The triple of ETEGRec's authors: `<name>.{train,valid,test}.jsonl` with `inter_history` and `target_id`.

The item ids are those of `<name>.emb_map.json`, where it lies beside them (METHODS A.5). Histories there are cut at 50
items, so a longer sequence stands in no line as a whole: it is put together from the lines of all three files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from harness.data.files import json_lines
from harness.data.formats import amazon
from harness.data.formats.format import (
    Columns,
    Exported,
    Format,
    Head,
    RawInteractions,
    beside,
    check_leave_one_out,
    last_two_apart,
    ragged_frame,
    whole_triple,
)
from harness.data.formats.maps import EMBEDDING_MAP, PADDING_KEY
from harness.data.item_features import amazon_features
from harness.data.text.metadata import amazon_texts
from harness.errors import DataError


class Sample(NamedTuple):
    """One line of a file."""

    number: int  # of the line, from 1
    user: str | None  # the authors' own files name none
    items: tuple[str, ...]  # the history, oldest first, and then the target


CUT = 50  # items of a history, as the authors cut it
Window = tuple[str | None, tuple[str, ...]]  # a user, and successive items of theirs


def recognises(head: Head) -> bool:
    """Whether the first line is a sample."""
    return head.first.startswith("{") and '"inter_history"' in head.first and '"target_id"' in head.first


def read(paths: tuple[Path, ...], columns: Columns) -> RawInteractions:
    """Whole sequences, and one line that says what could not be put together.

    A test line tells a user's last 51 items, the validation line one more, and each training sample with a full
    history the item before those that are known. In the end every training sample that the sequences make must be a
    line of the training file, and every line such a sample.
    """
    train_path, valid_path, test_path = paths
    tests = list(_samples(test_path))
    cut = max(len(sample.items) for sample in tests) - 1 if tests else 0
    rows = _last_items(tests, valid_path, test_path)
    lines: dict[Window, int] = {}  # the first line of each training sample
    counts: Counter[Window] = Counter()
    before: dict[Window, list[str]] = defaultdict(list)  # by the last `cut` items of a sample: the one before them
    for number, user, items in _samples(train_path):
        lines.setdefault((user, items), number)
        counts[user, items] += 1
        if len(items) > cut:
            before[user, items[1:]].append(items[0])
    # A window may occur twice, where items are repeated or users are not named. The file lists samples by user and
    # time, so that from the end of both the lines are met in their order.
    for row in reversed(range(len(rows))):
        rows[row] = _reaching_back(tests[row].user, rows[row], before, cut)
    users = [str(row) if sample.user is None else sample.user for row, sample in enumerate(tests)]
    note = _unmatched([sample.user for sample in tests], rows, cut, counts, lines)
    frame = ragged_frame(pl.Series(users, dtype=pl.String), pl.Series(rows, dtype=pl.List(pl.String)))
    return RawInteractions(last_two_apart(frame), notes=(f"{train_path}: {note}",) if note else ())


def _last_items(tests: list[Sample], valid_path: Path, test_path: Path) -> list[tuple[str, ...]]:
    """What a user's validation and test line tell together; `DataError` where the two do not belong together."""
    rows, seen = [], set()
    for number, user, items in tests:
        if len(items) < 2:
            raise DataError(f"{test_path}:{number}: 'inter_history' must hold one item at least")
        if user is not None and user in seen:
            raise DataError(f"{test_path}:{number}: each user must have one line, but '{user}' has an earlier one")
        seen.add(user)
        rows.append(items)
    valid_lines = 0
    for line, (number, user, known) in enumerate(_samples(valid_path)):
        after = rows[line][:-1] if line < len(rows) else ()
        # Both histories are cut at the same length, so `after` ends `known` and is at most one item shorter.
        tells_the_same = bool(after) and known[-len(after) :] == after and len(known) <= len(after) + 1
        if not tells_the_same or user != tests[line].user:
            raise DataError(
                f"{valid_path}:{number}: the line must hold the sequence of the same line of {test_path.name} "
                f"up to its next-to-last item, but does not; the two files list users in different orders"
            )
        rows[line] = (*known, rows[line][-1])
        valid_lines += 1
    if valid_lines != len(rows):
        raise DataError(
            f"{valid_path}: must have as many lines as {test_path.name}, {len(rows)}, but has {valid_lines}"
        )
    return rows


def _reaching_back(
    user: str | None, row: tuple[str, ...], before: dict[Window, list[str]], cut: int
) -> tuple[str, ...]:
    """The row with the items before it, as far as training samples tell them; they are taken out of `before`."""
    earlier: list[str] = []
    window = row[:cut]
    while len(window) == cut and (found := before.get((user, window))):
        earlier.append(found.pop())
        window = (earlier[-1], *window[:-1])
    return (*reversed(earlier), *row)


def _unmatched(
    users: list[str | None],
    rows: list[tuple[str, ...]],
    cut: int,
    counts: Counter[Window],
    lines: dict[Window, int],
) -> str | None:
    """In words, with an example: samples of the sequences that are no line, and lines that are none. None: no such."""
    wanted, missing = 0, 0
    lacking: dict[str, str] = {}
    for place, (user, row) in enumerate(zip(users, rows, strict=True)):
        for end in range(1, len(row) - 2):
            wanted += 1
            window = user, row[max(0, end - cut) : end + 1]
            if counts[window]:
                counts[window] -= 1
            else:
                missing += 1
                lacking.setdefault(str(place) if user is None else user, row[end])
    left = +counts  # those above zero
    told = []
    if lacking:
        user, item = next(iter(lacking.items()))
        told.append(
            f"{missing:,} of {wanted:,} training samples that the sequences make are no line of the file, so the first "
            f"items of {len(lacking):,} of {len(rows):,} users may be missing (user '{user}', target '{item}')"
        )
    if left:
        told.append(f"{left.total():,} lines belong to no user's sequence (line {min(map(lines.__getitem__, left))})")
    return "; ".join(told) or None


def _samples(path: Path) -> Iterator[Sample]:
    """The lines of a file; `DataError` for one of another form."""
    for number, record in json_lines(path):
        history = record.get("inter_history")
        if not isinstance(history, list) or "target_id" not in record:
            raise DataError(
                f"{path}:{number}: each line needs 'inter_history' (a list of items) and 'target_id', but has "
                f"{', '.join(record) or 'no key'}"
            )
        user = record.get("user_id")
        items = (sys.intern(str(item)) for item in (*history, record["target_id"]))  # each is told many times
        yield Sample(number, None if user is None else str(user), tuple(items))


def write(exported: Exported, folder: Path) -> None:
    """The three files with users named, the item map and metadata; `DataError` for another split than leave-one-out."""
    check_leave_one_out("etegrec-jsonl", exported)
    keys, users = exported.items.to_list(), exported.users.to_list()
    lines: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for row, user in enumerate(users):
        items = [keys[item - 1] for item in exported.sequences.row(row).tolist()]
        for place in range(1, len(items)):
            split = ("test", "valid")[len(items) - 1 - place] if place >= len(items) - 2 else "train"
            sample = {"user_id": user, "inter_history": items[max(0, place - CUT) : place], "target_id": items[place]}
            lines[split].append(json.dumps(sample) + "\n")
    for split, texts in lines.items():
        (folder / f"{exported.name}.{split}.jsonl").write_text("".join(texts), encoding="utf-8")
    numbers = {PADDING_KEY: 0} | {key: number for number, key in enumerate(keys, start=1)}
    (folder / f"{exported.name}{EMBEDDING_MAP}").write_text(json.dumps(numbers), encoding="utf-8")
    amazon.write_metadata(exported, folder)


FORMAT = Format(
    "etegrec-jsonl",
    recognises,
    read,
    parts=partial(whole_triple, "etegrec-jsonl"),
    metadata=partial(beside, is_metadata=amazon.is_metadata),
    texts=amazon_texts,
    features=amazon_features,
    write=write,
)
