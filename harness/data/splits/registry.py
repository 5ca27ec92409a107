"""The splits by name.

Third parties add splits through the entry-point group `harness.splits`: an entry point loads to a `Split`.
"""

import functools
from dataclasses import replace

from harness.data.plugins import registered
from harness.data.splits import given, leave_one_out, temporal, unseen_users
from harness.data.splits.split import LEAVE_ONE_OUT, Split
from harness.errors import UsageError, nearest

ENTRY_POINTS = "harness.splits"


@functools.cache
def splits() -> dict[str, Split]:
    """All splits: the built-in ones, then those of installed packages."""
    return registered(ENTRY_POINTS, Split, (leave_one_out.SPLIT, temporal.SPLIT, given.SPLIT, unseen_users.SPLIT))


def split_named(text: str) -> Split:
    """The split of `name` or `name:argument`; `UsageError` with the nearest known name for an unknown one."""
    name, colon, argument = text.partition(":")
    if name not in splits():
        raise UsageError(f"unknown split '{name}'; {nearest(name, splits())}")
    split = splits()[name]
    return replace(split, config=split.parsed(argument), argument=argument) if colon else split


def unsplit_name(dataset: str) -> tuple[str, str]:
    """Of a data set's name, the part without the split's, and the split as `--split` takes it."""
    for name in splits():
        original, found, argument = dataset.rpartition(f"-{name}")
        if found and original and (not argument or argument.startswith("=")):
            return original, f"{name}:{argument[1:].replace('+', ',')}" if argument else name
    return dataset, LEAVE_ONE_OUT
