"""Temporal: one point of time for the test and one for the validation, the same for all users (`--split temporal:0.9`).

Nothing at or after the validation's point is learnt. A user's targets are their first interaction, or every one, from a
point on; the history is all that the user did before the target. Shape legend: T interactions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np

from harness.config import Config
from harness.data.splits.split import Part, Parts, Split, Whole, parts_of
from harness.data.times import begin_together
from harness.errors import DataError, UsageError

HOW = "write temporal:0.9, temporal:2018-01-01, or two of these (validation,test), and `every` behind them"


class TemporalConfig(Config):
    """The two points of time, each a date (UTC) or the share of all interactions that precede it."""

    test: str = "0.9"
    validation: str | None = None  # None: so that its span holds as many interactions as the test's
    targets: Literal["first", "every"] = "first"  # of a user, from a point on


def parsed(text: str) -> TemporalConfig:
    """The config of `0.9`, `2018-01-01`, `0.8,0.9` or `0.9,every`."""
    words = [word.strip() for word in text.split(",")]
    targets: Literal["first", "every"] = "every" if words[-1] == "every" else "first"
    points = words[:-1] if words[-1] in ("first", "every") else words
    if not 1 <= len(points) <= 2 or not all(map(_is_point, points)):
        raise UsageError(
            f"--split temporal takes one or two points, shares between 0 and 1 or dates, but got '{text}'; {HOW}"
        )
    return TemporalConfig(test=points[-1], validation=points[0] if len(points) == 2 else None, targets=targets)


def _is_point(text: str) -> bool:
    if re.fullmatch(r"0?\.[0-9]+", text):
        return float(text) > 0
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "-" in text


def cut(whole: Whole, config: TemporalConfig) -> Parts:
    """Training before the validation's point; targets from there to the test's point, and from the test's point on."""
    times_T = real_times(whole)
    ordered = np.sort(times_T)
    test = _point(config.test, ordered)
    if config.validation is not None:
        validation = _point(config.validation, ordered)
    else:
        before = int(np.searchsorted(ordered, test))
        place = before - (len(ordered) - before)  # as many interactions lie between the two points as after the second
        if place <= 0:
            raise DataError(
                f"split 'temporal': only {before:,} of {len(ordered):,} interactions precede {config.test}, fewer than "
                "follow, so the point of validation must be named: temporal:VALIDATION,TEST"
            )
        validation = ordered[place]
    if validation >= test:
        raise DataError(
            f"split 'temporal': the validation must begin before the test, but begins at {_told(validation, ordered)} "
            f"and the test at {_told(test, ordered)}; name two points further apart: temporal:VALIDATION,TEST"
        )
    if validation <= ordered[0]:
        raise DataError(
            f"split 'temporal': nothing is left to learn before the validation begins, at "
            f"{_told(validation, ordered)}; name later points: temporal:VALIDATION,TEST"
        )
    part_T = np.full(len(times_T), Part.CONTEXT, dtype=np.uint8)
    part_T[times_T < validation] = Part.TRAIN
    for part, is_inside in (
        (Part.VALIDATION, (times_T >= validation) & (times_T < test)),
        (Part.TEST, times_T >= test),
    ):
        places = np.flatnonzero(is_inside)
        if config.targets == "first":
            places = places[np.diff(whole.rows_T[places], prepend=-1) != 0]
        part_T[places] = part
    return parts_of(whole, part_T)


def real_times(whole: Whole) -> np.ndarray:
    """(T,) the times; `DataError` where there are none, or where they are ranks within each user."""
    if whole.times is None:
        raise DataError(
            "split 'temporal' needs points of time, but the data tell only the order of each user's interactions; "
            "name the raw files with a column of times, or take --split leave-one-out"
        )
    if begin_together(whole.sequences, whole.times):
        first = whole.times[whole.sequences.offsets[:-1]]
        raise DataError(
            f"split 'temporal' needs points of time, but the times are ranks within each user: "
            f"{(first == first.min()).sum():,} of {len(first):,} users begin at {first.min()}, the earliest time of "
            "all; take --split leave-one-out"
        )
    return whole.times


def _point(text: str, ordered: np.ndarray) -> float:
    """The point as a number on the scale of the times (ascending): from it on, interactions are held out."""
    if "-" not in text:
        place = ceil(Fraction(text) * len(ordered))  # exactly: 0.07 of 100 are 7
        return ordered[min(place, len(ordered) - 1)].item()
    date = datetime.fromisoformat(text)
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    point = (date - _EPOCH) / timedelta(seconds=1) * _per_second(ordered)
    if not ordered[0] < point <= ordered[-1]:
        raise DataError(
            f"split 'temporal': {text} must lie within the data's times, which run from "
            f"{_told(ordered[0], ordered)} to {_told(ordered[-1], ordered)}; name a point between"
        )
    return point


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _per_second(ordered: np.ndarray) -> float:
    """Units of the times in a second, by their size: days, seconds, milli-, micro- or nanoseconds since 1970."""
    size = abs(float(ordered[len(ordered) // 2]))
    limits = ((1e5, 1 / 86_400), (1e11, 1.0), (1e14, 1e3), (1e17, 1e6))
    return next((units for limit, units in limits if size < limit), 1e9)


def _told(time: float, ordered: np.ndarray) -> str:
    """The time as a date."""
    try:
        return (_EPOCH + timedelta(seconds=float(time) / _per_second(ordered))).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:  # no date
        return str(time)


SPLIT = Split("temporal", cut, TemporalConfig(), min_interactions=1, parsed=parsed)
