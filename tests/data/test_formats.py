"""Readers of raw files. Oracles: the documented counts of the real sets, and tables written out by hand."""

import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from datetime import time as clock
from pathlib import Path

import polars as pl
import pytest

from harness.data.formats.format import Columns
from harness.data.formats.read import locate, read_interactions
from harness.data.text.metadata import item_text
from harness.errors import DataError, UsageError

RealData = Callable[[str], Path]


def rows(path: Path, **options: object) -> list[tuple[str, str, float]]:
    frame = read_interactions(path, **options).frame.drop("part", strict=False)
    return frame.with_columns(pl.col("user", "item").cast(pl.String)).rows()


@pytest.mark.parametrize(
    ("name", "format", "users", "items", "interactions", "with_text"),
    [
        ("scientific2018", "amazon2023", 3_285, 3_541, 22_743, 3_541),
        ("beauty2014", "s3rec", 22_363, 12_101, 198_502, 12_101),
        ("instruments2018", "recbole", 24_772, 9_922, 206_153, None),
        ("scientific5core", "letter", 8_317, 4_344, 58_492, 4_344),
        ("ml100k", "recbole", 943, 1_682, 100_000, 1_682),
    ],
)
def test_a_real_folder_is_recognised_and_has_its_documented_counts(
    real_data: RealData, name: str, format: str, users: int, items: int, interactions: int, with_text: int | None
) -> None:
    raw = read_interactions(real_data(name))
    assert locate(real_data(name)).format == format
    assert (raw.frame["user"].n_unique(), raw.frame["item"].n_unique(), len(raw.frame)) == (users, items, interactions)
    assert (None if raw.texts is None else sum(text is not None for text in raw.texts.values())) == with_text


@pytest.mark.parametrize("header", ["", "user_id,parent_asin,rating,timestamp\n"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_an_amazon_file_reads_the_same_with_and_without_header_and_gzip(
    tmp_path: Path, header: str, ending: str
) -> None:
    text = header + "u1,b,5.0,1600000000002\nu2,a,1.0,1600000000001\n"
    path = tmp_path / f"ratings{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    assert rows(path) == [("u1", "b", 1600000000002), ("u2", "a", 1600000000001)]


def test_the_content_decides_and_not_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ti\t2.5\n")
    assert locate(path).format == "recbole"
    assert rows(path) == [("u", "i", 2.5)]


def test_an_s3rec_line_is_a_user_and_their_items_in_order(tmp_path: Path) -> None:
    (tmp_path / "Toy.txt").write_text("1 7 8\n2 8\n")
    (tmp_path / "Toy_item2attributes.json").write_text('{"7": [3, 4], "9": [1]}')
    assert rows(tmp_path) == [("1", "7"), ("1", "8"), ("2", "8")]  # their order is all that is known of the times
    assert read_interactions(tmp_path).texts == {"7": "attribute_3 attribute_4"}


def write_etegrec(folder: Path, *, users: bool = True, valid_order: tuple[int, int] = (0, 1)) -> None:
    """Users p: a b c d and q: b c a, in the authors' shape."""
    test = [{"user_id": "p", "inter_history": ["a", "b", "c"], "target_id": "d"}]
    test += [{"user_id": "q", "inter_history": ["b", "c"], "target_id": "a"}]
    valid = [{"user_id": "p", "inter_history": ["a", "b"], "target_id": "c"}]
    valid += [{"user_id": "q", "inter_history": ["b"], "target_id": "c"}]
    train = [{"user_id": "p", "inter_history": ["a"], "target_id": "b"}]
    for split, samples in (("train", train), ("valid", [valid[place] for place in valid_order]), ("test", test)):
        kept = [{key: value for key, value in sample.items() if users or key != "user_id"} for sample in samples]
        (folder / f"toy.{split}.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in kept))
    (folder / "toy.emb_map.json").write_text(json.dumps({"[PAD]": 0, "d": 1, "c": 2, "b": 3, "a": 4}))


@pytest.mark.parametrize("users", [True, False])
def test_the_authors_triple_gives_back_whole_sequences(tmp_path: Path, users: bool) -> None:
    write_etegrec(tmp_path, users=users)
    raw = read_interactions(tmp_path)
    p, q = ("p", "q") if users else ("0", "1")
    assert rows(tmp_path) == [
        *((p, item) for item in "abcd"),
        *((q, item) for item in "bca"),
    ]
    assert raw.item_order == ("d", "c", "b", "a")


def test_the_authors_triple_is_refused_when_its_files_list_users_in_different_orders(tmp_path: Path) -> None:
    write_etegrec(tmp_path, users=False, valid_order=(1, 0))
    with pytest.raises(DataError, match=r"toy\.valid\.jsonl:1: .*different orders"):
        read_interactions(tmp_path)


@pytest.mark.parametrize("time", ["3", "2.5", "2024-01-31", "2024-01-31T10:00:00"])
def test_a_generic_table_is_read_by_its_columns_names(tmp_path: Path, time: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"when;who;what\n{time};u;i\n")
    frame = read_interactions(path, columns=Columns("who", "what", "when")).frame
    assert frame["user"].cast(pl.String).to_list() == ["u"]
    assert frame["item"].cast(pl.String).to_list() == ["i"]


def test_dates_are_ordered_as_dates_and_parquet_equals_csv(tmp_path: Path) -> None:
    table = pl.DataFrame({"who": [1, 1], "what": [5, 6], "when": ["2024-02-01", "2023-12-31"]})
    table.write_csv(tmp_path / "log.csv")
    table.with_columns(pl.col("when").str.to_date().cast(pl.Datetime("us"))).write_parquet(tmp_path / "log.parquet")
    columns = Columns("who", "what", "when")
    from_csv, from_parquet = (rows(tmp_path / f"log.{end}", columns=columns) for end in ("csv", "parquet"))
    assert from_csv == from_parquet
    assert from_csv[0][2] - from_csv[1][2] == 32 * 86_400 * 10**6


def test_without_a_time_column_there_are_no_times_and_the_order_of_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("who,what\nu,b\nu,a\n")
    assert rows(path, columns=Columns("who", "what")) == [("u", "b"), ("u", "a")]


def test_an_items_text_is_cleaned_and_joined_in_the_fields_order() -> None:
    record = {
        "description": ["A <b>fine</b>\n pot.", "Holds 2 &lt; 3 l"],
        "title": "Pot &amp; lid",
        "store": None,
        "categories": ["Kitchen", "", "Pots"],
        "price": 3,
    }
    assert item_text(record) == "Pot & lid. Kitchen, Pots. A fine pot. Holds 2 < 3 l"
    assert item_text({"title": " ", "categories": [""], "features": []}) is None


def test_a_field_that_nobody_reads_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(AMAZON + "u,j,,1600000000001\n")
    assert len(rows(tmp_path / "a.csv")) == 2


AMAZON = "user_id,parent_asin,rating,timestamp\nu,i,5.0,1600000000000\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", AMAZON + "u,i,5.0\n", r"a\.csv:3: each row must have 4 fields .*, but has 3: 'u,i,5.0'"),
        ("a.csv", AMAZON + "u,i,5.0,1,2\n", r"a\.csv:3: each row must have 4 fields .*, but has 5"),
        ("a.csv", AMAZON + "u,i,5.0,soon\n", r"a\.csv:3: the timestamp must be a whole number .*, but got 'soon'"),
        ("a.csv", AMAZON + "u,i,5.0,\n", r"a\.csv:3: the timestamp must be"),
        ("a.csv", AMAZON + ",i,5.0,1600000000000\n", r"a\.csv:3: the user must not be empty"),
        ("a.csv", AMAZON.replace("rating", "user_id"), r"a\.csv:1: .*'user_id' is named twice"),
        ("a.csv", AMAZON.split("\n", 1)[0] + "\n", r"a\.csv: the file holds no interaction"),
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.csv", "who,what\nu,i\n", r"a\.csv:1: .*--user-col and --item-col, out of: who, what"),
        ("a.inter", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\tnan\n", r"a\.inter:2: the timestamp must be"),
        ("a.inter", "user_id:token\titem_id:token\nu\n", r"a\.inter:2: each row must have 2 fields"),
        ("a.txt", "1 2\n1 3\n", r"a\.txt:2: each user must have one line"),
        ("a.csv", AMAZON + "\n", r"a\.csv:3: the line is empty; remove it"),
        ("a.csv", AMAZON.replace("\nu", "\n\nu"), r"a\.csv:2: the line is empty"),
        ("a.csv", "user,item,time\nu,i,1e30\n", r"a\.csv:2: the time must be a number .*, but got '1e30'"),
        ("a.csv", "user,item,time\nu,i,2020-02-28\nu,j,2020-02-30\n", r"a\.csv:3: .*, but got '2020-02-30'"),
        ("a.csv", "user,item,time\nu,i,2020-02-28\nu,j,7\n", r"a\.csv:3: .* line 2 has '2020-02-28' and this one '7'"),
        ("a.json", '[{"user": "u", "item": "i"}]', r"a\.json: .* its first line is '\[\{.*; save it as csv or parquet"),
        ("a.dat", "1::2::5::7\n", r"a\.dat: .* its first line is '1::2::5::7'; save it as csv"),
        ("a.bin", "\x00\x01", r"a\.bin: not an interaction file of a known format"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_line_rule_and_value(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read_interactions(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item", ["i", ""], "row 2: the item must not be null, NaN or empty, as column 'item' is"),
        ("item", [1.0, float("nan")], "row 2: the item must not be null, NaN or empty"),
        ("item", [["i"], ["j"]], r"column 'item' must hold a number or a text a row, but holds List\(String\)"),
        ("item", [{"a": 1}, {"a": 2}], "column 'item' must hold a number or a text a row, but holds Struct"),
        ("item", [b"\xff", b"i"], "column 'item' must hold texts, but holds Binary that is no UTF-8"),
        ("time", [7, 2**64 - 1], r"row 2: the time must be finite and have at most 64 bits, .* holds 1\.8446744"),
        ("time", [7.0, 1e300], r"row 2: the time must be finite and have at most 64 bits, .* holds 1e\+300"),
        ("time", ["2020-02-28", "2020-02-30"], "row 2: .* column 'time' holds '2020-02-30'; mend"),
        ("time", [None, "7", "2020-02-28"], "row 3: .* column 'time' holds '2020-02-28' beside '7'"),
        ("time", [clock(7), clock(8)], "column 'time' must hold numbers or dates, but holds Time"),
    ],
)
def test_a_parquet_column_that_cannot_be_ids_or_times_is_told(
    tmp_path: Path, column: str, values: list[object], message: str
) -> None:
    names = [str(place) for place in range(len(values))]
    strict = not any(value == 2**64 - 1 for value in values)
    made = pl.Series(values) if strict else pl.Series(values, dtype=pl.UInt64)
    pl.DataFrame({"user": names, "item": names, "time": names, column: made}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        read_interactions(tmp_path / "a.parquet")


def test_neither_an_empty_nor_a_broken_file_beside_the_data_stops_their_reading(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(AMAZON)
    (tmp_path / "empty.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:-9])
    assert len(rows(tmp_path / "a.csv")) == 1
    with pytest.raises(DataError, match=r"empty\.csv\.gz: the file is empty"):
        read_interactions(tmp_path / "empty.csv.gz")


def test_lines_that_end_as_on_old_macs_are_told_with_the_command_that_mends_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(AMAZON.replace("\n", "\r").encode())
    with pytest.raises(DataError, match=r"a\.csv: lines must end in a line feed, .*: tr '\\r' '\\n' < ") as told:
        read_interactions(tmp_path / "a.csv")
    command = str(told.value).partition("convert it: ")[2].replace("NEW", str(tmp_path / "new.csv"))
    subprocess.run(command, shell=True, check=True)
    assert len(rows(tmp_path / "new.csv")) == 1


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv: must be a file or a folder, but is a pipe or a device"):
        read_interactions(tmp_path / "pipe.csv")


def test_metadata_of_other_items_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nu,i,7\n")
    (tmp_path / "items.csv").write_text("item,title\nj,Pot\n")
    with pytest.raises(DataError, match=r"items\.csv: .* names none of them, such as 'i'; name the right file with"):
        read_interactions(tmp_path / "a.csv", metadata=tmp_path / "items.csv")


def test_an_s3rec_line_without_items_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2\n2\n")
    with pytest.raises(DataError, match=r"a\.txt:2: each line must be 'user item item \.\.\.'"):
        read_interactions(tmp_path / "a.txt", format="s3rec")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"parent_asin": "i", ', r"meta\.jsonl:2: each line must be a JSON object, but .* at column"),
        ('["i"]', r"meta\.jsonl:2: each line must be a JSON object"),
        ('{"asin": "i"}', r"meta\.jsonl:2: .* needs the key 'parent_asin', but has asin"),
    ],
)
def test_a_malformed_metadata_line_is_told_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(AMAZON)
    (tmp_path / "meta.jsonl").write_text(f'{{"parent_asin": "i", "title": "t"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        read_interactions(tmp_path / "a.csv")


def test_missing_paths_unknown_formats_and_ambiguous_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_interactions(tmp_path / "nothing.csv")
    with pytest.raises(UsageError, match="unknown format 'recbol'; did you mean 'recbole'"):
        read_interactions(tmp_path, format="recbol")
    with pytest.raises(DataError, match="holds no interaction file"):
        read_interactions(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(AMAZON)
    with pytest.raises(DataError, match=re.escape("holds 2: a.csv, b.csv")):
        read_interactions(tmp_path)


def test_gzip_data_that_ends_early_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((AMAZON + "u,i,5.0,1600000000000\n" * 500).encode())[:-20])
    with pytest.raises(DataError, match=r"a\.csv\.gz: .*gzip"):
        read_interactions(tmp_path / "a.csv.gz", format="amazon2023")


def test_a_parquet_file_with_nulls_or_without_its_column_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"who": ["u", None], "what": ["i", "j"]}).write_parquet(path)
    with pytest.raises(DataError, match="row 2: the user must not be null"):
        read_interactions(path, columns=Columns("who", "what"))
    with pytest.raises(DataError, match="no column 'when'; the columns are: who, what"):
        read_interactions(path, columns=Columns("who", "what", "when"))


@pytest.mark.parametrize("time", ["nan", "inf", "1e999", "-Infinity", ""])
def test_a_time_of_a_text_table_that_is_no_finite_number_is_told_by_line_and_column(tmp_path: Path, time: str) -> None:
    (tmp_path / "log.csv").write_text(f"who,what,when\nu,i,1.5\nu,j,{time}\n")
    (tmp_path / "a.inter").write_text(f"user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1.5\nu\tj\t{time}\n")
    (tmp_path / "a.csv").write_text(f"{AMAZON}u,j,1.0,{time}\n")
    for name, line, column in (("log.csv", 3, "when"), ("a.inter", 3, "timestamp"), ("a.csv", 3, "timestamp")):
        columns = Columns("who", "what", "when") if column == "when" else None
        with pytest.raises(
            DataError, match=rf"{name}:{line}: the time.* must be .*, but got '{time}' in column '{column}'"
        ):
            read_interactions(tmp_path / name, columns=columns)


@pytest.mark.parametrize(("time", "told"), [(float("nan"), "holds nan"), (float("inf"), "holds inf"), (None, "null")])
def test_a_time_of_a_parquet_file_that_is_no_finite_number_is_told_by_row_and_column(
    tmp_path: Path, time: float | None, told: str
) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"who": ["u", "u"], "what": ["i", "j"], "when": [1.0, time]}).write_parquet(path)
    with pytest.raises(DataError, match=rf"row 2: the time must .*'when'.*{told}|row 2: .*{told}.*'when'"):
        read_interactions(path, columns=Columns("who", "what", "when"))
