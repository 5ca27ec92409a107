"""What a split is, and what it makes of a data set: the interface between splits and the preparation.

Shape legend: T interactions, U users, B training sequences, C cases. Users are named by their row among all U.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from harness.config import Config
from harness.data.dataset import Sequences, offsets_of, ranges
from harness.errors import UsageError

LEAVE_ONE_OUT = "leave-one-out"  # the default split


class Part(IntEnum):
    """What an interaction is for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    CONTEXT = 3  # neither learnt nor asked for: it stands in histories alone, or nowhere


class Whole(NamedTuple):
    """A data set before it is taken apart."""

    sequences: Sequences  # U rows, oldest first
    times: np.ndarray | None = None  # (T,) numbers as the source gives them; None: it tells only an order
    parts: np.ndarray | None = None  # (T,) uint8 of `Part`, as the source's files are split; None: they are not

    @property
    def rows_T(self) -> np.ndarray:
        """(T,) int64: whose interaction it is."""
        return np.repeat(np.arange(len(self.sequences)), self.sequences.lengths)


class Cases(NamedTuple):
    """Held-out items: any number of a user, none included, in any order."""

    users: np.ndarray  # (C,) int64
    histories: Sequences  # C rows: what precedes the target, oldest first, not cut; the last items are what is seen
    targets: np.ndarray  # (C,) int32


class Parts(NamedTuple):
    """A data set taken apart. A user may lack a training sequence, and is new where a test case is theirs."""

    users: np.ndarray  # (B,) int64: whose training sequences they are
    train: Sequences  # B rows
    validation: Cases  # at least one in all
    test: Cases  # at least one in all


def parts_of(whole: Whole, part_T: np.ndarray) -> Parts:
    """The data set taken apart by what each interaction is for; a case's history is all that precedes its target.

    An item with nothing before it is no case: no history tells whom it is asked for (METHODS A.5).
    """
    sequences, rows_T = whole.sequences, whole.rows_T

    def cases(part: Part) -> Cases:
        places = np.flatnonzero(part_T == part)
        places = places[places > sequences.offsets[:-1][rows_T[places]]]
        users = rows_T[places]
        lengths = places - sequences.offsets[:-1][users]
        return Cases(users, sequences.cut(sequences.offsets[:-1][users], lengths, None), sequences.items[places])

    learnt = np.flatnonzero(part_T == Part.TRAIN)
    users, lengths = np.unique(rows_T[learnt], return_counts=True)
    train = sequences.at(learnt, offsets_of(lengths), None)
    return Parts(users, train, cases(Part.VALIDATION), cases(Part.TEST))


def part_of_each(whole: Whole, parts: Parts) -> np.ndarray | None:
    """(T,) uint8 of `Part`, from which `parts_of` makes these parts; None: no such labels do."""
    starts = whole.sequences.offsets[:-1]
    part_T = np.full(len(whole.sequences.items), Part.CONTEXT, dtype=np.uint8)
    part_T[ranges(starts[parts.users], parts.train.lengths)] = Part.TRAIN
    for part, cases in ((Part.VALIDATION, parts.validation), (Part.TEST, parts.test)):
        part_T[starts[cases.users] + cases.histories.lengths] = part
    again = parts_of(whole, part_T)
    return part_T if all(map(np.array_equal, arrays_of(again), arrays_of(parts))) else None


def arrays_of(parts: Parts) -> list[np.ndarray]:
    """All that the parts hold, users' numbers apart."""
    arrays = [parts.train.items, parts.train.offsets]
    for cases in (parts.validation, parts.test):
        arrays += [cases.histories.items, cases.histories.offsets, cases.targets]
    return arrays


def _no_argument(text: str) -> Config:
    raise UsageError(f"this split takes nothing after a colon, but got '{text}'; leave it out")


@dataclass(frozen=True)
class Split:
    """How a data set is taken apart into what is learnt from, what models are selected by, and what they are tested on.

    `cut` gets the whole data set and `config`; it raises `DataError` for data that it cannot split. `parsed` makes the
    config of what stands after a colon (`temporal:0.9`); it raises `UsageError` for what it does not know.
    """

    name: str  # as given to --split; ends the name of a data set that is split so, leave-one-out apart
    cut: Callable[[Whole, Any], Parts]
    config: Config = field(default_factory=Config)
    min_interactions: int = 3  # per user
    parsed: Callable[[str], Config] = _no_argument
    argument: str = ""  # what stood after the colon

    def dataset_name(self, original: str) -> str:
        """The split data set's name; a comma of the argument becomes a plus, for names stand in lists with commas."""
        if self.name == LEAVE_ONE_OUT:
            return original
        return f"{original}-{self.name}" + (f"={self.argument.replace(',', '+')}" if self.argument else "")

    def record(self) -> dict[str, Any]:
        """What meta.json says of it: name and config."""
        return {"name": self.name, **self.config.model_dump(mode="json")}
