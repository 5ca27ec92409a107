"""Traps and kinds of times and texts. Oracles: counts by hand, and a slow version in plain Python."""

from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from harness.data.dataset import Sequences
from harness.data.filters import Prepared
from harness.data.splits import leave_one_out
from harness.data.splits.split import Cases
from harness.data.text.metadata import text_facts, told_texts
from harness.data.times import times_facts, told_times
from harness.data.traps import TRAPS, last_items, successors, traps

# Items 1 to 6. Of the six users, p and q are twins; r's target stood in the history; s's target is seen by nobody else.
ROWS = {
    "p": [1, 2, 3, 4],
    "q": [1, 2, 3, 4],
    "r": [2, 3, 4, 2],
    "s": [2, 3, 4, 6],
    "t": [5, 3, 4, 1],
    "v": [3, 4, 5, 5],
}


def content(times: np.ndarray | None, texts: tuple[str | None, ...] | None) -> Prepared:
    keys = pl.Series([str(item) for item in range(1, 7)])
    return Prepared(Sequences.from_rows(list(ROWS.values())), times, pl.Series(list(ROWS)), keys, texts)


def test_each_trap_is_counted_as_by_hand() -> None:
    times = np.arange(24)
    times[3], times[23] = times[2], times[22]  # the last two of p and of v
    whole = content(times, ("pot", "pot", "lid", None, "cup", None))
    parts = leave_one_out.cut(whole.whole, leave_one_out.SPLIT.config)
    # Training: 12, 12, 23, 23, 53, 34. It never saw 6. The last items are 3, 3, 4, 4, 4, 5. After 3 came 4, once;
    # after 4 and 5 (which 3 followed) came nothing and 3, so p and q alone are solved.
    assert traps(whole, parts.train, parts.test) == pytest.approx(
        {
            "unseen_targets_share": 1 / 6,
            "targets_in_history_share": 2 / 6,
            "twin_users_share": 2 / 6,
            "twin_items_share": 2 / 6,
            "tied_targets_share": 2 / 6,
            "one_step_share": 2 / 6,
        }
    )


def test_what_the_data_cannot_have_is_not_counted() -> None:
    whole = content(None, None)
    parts = leave_one_out.cut(whole.whole, leave_one_out.SPLIT.config)
    assert set(TRAPS) - set(traps(whole, parts.train, parts.test)) == {"twin_items_share", "tied_targets_share"}


def test_successors_equal_a_slow_version() -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(1, 9, size=length).tolist() for length in random.integers(0, 12, size=60)]
    counts: dict[int, Counter[int]] = {}
    for row in rows:
        for last, following in pairwise(row):
            counts.setdefault(last, Counter())[following] += 1
    expected = [0] * 12
    for last, counter in counts.items():
        most = max(counter.values())
        expected[last] = min(item for item, count in counter.items() if count == most)
    assert successors(Sequences.from_rows(rows), 11).tolist() == expected
    assert last_items(Sequences.from_rows(rows)).tolist() == [row[-1] if row else 0 for row in rows]


def test_a_case_without_history_has_no_last_item_and_no_repeat() -> None:
    cases = Cases(np.array([0]), Sequences.from_rows([[]]), np.array([3], dtype=np.int32))
    whole = content(None, None)
    found = traps(whole, whole.sequences, cases)
    assert (found["one_step_share"], found["targets_in_history_share"]) == (0, 0)


DAY = 86_400
SEQUENCES = Sequences.from_rows([[1, 2, 3], [2, 1]])


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (None, "none; the order in the file"),
        ([0, 1, 2, 0, 1], "ranks within each user, no dates, 0.00 % tied"),
        # Ranks that begin at a date, as in a public set: its 34 milliseconds are no span of time.
        ([1_500_000_000_000 + n for n in (0, 1, 2, 0, 1)], "ranks within each user, no dates"),
        ([1_500_000_000_000 + n for n in (0, 1, 9, 0, 3)], "numbers from 1,500,000,000,000 to 1,500,000,000,009"),
        ([5, 7, 9, 20, 20], "numbers from 5 to 20, no dates, 20.00 % tied"),
        ([0.5, 7.0, 9.0, 20.0, 21.0], "numbers from 0.5 to 21.0, no dates"),
        (
            [1_700_000_000 + DAY * n for n in (0, 1, 1, 5, 9)],
            "2023-11-14 to 2023-11-23 (UTC, read as s since 1970), 20",
        ),
        ([10**6 * (1_700_000_000 + DAY * n) for n in (0, 1, 2, 5, 9)], "2023-11-14 to 2023-11-23 (UTC, read as us"),
    ],
)
def test_numbers_are_told_as_dates_only_where_they_can_be(times: list[float] | None, told: str) -> None:
    assert told_times(times_facts(SEQUENCES, None if times is None else np.array(times))).startswith(told)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (None, "none: methods that read text need --metadata FILE"),
        ((None, ""), "none"),
        (("attribute_3 attribute_17", "attribute_4", None), "attribute numbers, 1.5 an item (median); no words"),
        (("a red pot", "lid 7", "x"), "words, 2 an item (median)"),
    ],
)
def test_the_kind_of_text_is_told(texts: tuple[str | None, ...] | None, told: str) -> None:
    assert told_texts(text_facts(texts)).startswith(told)
