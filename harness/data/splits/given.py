"""The split that the files themselves make: train, valid and test as they were published."""

from __future__ import annotations

import numpy as np

from harness.config import Config
from harness.data.splits.split import Part, Parts, Split, Whole, parts_of
from harness.errors import DataError


def cut(whole: Whole, config: Config) -> Parts:
    """The parts that the source's files name; a case's history is all that precedes it, whichever file tells it."""
    if whole.parts is None:
        raise DataError(
            "split 'given' needs data that are published in parts (train, valid and test files, or LETTER's json), but "
            "these files tell none; take --split leave-one-out, or temporal"
        )
    used = np.flatnonzero(whole.parts != Part.CONTEXT)
    part, row = whole.parts[used].astype(np.int64), whole.rows_T[used]
    is_back = (part[1:] < part[:-1]) & (row[1:] == row[:-1])
    if is_back.any():
        at = int(is_back.argmax()) + 1
        later, earlier = (Part(part[place]).name.lower() for place in (at, at - 1))
        raise DataError(
            f"split 'given': a user's interactions must be of train, then valid, then test, but those of "
            f"{len(np.unique(row[1:][is_back])):,} users are not: user {row[at] + 1:,} of the files has one of {later} "
            f"after one of {earlier}; mend the files, or take another split"
        )
    return parts_of(whole, whole.parts)


SPLIT = Split("given", cut, min_interactions=1)
