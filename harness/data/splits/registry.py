"""The splits by name.

Third parties add splits through the entry-point group `harness.splits`: an entry point loads to a `Split`.
"""

import functools

from harness.data.plugins import registered
from harness.data.splits import leave_one_out, unseen_users
from harness.data.splits.split import LEAVE_ONE_OUT, Split
from harness.errors import UsageError, nearest

ENTRY_POINTS = "harness.splits"


@functools.cache
def splits() -> dict[str, Split]:
    """All splits: the built-in ones, then those of installed packages."""
    return registered(ENTRY_POINTS, Split, (leave_one_out.SPLIT, unseen_users.SPLIT))


def split_named(name: str) -> Split:
    """The split; `UsageError` with the nearest known name for an unknown one."""
    if name not in splits():
        raise UsageError(f"unknown split '{name}'; {nearest(name, splits())}")
    return splits()[name]


def unsplit_name(dataset: str) -> tuple[str, str]:
    """Of a data set's name, the part without the split's, and the split."""
    for name in splits():
        if dataset.endswith(f"-{name}"):
            return dataset.removesuffix(f"-{name}"), name
    return dataset, LEAVE_ONE_OUT
