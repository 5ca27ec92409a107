"""The temporal split. Oracles: parts worked out by hand, and a slow version with loops."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import prepare
from harness.data.dataset import Sequences
from harness.data.formats.format import Columns
from harness.data.open import Source, open_dataset
from harness.data.prepare import describe, load_dataset, load_test
from harness.data.splits.registry import split_named, unsplit_name
from harness.data.splits.split import Cases, Parts, Whole
from harness.errors import DataError, UsageError

# Item = 10 · user + place. Times of u0: 0 2 4 6 8; u1: 1 5 7 9 9; u2: 3 3 8; u3: 9 9. Ten of 15 lie before 8.
TIMES = [[0, 2, 4, 6, 8], [1, 5, 7, 9, 9], [3, 3, 8], [9, 9]]
WHOLE = Whole(
    Sequences.from_rows([[10 * user + place for place in range(len(times))] for user, times in enumerate(TIMES)]),
    np.array([float(time) for times in TIMES for time in times]),
)
Told = list[tuple[int, list[int], int]]  # user, history, target


def told(cases: Cases) -> Told:
    return [
        (int(user), cases.histories.row(row).tolist(), int(cases.targets[row])) for row, user in enumerate(cases.users)
    ]


def cut(argument: str, whole: Whole = WHOLE) -> Parts:
    split = split_named(f"temporal:{argument}")
    return split.cut(whole, split.config)


def test_the_first_interaction_from_a_point_on_is_the_target_and_all_before_it_the_history() -> None:
    # Of 15 interactions the share 0.6 ends before the tenth in order of time, at 8, and 0.4 before the seventh, at 5.
    parts = cut("0.4,0.6")
    assert parts.users.tolist() == [0, 1, 2]
    assert [parts.train.row(row).tolist() for row in range(3)] == [[0, 1, 2], [10], [20, 21]]
    assert told(parts.validation) == [(0, [0, 1, 2], 3), (1, [10], 11)]
    # u3 has nothing before its first item, so that no history asks for it.
    assert told(parts.test) == [(0, [0, 1, 2, 3], 4), (1, [10, 11, 12], 13), (2, [20, 21], 22)]


def test_every_interaction_after_the_point_may_be_a_target() -> None:
    parts = cut("0.4,0.6,every")
    assert told(parts.validation) == [(0, [0, 1, 2], 3), (1, [10], 11), (1, [10, 11], 12)]
    assert told(parts.test)[1:] == [
        (1, [10, 11, 12], 13),
        (1, [10, 11, 12, 13], 14),
        (2, [20, 21], 22),
        (3, [30], 31),
    ]


def test_the_validation_is_as_long_as_the_test_unless_its_point_is_named() -> None:
    # 9 before 8, 6 at it or later, so 3 are learnt from: those before the fourth time in order, which is 3.
    parts = cut("0.6")
    assert [parts.train.row(row).tolist() for row in range(len(parts.train))] == [[0, 1], [10]]
    assert told(parts.validation) == [(0, [0, 1], 2), (1, [10], 11)]


DAY = 86_400
SCALES = {
    "days": 1,
    "seconds": DAY,
    "milliseconds": DAY * 10**3,
    "microseconds": DAY * 10**6,
    "nanoseconds": DAY * 10**9,
}


@pytest.mark.parametrize("units", SCALES.values(), ids=SCALES)
def test_a_date_is_found_on_every_scale_of_times(units: int) -> None:
    start = (datetime(2018, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert WHOLE.times is not None
    dated = WHOLE._replace(times=(WHOLE.times.astype(np.int64) + start) * units)
    by_date, by_share = cut("2018-01-06,2018-01-09", dated), cut("0.4,0.6")
    assert told(by_date.test) == told(by_share.test)
    assert told(by_date.validation) == told(by_share.validation)
    assert by_date.train.items.tolist() == by_share.train.items.tolist()
    with pytest.raises(
        DataError, match=r"2018-01-11 must lie within .* from 2018-01-01 00:00:00 to 2018-01-10 00:00:00"
    ):
        cut("2018-01-11", dated)


@given(
    lengths=st.lists(st.integers(1, 8), min_size=2, max_size=8),
    drawn=st.data(),
    shares=st.tuples(st.integers(1, 99), st.integers(1, 99)).filter(lambda pair: pair[0] < pair[1]),
    every=st.booleans(),
)
def test_nothing_later_than_the_validations_point_is_learnt(
    lengths: list[int], drawn: st.DataObject, shares: tuple[int, int], every: bool
) -> None:
    times = [sorted(drawn.draw(st.lists(st.integers(0, 30), min_size=n, max_size=n))) for n in lengths]
    flat = sorted(time for row in times for time in row)
    items = iter(range(1, 100))
    rows = [[next(items) for _ in row] for row in times]
    validation, test = (flat[min(-(-share * len(flat) // 100), len(flat) - 1)] for share in shares)
    firsts = [row[0] for row in times]
    argument = f"0.{shares[0]:02},0.{shares[1]:02}" + (",every" if every else "")
    whole = Whole(Sequences.from_rows(rows), np.array([time for row in times for time in row]))
    if 2 * firsts.count(min(firsts)) > len(firsts) or validation >= test or validation == flat[0]:
        with pytest.raises(DataError, match="split 'temporal'"):
            cut(argument, whole)
        return
    parts = cut(argument, whole)
    expected: dict[str, Told] = {"validation": [], "test": []}
    learnt = []
    for user, row in enumerate(times):
        learnt.append([rows[user][place] for place, time in enumerate(row) if time < validation])
        for part, start, end in (("validation", validation, test), ("test", test, 99)):
            places = [place for place, time in enumerate(row) if start <= time < end]
            for place in places if every else places[:1]:
                if place:
                    expected[part].append((user, rows[user][:place], rows[user][place]))
    assert [parts.train.row(row).tolist() for row in range(len(parts.train))] == [row for row in learnt if row]
    assert parts.users.tolist() == [user for user, row in enumerate(learnt) if row]
    assert told(parts.validation) == expected["validation"]
    assert told(parts.test) == expected["test"]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (None, "the data tell only the order of each user's interactions"),
        (
            [0, 1, 2, 3, 4] * 3,
            "the times are ranks within each user: 3 of 3 users begin at 0, the earliest time of all",
        ),
        ([7] * 15, "the times are ranks within each user"),
    ],
)
def test_data_without_points_of_time_are_refused(times: list[int] | None, message: str) -> None:
    sequences = Sequences.from_rows([[1, 2, 3, 4, 5]] * 3)
    with pytest.raises(DataError, match=message) as error:
        cut("0.9", Whole(sequences, None if times is None else np.array(times)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["scientific2018", "instruments2018"])
def test_published_ranks_are_recognised_as_such(real_data: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="the times are ranks within each user"):
        open_dataset(Source(str(real_data(name)), split="temporal"), tmp_path)


@pytest.mark.parametrize("text", ["x", "0.8,0.9,0.95", "1.5", "0", "every", "2018", "", "0.9,all"])
def test_another_argument_is_refused_with_what_may_stand_there(text: str) -> None:
    with pytest.raises(UsageError, match=r"takes one or two points.*write temporal:0\.9, temporal:2018-01-01"):
        split_named(f"temporal:{text}")


@pytest.mark.parametrize("text", ["0.2", "0.9,0.8", "0.1,0.9"])
def test_points_that_leave_a_part_empty_are_refused(text: str) -> None:
    times = np.array([0, 5, 0, 6, 1, 7, 2, 8, 3, 9])  # two interactions at the earliest time
    with pytest.raises(DataError, match=r"split 'temporal'.*temporal:VALIDATION,TEST"):
        cut(text, Whole(Sequences.from_rows([[1, 2]] * 5), times))


@pytest.mark.parametrize("text", ["temporal", "temporal:0.9", "temporal:0.8,0.9,every", "temporal:2018-01-01", "given"])
def test_the_name_of_a_data_set_tells_its_split(text: str) -> None:
    assert unsplit_name(split_named(text).dataset_name("my-set")) == ("my-set", text)


def test_data_sets_split_at_other_points_lie_apart(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user,item,time\n" + "".join(f"u{u},i{(u + t) % 9},{10 * t + u}\n" for u in range(9) for t in range(9))
    )
    whole = Source(str(path), columns=Columns("user", "item", "time"))
    found = {}
    for split in ("temporal", "temporal:0.9", "temporal:0.7", "temporal:0.7,every", "leave-one-out"):
        folder = open_dataset(replace(whole, split=split), tmp_path / "cache")
        found[split] = load_dataset(folder), folder
    assert len({folder for _, folder in found.values()}) == 5
    # 0.9 is the default; of 0.7 and every interaction the training is the same, the targets are others.
    assert found["temporal"][0].fingerprint == found["temporal:0.9"][0].fingerprint
    assert len({data.fingerprint for data, _ in found.values()}) == 4
    every, folder = found["temporal:0.7,every"]
    assert describe(folder)["test_cases"] == len(load_test(folder, every)) == 24  # of 81, ⌈56.7⌉ lie before: 24 follow
    users = prepare.test_users(folder)
    assert load_test(folder, every).owners.tolist() == [users.index(user) for user in users]
    assert load_test(found["temporal:0.7"][1], found["temporal:0.7"][0]).owners is None
    assert found["temporal:0.7"][0].validation.owners is None
    assert every.validation.owners is not None
    assert {data.whole for data, _ in found.values()} == {found["leave-one-out"][0].fingerprint}
    with pytest.raises(DataError, match="split by temporal already"):
        open_dataset(Source(str(folder), split="given"), tmp_path / "cache")
