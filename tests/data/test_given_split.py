"""Splits as they are published, read from files of each form. Oracles: parts worked out by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from harness.data.dataset import Sequences
from harness.data.filters import PrepareConfig
from harness.data.formats.read import locate, read_interactions
from harness.data.open import Source, open_dataset
from harness.data.prepare import describe, load_dataset, load_test, prepare
from harness.data.splits import given
from harness.data.splits.split import Part, Whole
from harness.errors import DataError

# Of p the items a b c d e, of q f a g: their last is the test, the one before it the validation.
AMAZON = {
    "train": "p,a,5.0,1600000000001,\np,b,4.0,1600000000002,a\np,c,5.0,1600000000003,a b\nq,f,1.0,1600000000001,\n",
    "valid": "p,d,5.0,1600000000003,a b c\nq,a,5.0,1600000000005,f\n",
    "test": "p,e,5.0,1600000000009,a b c d\nq,g,5.0,1600000000006,f a\n",
}
HEADER = "user_id,parent_asin,rating,timestamp,history\n"


def write(folder: Path, texts: dict[str, str], header: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for part, text in texts.items():
        (folder / f"Toy.{part}.csv").write_text(header + text)
    return folder


def seen(folder: Path, raw_folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Training sequences, and histories and targets, in keys of one letter."""
    data = prepare(read_interactions(raw_folder), PrepareConfig(min_interactions=1), folder, "toy", split=given.SPLIT)

    def text(items: np.ndarray) -> str:
        return "".join(data.catalog.keys[item - 1] for item in items)

    found = {"train": [(text(data.train.row(row)), "") for row in range(len(data.train))]}
    for part, cases in (("validation", data.validation), ("test", load_test(folder, data))):
        found[part] = [
            (text(cases.histories.row(row)), text(cases.targets[row : row + 1])) for row in range(len(cases))
        ]
    return found


BY_HAND = {
    "train": [("abc", ""), ("f", "")],
    "validation": [("abc", "d"), ("f", "a")],
    "test": [("abcd", "e"), ("fa", "g")],
}


@pytest.mark.parametrize("header", [HEADER, ""])
@pytest.mark.parametrize("with_history", [True, False])
def test_amazons_parts_are_those_of_the_files(tmp_path: Path, header: str, with_history: bool) -> None:
    if with_history:
        folder = write(tmp_path / "raw", AMAZON, header)
    else:  # the files of `last_out`
        texts = {part: "".join(f"{line.rpartition(',')[0]}\n" for line in AMAZON[part].splitlines()) for part in AMAZON}
        folder = write(tmp_path / "raw", texts, header.replace(",history", ""))
    assert locate(folder).format == "amazon2023"
    assert seen(tmp_path / "made", folder) == BY_HAND
    assert locate(folder / "Toy.valid.csv").interactions == locate(folder).interactions


def test_items_that_stand_in_histories_alone_are_neither_learnt_nor_asked_for(tmp_path: Path) -> None:
    # Between p's b and d the file of another filter has left out c; q is tested and never learnt.
    texts = {
        "train": "p,a,5.0,1600000000001,\np,b,4.0,1600000000002,a\n",
        "valid": "p,d,5.0,1600000000004,a b c\n",
        "test": "p,e,5.0,1600000000009,a b c d\nq,g,5.0,1600000000006,f a\n",
    }
    assert seen(tmp_path / "made", write(tmp_path / "raw", texts)) == {
        "train": [("ab", "")],
        "validation": [("abc", "d")],
        "test": [("abcd", "e"), ("fa", "g")],
    }
    assert describe(tmp_path / "made")["new_users"] == 1
    assert describe(tmp_path / "made")["items"] == 7


def test_a_history_that_is_not_what_precedes_its_row_is_told_and_the_rows_decide(tmp_path: Path) -> None:
    texts = {**AMAZON, "test": "p,e,5.0,1600000000009,a b d\nq,g,5.0,1600000000006,f a\n"}
    folder = write(tmp_path / "raw", texts)
    assert seen(tmp_path / "made", folder) == BY_HAND
    (note,) = describe(tmp_path / "made")["notes"]
    assert note == (
        f"{folder / 'Toy.train.csv'}: 1 of 8 histories are not what precedes their row (user 'p', target 'e'); "
        "there the order of the rows alone decides"
    )


def minionerec(rows: str) -> str:
    """The header that MiniOneRec's conversion writes, and rows of user, history and item with empty other fields."""
    names = "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid\n"
    fields = (line.split(";") for line in rows.split())
    return names + "".join(
        f"""{user},"['T, 1', ""a's""]",Title,"[{history}]",{item},,\n""" for user, history, item in fields
    )


@pytest.mark.parametrize("in_folders", [True, False])
def test_minionerecs_rows_become_sequences(tmp_path: Path, in_folders: bool) -> None:
    # Histories cut at 2. p: 1 2 3 4 5, split by time; q is tested only, so that nothing of it is learnt; r is 4 0 1 2.
    texts = {"train": "p;1;2 p;1,2;3 r;4;0", "valid": "p;2,3;4 r;4,0;1", "test": "p;3,4;5 q;6;0 r;0,1;2"}
    folder = tmp_path / "raw"
    for part, text in texts.items():
        path = folder / part / "Toy.csv" if in_folders else folder / f"Toy.{part}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(minionerec(text))
    assert locate(folder).format == "minionerec"
    assert seen(tmp_path / "made", folder) == {
        "train": [("123", ""), ("40", "")],
        "validation": [("123", "4"), ("40", "1")],
        "test": [("1234", "5"), ("401", "2"), ("6", "0")],
    }
    assert describe(tmp_path / "made")["notes"] == []


def test_a_part_that_is_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "Toy.train.csv"
    path.write_text(minionerec("p;1;2"))
    with pytest.raises(
        DataError, match=r"minionerec needs files .* but .*Toy\.valid\.csv, .*Toy\.test\.csv is missing"
    ):
        read_interactions(path)


def test_parts_that_run_back_in_time_are_refused() -> None:
    sequences = Sequences.from_rows([[1, 2, 3], [1, 2, 3]])
    parts = np.array([Part.TRAIN, Part.VALIDATION, Part.TEST, Part.TEST, Part.CONTEXT, Part.TRAIN], dtype=np.uint8)
    with pytest.raises(
        DataError, match=r"those of 1 users are not: user 2 of the files has one of train after one of test"
    ):
        given.cut(Whole(sequences, None, parts), given.SPLIT.config)


def test_data_without_parts_have_no_given_split(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(AMAZON["train"].replace(",\n", "\n").replace(",a\n", "\n").replace(",a b\n", "\n"))
    with pytest.raises(DataError, match="split 'given' needs data that are published in parts"):
        open_dataset(Source(str(path), split="given"), tmp_path / "cache")


def test_parts_that_are_leave_one_outs_make_the_same_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", AMAZON)
    usual, as_given = (
        load_dataset(open_dataset(Source(str(folder), split=split), tmp_path / "cache"))
        for split in ("leave-one-out", "given")
    )
    assert as_given.fingerprint == usual.fingerprint
    assert (as_given.name, as_given.split, as_given.original) == ("raw-given", "given", "raw")
    # One training row less, and it is another.
    write(folder, {**AMAZON, "train": AMAZON["train"].replace("p,c,5.0,1600000000003,a b\n", "")})
    other = load_dataset(open_dataset(Source(str(folder), split="given"), tmp_path / "cache"))
    assert other.fingerprint != usual.fingerprint


def test_the_reading_keeps_times_and_the_order_of_equal_ones(tmp_path: Path) -> None:
    frame = read_interactions(write(tmp_path, AMAZON)).frame.with_columns(pl.col("user", "item").cast(pl.String))
    assert frame.filter(pl.col("user") == "p").select("item", "time").rows() == [
        ("a", 1600000000001),
        ("b", 1600000000002),
        ("c", 1600000000003),
        ("d", 1600000000003),
        ("e", 1600000000009),
    ]
