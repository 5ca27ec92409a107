"""S3-Rec's text files: one user a line, `user item item ...`, item attributes in `*item2attributes*.json`."""

import re
from functools import partial
from pathlib import Path

import polars as pl

from harness.data.files import excerpt, readable
from harness.data.formats.format import Columns, Format, Head, beside, ragged_frame
from harness.data.item_features import attribute_features
from harness.data.text.metadata import attribute_texts
from harness.errors import DataError


def recognises(head: Head) -> bool:
    """Whether the first lines are numbers with blanks between."""
    return bool(head.lines) and all(re.fullmatch(r"[0-9]+( [0-9]+)+ ?", line) for line in head.lines[:100])


def is_metadata(head: Head) -> bool:
    """Whether the file is a JSON object of lists."""
    return re.match(r'\{\s*"[^"]*"\s*:\s*\[', head.first) is not None


def read(paths: tuple[Path, ...], columns: Columns) -> pl.DataFrame:
    """The interactions, in each line's order."""
    (path,) = paths
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
    return ragged_frame(users, tokens.list.slice(1))


FORMAT = Format(
    "s3rec",
    recognises,
    read,
    metadata=partial(beside, is_metadata=is_metadata),
    texts=attribute_texts,
    features=attribute_features,
)
