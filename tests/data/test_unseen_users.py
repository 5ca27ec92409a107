"""The split of unseen users. Oracles: arithmetic by hand, the original data set, and a list once written down."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.filters import PrepareConfig
from harness.data.formats.format import Columns, RawInteractions
from harness.data.open import Source, open_dataset
from harness.data.prepare import describe, load_dataset, load_test, prepare, split_again
from harness.data.splits import unseen_users
from harness.data.splits.unseen_users import UnseenUsersConfig, new_user_rows
from harness.errors import DataError

# Items of each user in order; with a share of 2/5, users c (3 items) and e (4) are new. Item z is theirs alone.
HISTORIES = {"a": "pqrstu", "b": "qrstu", "c": "zpq", "d": "rstup", "e": "zqrs"}
SHARE = replace(unseen_users.SPLIT, config=UnseenUsersConfig(new_user_share=0.4))


def prepared(folder: Path, histories: dict[str, str]) -> Path:
    rows = [(user, item, time) for user, items in histories.items() for time, item in enumerate(items)]
    schema = {"user": pl.Categorical, "item": pl.Categorical, "time": pl.Int64}
    raw = RawInteractions(pl.DataFrame(rows, schema=schema, orient="row"), texts={"z": "zither"})
    prepare(raw, PrepareConfig(max_history=4), folder, "toy")
    return folder


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return prepared(tmp_path / "toy", HISTORIES)


@pytest.fixture
def derived(original: Path, tmp_path: Path) -> Path:
    split_again(original, SHARE, tmp_path / "derived")
    return tmp_path / "derived"


def rows_of(sequences: object, keys: tuple[str, ...]) -> list[str]:
    return ["".join(keys[item - 1] for item in sequences.row(row)) for row in range(len(sequences))]


def test_nothing_of_the_users_with_fewest_interactions_is_learnt(derived: Path) -> None:
    dataset = load_dataset(derived)
    keys = dataset.catalog.keys
    assert rows_of(dataset.train, keys) == ["pqrs", "qrs", "rst"]  # of a, b, d
    assert [keys[item - 1] for item in dataset.validation.targets] == ["t", "t", "u"]
    assert rows_of(dataset.validation.histories, keys) == ["pqrs", "qrs", "rst"]


def test_all_users_are_tested_in_the_originals_order_with_complete_histories(original: Path, derived: Path) -> None:
    dataset = load_dataset(derived)
    keys = dataset.catalog.keys
    cases = load_test(derived, dataset)
    assert rows_of(cases.histories, keys) == ["qrst", "qrst", "zp", "rstu", "zqr"]  # the last 4 items
    assert "".join(keys[item - 1] for item in cases.targets) == "uuqps"
    assert cases.new_users.tolist() == [False, False, True, False, True]
    assert (cases.histories.users < 0).tolist() == cases.new_users.tolist()
    before = load_test(original, load_dataset(original))
    assert before.new_users is None
    assert (cases.targets == before.targets).all()
    assert rows_of(cases.histories, keys) == rows_of(before.histories, keys)


def test_the_items_stay_and_the_name_says_what_was_done(original: Path, derived: Path) -> None:
    before, after = load_dataset(original), load_dataset(derived)
    assert after.catalog == before.catalog
    assert after.catalog.texts is not None
    assert (after.name, after.original, before.original) == ("toy-unseen-users", "toy", None)
    assert after.fingerprint != before.fingerprint
    assert after.max_history == before.max_history


def test_the_list_of_new_users_is_stored(derived: Path) -> None:
    assert pl.read_parquet(derived / "test.parquet").filter("new_user")["user"].to_list() == ["c", "e"]


def test_the_description_counts_all_users_and_what_is_learnt_of_the_known_ones(original: Path, derived: Path) -> None:
    before, after = describe(original), describe(derived)
    changed = {key: (before.get(key), after[key]) for key in after if before.get(key) != after[key]}
    del changed["name"], changed["fingerprint"]
    # Training samples are the interactions but for a user's first, validation and test one: 23 - 15, 16 - 9.
    # Training has p, q, r, s of a, then t of d; u is cold in both, z only where c and e are unseen.
    assert changed == {"new_users": (None, 2), "train_samples": (8, 7), "cold_items": (1, 2)}


def test_no_file_with_a_new_users_sequence_is_opened_for_learning(derived: Path) -> None:
    (derived / "test.parquet").unlink()
    assert len(load_dataset(derived).train) == 3
    for file in ("train.parquet", "validation.parquet"):
        assert pl.read_parquet(derived / file)["user"].to_list() == ["a", "b", "d"]
    with pytest.raises(DataError, match="missing"):
        load_test(derived, load_dataset(derived))


def test_damage_of_the_originals_test_file_is_found_before_anything_is_written(original: Path, tmp_path: Path) -> None:
    (original / "test.parquet").write_bytes(b"cut short")
    with pytest.raises(DataError, match=r"test\.parquet: damaged"):
        split_again(original, SHARE, tmp_path / "derived")
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


@given(
    lengths=st.lists(st.integers(3, 9), min_size=2, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_no_new_user_has_more_interactions_than_a_known_one(lengths: list[int], share: float, seed: int) -> None:
    lengths_U = np.array(lengths)
    config = UnseenUsersConfig(new_user_share=share, seed=seed)
    count = round(share * len(lengths))
    if count in (0, len(lengths)):
        with pytest.raises(DataError, match="some users must be new and some not"):
            new_user_rows(lengths_U, config)
        return
    rows = new_user_rows(lengths_U, config)
    assert len(set(rows.tolist())) == len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert lengths_U[rows].max() <= np.delete(lengths_U, rows).min()
    assert rows.tolist() == new_user_rows(lengths_U, config).tolist()


def test_ties_are_settled_by_the_seed_and_every_tied_user_may_be_chosen() -> None:
    lengths_U = np.array([5, 9, 5, 5, 4, 5])
    config = UnseenUsersConfig(new_user_share=1 / 3)
    chosen = {tuple(new_user_rows(lengths_U, config.replace(seed=seed)).tolist()) for seed in range(40)}
    assert chosen == {(0, 4), (2, 4), (3, 4), (4, 5)}


GOLDEN = [4, 35, 45, 59, 72, 93, 138, 151, 186, 194]


def test_the_list_for_equal_users_stays_what_it_was() -> None:
    """Golden: NumPy 2, `new_user_rows(np.full(200, 5), UnseenUsersConfig())`; a change would break stored runs."""
    assert new_user_rows(np.full(200, 5), UnseenUsersConfig()).tolist() == GOLDEN


def test_the_share_makes_the_published_numbers_of_new_users() -> None:
    # METHODS D.2: about 2,872 of 57,439 users of Instrument and 2,549 of 50,985 of Scientific.
    assert len(new_user_rows(np.full(57_439, 5), UnseenUsersConfig())) == 2_872
    assert len(new_user_rows(np.full(50_985, 5), UnseenUsersConfig())) == 2_549


def test_a_derived_set_lies_in_the_cache_beside_its_original_and_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "".join(f"u{u},i{(u + t) % 9},{t}\n" for u in range(40) for t in range(5)))
    whole = Source(str(path), columns=Columns("user", "item", "time"))
    source = replace(whole, split="unseen-users")
    folder = open_dataset(source, tmp_path / "cache")
    assert folder.parent == tmp_path / "cache" / "prepared"
    assert folder.name.startswith("log-unseen-users-")
    written = (folder / "meta.json").stat().st_mtime_ns
    assert open_dataset(source, tmp_path / "cache") == folder
    assert (folder / "meta.json").stat().st_mtime_ns == written
    assert describe(folder)["new_users"] == 2
    original = open_dataset(whole, tmp_path / "cache")
    assert load_dataset(original).num_users == 40
    # A prepared folder anywhere is a data set too, and what is made from it is the same.
    elsewhere = shutil.copytree(original, tmp_path / "elsewhere")
    again = open_dataset(Source(str(elsewhere), split="unseen-users"), tmp_path / "cache")
    assert again.parent == folder.parent
    assert load_dataset(again).fingerprint == load_dataset(folder).fingerprint


def test_users_cannot_be_left_out_twice(derived: Path, tmp_path: Path) -> None:
    assert open_dataset(Source(str(derived)), tmp_path) == derived
    with pytest.raises(DataError, match="split by unseen-users already"):
        open_dataset(Source(str(derived), split="unseen-users"), tmp_path)
