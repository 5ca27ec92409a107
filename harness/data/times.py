"""What the numbers in a column of times are: dates in some unit, ranks within each user, or mere numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness.data.dataset import Sequences

LIMIT = 2.0**63  # times are kept as whole numbers of 64 bits
# The largest time decides the unit: each range is the years 1973 to 5138 in that unit.
UNITS = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17), "ns": (1e17, 1e20)}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def unit_of(times: np.ndarray) -> str | None:
    """`s`, `ms`, `us` or `ns` where the numbers look like times since 1970 in that unit, else None.

    Real data span more than a second; less is a count that begins at a date.
    """
    smallest, largest = float(times.min()), float(times.max())
    found = [unit for unit, (low, high) in UNITS.items() if low <= largest < high]
    return found[0] if found and smallest >= 0 and largest - smallest >= PER_SECOND[found[0]] else None


def are_ranks(sequences: Sequences, times: np.ndarray) -> bool:
    """Whether each user's times count up by one from the same number: they order one user's items, and no two users."""
    starts = np.repeat(times[sequences.offsets[:-1]], sequences.lengths)
    places = np.arange(len(times)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    return bool((times - starts == places).all() and (starts == starts[0]).all())


def begin_together(sequences: Sequences, times: np.ndarray) -> bool:
    """Whether more than half of the users begin at the earliest time of all, or there is one time alone.

    Then the times are ranks on some scale (1500000000000 + 1000 · rank), with gaps perhaps that a filter has made: no
    real interactions do that.
    """
    first = times[sequences.offsets[:-1]]
    return bool(2 * (first == first.min()).sum() > len(first) or times.min() == times.max())


def times_facts(sequences: Sequences, times: np.ndarray | None) -> dict[str, Any]:
    """Kind (`order`, `ranks`, `dates`, `numbers`), first, last and unit, and the share of `tied_share` interactions.

    An interaction is tied if the user's one before it has the same time. `times` is (T,) beside `sequences`.
    """
    if times is None:
        return {"kind": "order"}
    is_first = np.zeros(len(times), dtype=bool)
    is_first[sequences.offsets[:-1]] = True
    tied = float((np.diff(times, prepend=np.nan) == 0)[~is_first].sum() / len(times))
    if are_ranks(sequences, times):
        return {"kind": "ranks", "tied_share": tied}
    unit, ends = unit_of(times), [times.min().item(), times.max().item()]
    if unit is None:
        return {"kind": "numbers", "first": ends[0], "last": ends[1], "tied_share": tied}
    first, last = (datetime.fromtimestamp(end / PER_SECOND[unit], UTC).isoformat(" ", "seconds") for end in ends)
    return {"kind": "dates", "first": first, "last": last, "unit": unit, "tied_share": tied}


def told_times(facts: Mapping[str, Any]) -> str:
    """The facts in one line."""
    if facts["kind"] == "order":
        return "none; the order in the file"
    ties = f", {100 * facts['tied_share']:.2f} % tied with the user's interaction before"
    if facts["kind"] == "ranks":
        return f"ranks within each user, no dates{ties}"
    if facts["kind"] == "numbers":
        return f"numbers from {facts['first']:,} to {facts['last']:,}, no dates{ties}"
    return f"{facts['first'][:10]} to {facts['last'][:10]} (UTC, read as {facts['unit']} since 1970){ties}"
