"""Filters, order and split. Oracles: arithmetic by hand, a slow version in plain Python, and numpy's `lexsort`."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import Config
from harness.data.dataset import Sequences
from harness.data.filters import PrepareConfig, first_appearance_codes, ordered, prepared
from harness.data.formats.format import RawInteractions
from harness.data.formats.read import read_interactions
from harness.data.prepare import (
    describe,
    load_dataset,
    load_test,
    prepare,
)
from harness.data.splits.split import Cases, Parts, Split, Whole
from harness.data.statistics import Counts
from harness.errors import DataError

Row = tuple[str, str, int]


def raw_of(rows: list[Row], **options: object) -> RawInteractions:
    frame = pl.DataFrame(rows, schema={"user": pl.Categorical, "item": pl.Categorical, "time": pl.Int64}, orient="row")
    return RawInteractions(frame, **options)


def sequences_of(rows: list[Row], config: PrepareConfig, **options: object) -> dict[str, list[str]]:
    """Whole sequences of item keys by user, as the fast code makes them."""
    content = prepared(raw_of(rows, **options), config)
    keys = content.item_keys.to_list()
    return {
        user: [keys[item - 1] for item in content.sequences.row(place)]
        for place, user in enumerate(content.user_keys.to_list())
    }


def slow_sequences(rows: list[Row], core: int, drop_repeats: bool) -> tuple[dict[str, list[str]], list[str]]:
    """The same with dictionaries and loops, and the items by first appearance in the source."""
    by_user: dict[str, list[tuple[int, int, str]]] = {}
    for place, (user, item, time) in enumerate(rows):
        by_user.setdefault(user, []).append((time, place, item))
    kept = []
    for user, visits in by_user.items():
        seen = set()
        for _, place, item in sorted(visits):
            if not (drop_repeats and item in seen):
                kept.append((user, item, place))
            seen.add(item)
    while True:
        users, items = Counter(user for user, _, _ in kept), Counter(item for _, item, _ in kept)
        left = [row for row in kept if users[row[0]] >= core and items[row[1]] >= core]
        if len(left) == len(kept):
            break
        kept = left
    enough = {user for user, count in Counter(user for user, _, _ in kept).items() if count >= 3}
    kept = [row for row in kept if row[0] in enough]
    sequences: dict[str, list[str]] = {}
    for user, item, _ in kept:
        sequences.setdefault(user, []).append(item)
    ids = list(dict.fromkeys(item for _, item, _ in sorted(kept, key=lambda row: row[2])))
    return sequences, ids


logs = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdefg"), st.integers(0, 5)), min_size=1, max_size=70
)


@settings(max_examples=150)
@given(rows=logs, core=st.integers(0, 4), repeats=st.sampled_from(["keep", "drop"]))
def test_filters_order_and_ids_equal_a_slow_version(rows: list[Row], core: int, repeats: str) -> None:
    config = PrepareConfig(core=core, repeats=repeats, short_users="drop")
    sequences, ids = slow_sequences(rows, core, repeats == "drop")
    if not sequences:
        with pytest.raises(DataError):
            prepared(raw_of(rows), config)
        return
    assert sequences_of(rows, config) == sequences
    assert list(sequences_of(rows, config)) == list(sequences)  # users too stand by first appearance
    assert prepared(raw_of(rows), config).item_keys.to_list() == ids


@settings(max_examples=40)
@given(rows=logs)
def test_the_split_leaves_out_the_last_item_for_the_test_and_the_one_before_for_validation(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    sequences, ids = slow_sequences(rows, 0, False)
    if not sequences:
        return
    folder = tmp_path_factory.mktemp("prepared") / "log"
    dataset = prepare(raw_of(rows), PrepareConfig(short_users="drop", max_history=4), folder, "log")
    test = load_test(folder, dataset)
    numbers = {key: number for number, key in enumerate(ids, start=1)}
    for place, items in enumerate([numbers[item] for item in sequence] for sequence in sequences.values()):
        assert dataset.train.row(place).tolist() == items[:-2]
        assert dataset.validation.histories.row(place).tolist() == items[:-2][-4:]
        assert dataset.validation.targets[place] == items[-2]
        assert test.histories.row(place).tolist() == items[:-1][-4:]
        assert test.targets[place] == items[-1]


def test_k_core_drops_in_rounds_until_nothing_more_falls() -> None:
    # At first every user has 3 interactions, and every item but d, which only u has.
    # Round 1 drops d (1 user). Round 2 drops u (2 left: a, c). Round 3 finds s, t, v with a, b, c: a 3-core.
    pairs = ["sa", "sb", "sc", "ta", "ua", "uc", "ud", "tb", "tc", "va", "vb", "vc"]
    rows = [(pair[0], pair[1], time) for time, pair in enumerate(pairs)]
    whole = ["a", "b", "c"]
    assert sequences_of(rows, PrepareConfig(core=3)) == {"s": whole, "t": whole, "v": whole}


def test_equal_times_keep_the_order_of_the_file_and_users_may_be_interleaved() -> None:
    rows = [("u", "c", 2), ("v", "a", 9), ("u", "b", 1), ("u", "a", 1), ("v", "c", 9), ("u", "d", 2), ("v", "b", 9)]
    assert sequences_of(rows, PrepareConfig()) == {"u": ["b", "a", "c", "d"], "v": ["a", "c", "b"]}


def test_dropping_repeats_keeps_the_earliest_by_time_and_not_by_place() -> None:
    rows = [("u", "a", 5), ("u", "b", 3), ("u", "c", 4), ("u", "a", 1)]
    assert sequences_of(rows, PrepareConfig(repeats="drop")) == {"u": ["a", "b", "c"]}
    assert sequences_of(rows, PrepareConfig()) == {"u": ["a", "b", "c", "a"]}


def test_a_given_order_decides_the_item_ids_and_must_name_every_item() -> None:
    rows = [("u", "a", 1), ("u", "b", 2), ("u", "c", 3)]
    content = prepared(raw_of(rows, item_order=("c", "x", "b", "a")), PrepareConfig())
    assert content.item_keys.to_list() == ["c", "x", "b", "a"]  # x, which nobody has, keeps its number
    assert content.sequences.items.tolist() == [4, 3, 1]
    with pytest.raises(DataError, match="item 'c' has interactions, but the item map does not name it"):
        prepared(raw_of(rows, item_order=("a", "b")), PrepareConfig())


def test_codes_follow_the_first_appearance() -> None:
    assert first_appearance_codes(np.array([7, 2, 7, 0, 2])).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_interactions_are_ordered_as_by_numpys_stable_sort_on_two_keys(kind: type) -> None:
    stream = np.random.default_rng(0)
    users, items = stream.integers(0, 40, 3000), stream.integers(0, 9, 3000).astype(np.uint32)
    times: np.ndarray = (stream.integers(-50, 50, 3000) / (2 if kind is np.float64 else 1)).astype(kind)
    found = ordered(users, items, times)
    codes = first_appearance_codes(users)
    rows = np.lexsort((times, codes))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.users, codes[rows])
    np.testing.assert_array_equal(found.items, items[rows])
    assert {array.dtype for array in (found.rows, found.users, found.items)} == {np.dtype(np.int64)}


def test_a_short_user_is_an_error_that_names_them_unless_they_are_dropped() -> None:
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "a", 1), ("v", "b", 2), ("v", "c", 3)]
    with pytest.raises(DataError, match=r"needs 3 interactions .* user 'u' has 2.*--short-users drop"):
        prepared(raw_of(rows), PrepareConfig())
    assert list(sequences_of(rows, PrepareConfig(short_users="drop"))) == ["v"]


def test_a_core_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="no interaction is left of 3 after the 5-core filter"):
        prepared(raw_of([("u", item, 0) for item in "abc"]), PrepareConfig(core=5))


TOY = [("u", item, time) for time, item in enumerate("abca")] + [("v", item, time) for time, item in enumerate("bad")]
TEXTS = {"a": "anvil", "c": "", "unsold": "never bought"}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    prepare(raw_of(TOY, texts=TEXTS), PrepareConfig(), tmp_path / "toy", "toy")
    return tmp_path / "toy"


def test_the_description_of_a_small_set_is_arithmetic(toy: Path) -> None:
    # u: a b | c | a and v: b | a | d; items a b c d. Training holds a, b, b, so c and d are cold.
    found = describe(toy)
    assert {key: found[key] for key in ("users", "items", "interactions", "cold_items", "train_samples")} == {
        "users": 2,
        "items": 4,
        "interactions": 7,
        "cold_items": 2,
        "train_samples": 1,
    }
    assert found["sparsity_percent"] == pytest.approx(100 * (1 - 7 / 8))
    assert found["mean_length"] == 3.5
    assert found["repeat_share"] == pytest.approx(1 / 7)
    assert found["items_without_text_share"] == 0.75  # b and d have none, c an empty one


def test_items_without_metadata_stay_and_metadata_without_interactions_does_not(toy: Path) -> None:
    catalog = load_dataset(toy).catalog
    assert catalog.keys == ("a", "b", "c", "d")
    assert catalog.texts == ("anvil", None, None, None)


def test_loading_the_data_set_never_opens_the_test_file(toy: Path) -> None:
    (toy / "test.parquet").unlink()
    dataset = load_dataset(toy)
    assert dataset.train.items.tolist() == [1, 2, 2]
    with pytest.raises(DataError, match=r"test\.parquet: missing"):
        load_test(toy, dataset)


def test_the_fingerprint_follows_the_content_and_not_place_or_name(tmp_path: Path, toy: Path) -> None:
    same = prepare(raw_of(TOY, texts=TEXTS), PrepareConfig(), tmp_path / "elsewhere", "other name")
    assert same.fingerprint == load_dataset(toy).fingerprint
    others = [
        prepare(raw_of([*TOY[:-1], ("v", "c", 9)], texts=TEXTS), PrepareConfig(), tmp_path / "1", "toy"),
        prepare(raw_of(TOY, texts={"a": "awl"}), PrepareConfig(), tmp_path / "2", "toy"),
        prepare(raw_of(TOY, texts=TEXTS), PrepareConfig(max_history=9), tmp_path / "3", "toy"),
    ]
    assert len({same.fingerprint, *(other.fingerprint for other in others)}) == 4
    with pytest.raises(DataError, match="name its own folder"):
        load_test(toy, others[0])


def test_counts_that_differ_from_the_published_ones_are_printed_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have 3 users, 4 items, 7 interactions, but .* 2 users, 4 items, 7"):
        prepare(raw_of(TOY), PrepareConfig(), tmp_path / "toy", "toy", expected=Counts(3, 4, 7))
    assert list(tmp_path.iterdir()) == []


def test_preparing_again_replaces_the_folder_and_leaves_nothing_beside_it(toy: Path) -> None:
    prepare(raw_of(TOY), PrepareConfig(), toy, "again")
    assert load_dataset(toy).name == "again"
    assert [path.name for path in toy.parent.iterdir()] == ["toy"]


def test_a_folder_of_other_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="is not overwritten"):
        prepare(raw_of(TOY), PrepareConfig(), tmp_path, "toy")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("train.parquet", cut, r"train\.parquet: damaged"),
        ("validation.parquet", cut, r"validation\.parquet: damaged"),
        ("items.parquet", Path.unlink, r"items\.parquet: missing"),
        ("meta.json", cut, r"meta\.json: damaged"),
        ("meta.json", Path.unlink, "not a prepared data set"),
        ("meta.json", lambda path: path.write_text(json.dumps({"layout": 0})), "of layout 0"),
    ],
)
def test_a_damaged_folder_is_one_line(toy: Path, file: str, harm: Callable[[Path], object], message: str) -> None:
    harm(toy / file)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(toy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "counts", "repeats"),
    [
        ("scientific2018", Counts(3_285, 3_541, 22_743), True),
        ("beauty2014", Counts(22_363, 12_101, 198_502), False),
        ("instruments2018", Counts(24_772, 9_922, 206_153), False),
        ("ml100k", Counts(943, 1_682, 100_000), False),
    ],
)
def test_a_real_set_is_prepared_whole(
    real_data: Callable[[str], Path], tmp_path: Path, name: str, counts: Counts, repeats: bool
) -> None:
    dataset = prepare(read_interactions(real_data(name)), PrepareConfig(), tmp_path / name, name, expected=counts)
    assert len(dataset.train.items) == counts.interactions - 2 * counts.users
    assert (describe(tmp_path / name)["repeat_share"] > 0) is repeats


def only(user: int, has_validation: bool = True) -> Split:
    """A split under which one user has two cases of each kind, or of the test alone, and all users are learnt from."""

    def cut(whole: Whole, config: Config) -> Parts:
        sequences = whole.sequences
        rows = np.array([user, user])
        cases = Cases(rows, sequences.take(rows).without_last(2), sequences.row(user)[-2:])
        nothing = Cases(rows[:0], sequences.take(rows[:0]), cases.targets[:0])
        return Parts(np.arange(len(sequences)), sequences.without_last(2), cases if has_validation else nothing, cases)

    return Split("only", cut)


def test_a_user_may_have_several_cases_and_another_none(tmp_path: Path) -> None:
    dataset = prepare(raw_of(TOY), PrepareConfig(), tmp_path / "toy", "toy", split=only(0))
    # u: a b | c a and v: b a d; items a b c d.
    for cases in (dataset.validation, load_test(tmp_path / "toy", dataset)):
        assert [cases.histories.row(row).tolist() for row in range(2)] == [[1, 2], [1, 2]]
        assert cases.targets.tolist() == [3, 1]
    assert [dataset.train.row(row).tolist() for row in range(2)] == [[1, 2], [2]]


def test_a_split_without_any_validation_case_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split 'only' leaves 'toy' no validation case; take another split"):
        prepare(raw_of(TOY), PrepareConfig(), tmp_path / "toy", "toy", split=only(0, has_validation=False))
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_items_comes_back_from_the_folder_as_such(tmp_path: Path) -> None:
    def cut(whole: Whole, config: Config) -> Parts:
        sequences = whole.sequences
        users = np.arange(len(sequences))
        cases = Cases(users, sequences.without_last(3), sequences.items[sequences.offsets[1:] - 1])
        return Parts(users, sequences.without_last(1), cases, cases)

    dataset = prepare(raw_of(TOY), PrepareConfig(), tmp_path / "toy", "toy", split=Split("early", cut))
    assert dataset.validation.histories.lengths.tolist() == [1, 0]
    assert dataset.validation.histories.items.tolist() == [1]


def test_histories_know_the_training_row_of_their_user(tmp_path):
    frame = pl.DataFrame({"user": list("aaaabbbbcccc"), "item": list("wxyzxyzwyzwx"), "time": list(range(12))})
    frame = frame.with_columns(pl.col("user", "item").cast(pl.Categorical))
    dataset = prepare(RawInteractions(frame), PrepareConfig(min_interactions=3), tmp_path / "d", "d")
    assert dataset.train.users.tolist() == [0, 1, 2]
    for cases in (dataset.validation, load_test(tmp_path / "d", dataset)):
        assert cases.histories.users.tolist() == [0, 1, 2]
        taken = cases.histories.take(np.array([2, 0])).last(1).appended(np.array([1, 1])).without_last(1)
        assert taken.users.tolist() == [2, 0]


def test_times_go_with_their_items_into_the_folder_and_through_every_cut(tmp_path: Path) -> None:
    rows = [("u", "a", 30), ("u", "b", 10), ("u", "c", 20), ("u", "d", 40), ("v", "b", 7), ("v", "a", 5), ("v", "d", 9)]
    dataset = prepare(raw_of(rows), PrepareConfig(max_history=2), tmp_path / "timed", "timed")
    test = load_test(tmp_path / "timed", dataset)
    times = [sequences.times for sequences in (dataset.train, dataset.validation.histories, test.histories)]
    assert [each.tolist() for each in times if each is not None] == [[10, 20, 5], [10, 20, 5], [20, 30, 5, 7]]
    assert dataset.times_digest is not None
    without = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").sort("user", "time").drop("time")
    frame = without.with_columns(pl.col("user", "item").cast(pl.Categorical))
    untimed = prepare(RawInteractions(frame), PrepareConfig(), tmp_path / "untimed", "untimed")
    assert untimed.train.times is None
    assert untimed.times_digest is None


def test_sequences_cut_their_times_like_their_items() -> None:
    timed = Sequences(np.arange(1, 7, dtype=np.int32), np.array([0, 2, 6]), np.arange(10, 70, 10))
    for cut in (timed.take(np.array([1, 0])), timed.last(3), timed.without_last(1)):
        assert cut.times is not None
        assert (cut.times == 10 * cut.items).all()
    assert timed.appended(np.array([8, 9])).times is None
