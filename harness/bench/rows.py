"""Rows of the benchmark: repeated measurements of ours and of the peers, taken in turns, and what is aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.bench.workload import Rate

OURS_PER_ROUND = 2  # training steps of ours for each one of the slow peers

Report = Callable[[str], None]


class Spread(NamedTuple):
    """Repeated measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of the given values, at least one."""
        return cls(statistics.median(values), min(values), max(values))


class Rival(NamedTuple):
    """A peer's numbers, or why there are none."""

    name: str
    spread: Spread | None
    missing: str = ""


class Row(NamedTuple):
    """A measured number beside the peers' and what was aimed at. Of memory less is better, of all else more."""

    what: str
    unit: str
    ours: Spread
    rivals: tuple[Rival, ...] = ()
    aim: float | None = None
    aim_ratio: float | None = None  # to the first rival

    @property
    def lower_is_better(self) -> bool:
        """Whether a small number is a good one."""
        return self.unit == "MiB"

    def ratio(self, rival: Rival) -> float | None:
        """How many times better our median is."""
        if rival.spread is None:
            return None
        ours, theirs = self.ours.median, rival.spread.median
        return theirs / ours if self.lower_is_better else ours / theirs

    @property
    def reached(self) -> bool | None:
        """Whether all aims are met, as far as they were measured; None where none was."""
        checks = []
        if self.aim is not None:
            checks.append(self.ours.median <= self.aim if self.lower_is_better else self.ours.median >= self.aim)
        ratio = self.ratio(self.rivals[0]) if self.rivals else None
        if self.aim_ratio is not None and ratio is not None:
            checks.append(ratio >= self.aim_ratio)
        return all(checks) if checks else None


class Contest(NamedTuple):
    """A task of a peer under the name that it has in the table; none runs where the peer is missing."""

    name: str
    rate: Rate | None
    missing: str

    def rival(self, values: Sequence[float]) -> Rival:
        """What came of it."""
        return Rival(self.name, Spread.of(values)) if values else Rival(self.name, None, self.missing)


def measured(rate: Rate, steps: int) -> Spread:
    """The steps' spread, after one that warms up."""
    rate(0)
    return Spread.of([rate(step) for step in range(steps)])


def in_turns(
    rate: Rate, contests: Sequence[Contest], repeats: int, ours_per_round: int = OURS_PER_ROUND
) -> tuple[Spread, tuple[Rival, ...]]:
    """The spreads of ours and of the peers, which take turns."""
    rate(0)
    ours: list[float] = []
    theirs: dict[str, list[float]] = {contest.name: [] for contest in contests}
    for step in range(repeats):
        ours += [rate(step * ours_per_round + more) for more in range(ours_per_round)]
        for contest in contests:
            if contest.rate:
                theirs[contest.name].append(contest.rate(step))
    return Spread.of(ours), tuple(contest.rival(theirs[contest.name]) for contest in contests)
