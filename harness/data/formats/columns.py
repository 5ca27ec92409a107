"""Which columns of a table hold users, items and times: those that the user names, else headers in common use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.data.formats.delimited import checked_names
from harness.data.formats.format import ChosenColumns, Columns
from harness.errors import DataError

# As `plain` spells them; of several in one file the earliest counts.
COMMON = {
    "user": ("userid", "user", "uid", "reviewerid"),
    "item": ("itemid", "movieid", "parentasin", "asin", "sku", "item", "productid"),
    "time": ("timestamp", "unixreviewtime", "time", "ts", "datetime", "date"),
    "rating": ("rating",),
}
NO_COLUMN = "none"  # as given to --time-col: the rows' order is the time, whatever columns there are


def plain(name: str) -> str:
    """The name in lower case, letters and digits alone: `userid` of `user_id`, `userId` and `User-ID`."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())  # what follows is RecBole's type of a column


def common_column(header: Sequence[str], role: str) -> str | None:
    """The column of `user`, `item` or `time` among names in common use; None where the header has none."""
    for wanted in COMMON[role]:
        for name in header:
            if plain(name) == wanted:
                return name
    return None


def chosen_columns(path: Path, header: Sequence[str], asked: Columns) -> ChosenColumns:
    """The columns of a table with this header; `DataError` where there is none of users or items, or not that one."""
    user, item = asked.user or common_column(header, "user"), asked.item or common_column(header, "item")
    if user is None or item is None:
        missing = [role for role, name in (("user", user), ("item", item)) if name is None]
        raise DataError(
            f"{path}:1: no column has a usual name for {' and '.join(f'{role}s' for role in missing)}; name one with "
            f"{' and '.join(f'--{role}-col' for role in missing)}, out of: {', '.join(header)}"
        )
    time = asked.time or common_column(header, "time")
    if time == NO_COLUMN and NO_COLUMN not in header:
        time = None
    return arranged(path, header, Columns(user, item, time))


def arranged(path: Path, header: Sequence[str], columns: Columns, *, is_fixed: bool = False) -> ChosenColumns:
    """These columns and what the header has besides; `DataError` where one is missing or stands for two roles."""
    used = [name for name in (columns.user, columns.item, columns.time) if name is not None]
    checked_names(path, header, used)
    if len(set(used)) < len(used):
        raise DataError(
            f"{path}:1: users, items and times must be columns of their own, but got {', '.join(used)}; name others"
        )
    others = [name for name in header if name not in used]
    rating = common_column(others, "rating")
    return ChosenColumns(columns, rating, tuple(name or "(unnamed)" for name in others if name != rating), is_fixed)
