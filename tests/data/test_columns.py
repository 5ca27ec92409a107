"""Columns of tables by their names. Oracle: the list of names in docs/data.md, and tables written out by hand."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from harness.data.formats.format import Columns
from harness.data.formats.read import formats, locate, read_interactions
from harness.errors import DataError, UsageError

ROWS = [("u1", "b", 1_600_000_002), ("u1", "a", 1_600_000_001), ("u2", "c", 1_600_000_003)]


def write(path: Path, user: str, item: str, time: str, values: list[object] | None = None) -> Path:
    table = pl.DataFrame(ROWS, schema=[user, item, time], orient="row").with_columns(rating=pl.lit(5.0))
    table = table if values is None else table.with_columns(pl.Series(time, values))
    table.write_parquet(path) if path.suffix == ".parquet" else table.write_csv(path)
    return path


def rows(path: Path, columns: Columns | None = None) -> list[tuple[object, ...]]:
    frame = read_interactions(path, columns=columns).frame
    return frame.with_columns(pl.col("user", "item").cast(pl.String)).rows()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("user", "item", "time"),
    [
        ("user_id", "item_id", "timestamp"),
        ("userId", "itemId", "time"),
        ("user", "movieId", "ts"),
        ("UID", "parent_asin", "Date"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("USER_ID", "Sku", "TIMESTAMP"),
    ],
)
def test_headers_in_common_use_need_no_option(tmp_path: Path, ending: str, user: str, item: str, time: str) -> None:
    path = write(tmp_path / f"log.{ending}", user, item, time)
    assert rows(path) == ROWS
    raw = read_interactions(path)
    assert raw.columns is not None
    assert raw.columns.columns == Columns(user, item, time)
    told = f"users in column '{user}', items in '{item}', times in '{time}'; ratings in 'rating' are not used"
    assert str(raw.columns).startswith(told)


def test_the_more_precise_of_two_columns_counts_and_the_other_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("asin,user,parent_asin,date,timestamp\na1,u,p1,2020-01-01,7\n")
    chosen = read_interactions(path).columns
    assert chosen is not None
    assert (chosen.columns, chosen.unused) == (Columns("user", "parent_asin", "timestamp"), ("asin", "date"))


def test_a_named_column_goes_before_the_usual_names_and_each_may_be_named_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,buyer,item,time\nx,u,i,7\n")
    assert rows(path, Columns(user="buyer")) == [("u", "i", 7)]
    # A column of times is read even where users and items alone are named.
    assert rows(path, Columns("buyer", "item")) == [("u", "i", 7)]
    assert rows(path, Columns(time="none")) == [("x", "i")]


def test_a_column_that_may_hold_times_is_never_passed_over_in_silence(tmp_path: Path) -> None:
    for name, header in (("log.csv", "user,item,when"), ("amazon.csv", "user_id,parent_asin,when")):
        (tmp_path / name).write_text(f"{header}\nu,i,7\n")
        told = str(read_interactions(tmp_path / name).columns)
        assert "no times: the rows' order counts; not used: when" in told
        assert "name it with --time-col" in told
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\ttime:float\nu\ti\t7\n")
    assert rows(tmp_path / "a.inter") == [("u", "i", 7.0)]


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        (["2024-03-02", "2024-03-01", "2024-03-03"], 86_400),
        (["2024-03-01T10:00:05Z", "2024-03-01T10:00:01Z", "2024-03-01T11:00:00+00:00"], 4),
        (["2024-03-01 10:00:05.5", "2024-03-01 10:00:01.25", "2024-03-02 00:00"], 4.25),
    ],
)
def test_iso_dates_in_a_column_date_are_read_as_microseconds(tmp_path: Path, texts: list[str], seconds: float) -> None:
    for ending in ("csv", "parquet"):  # in parquet they are strings here
        read = rows(write(tmp_path / f"log.{ending}", "user", "item", "date", texts))
        assert read[0][2] - read[1][2] == seconds * 1_000_000  # type: ignore[operator]


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("who,item,time", Columns(), r"log\.csv:1: .* for users; name one with --user-col, out of: who, item, time"),
        ("user,what,time", Columns(), r"for items; name one with --item-col"),
        ("user,item,time", Columns(time="when"), r"no column 'when'; the columns are: user, item, time"),
        ("user,item,time", Columns(user="item"), "must be columns of their own, but got item, item, time"),
        ("user,item,date", Columns(), r"log\.csv:2: the time must be a number or an ISO 8601 date, but got 'soon'"),
    ],
)
def test_what_cannot_be_told_is_one_line_with_the_option(
    tmp_path: Path, header: str, columns: Columns, message: str
) -> None:
    (tmp_path / "log.csv").write_text(f"{header}\nu,i,soon\n")
    with pytest.raises(DataError, match=message) as error:
        read_interactions(tmp_path / "log.csv", columns=columns)
    assert "\n" not in str(error.value)


ITEMS = pl.DataFrame({"movieId": ["b", "a", "z"], "title": ["Red pot", "Blue pot", "None"], "genres": ["A|B", "C", ""]})


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_tables_items_have_texts_where_a_file_of_them_is_named(tmp_path: Path, ending: str) -> None:
    write(tmp_path / "log.csv", "userId", "movieId", "timestamp")
    path = tmp_path / f"items.{ending}"
    {"csv": ITEMS.write_csv, "parquet": ITEMS.write_parquet, "jsonl": ITEMS.write_ndjson}[ending](path)
    raw = read_interactions(tmp_path / "log.csv", metadata=path)
    assert raw.texts == {"b": "Red pot. A|B", "a": "Blue pot. C"}


def test_metadata_that_nobody_would_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "log.csv", "userId", "movieId", "timestamp")
    ITEMS.rename({"movieId": "film"}).write_csv(tmp_path / "items.csv")
    with pytest.raises(DataError, match=r"items\.csv:2: an item needs a key under a usual name .* film, title, genres"):
        read_interactions(path, metadata=tmp_path / "items.csv")
    monkeypatch.setitem(formats(), "csv", replace(formats()["csv"], texts=None))
    with pytest.raises(UsageError, match="format 'csv' reads no metadata; leave it out"):
        locate(path, metadata=tmp_path / "items.csv")
