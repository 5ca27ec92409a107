"""LETTER's json. Oracles: files written out by hand, and the published counts of the real set."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from harness.data.filters import PrepareConfig
from harness.data.formats.read import locate, read_interactions
from harness.data.prepare import prepare
from harness.errors import DataError

INTER = {"0": [2, 0, 10, 0], "1": [10, 2, 0]}
ITEMS = {
    "2": {"title": "Pot &amp; lid.", "description": "A <b>fine</b> pot", "brand": "Acme", "categories": "Home,Pots"},
    "0": {"title": "", "description": "", "brand": "", "categories": ""},
    "10": {"title": "Spoon", "description": "", "brand": "", "categories": ""},
    "7": {"title": "Nobody's", "description": "", "brand": "", "categories": ""},
}


def write(folder: Path, inter: object = INTER, items: object = ITEMS, *, zipped: bool = False) -> Path:
    for name, content in (("inter", inter), ("item", items)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content, indent=2 if name == "item" else None)
            path = folder / f"Toy.{name}.json{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return folder


def rows(folder: Path) -> list[tuple[str, str]]:
    return read_interactions(folder).frame.select(pl.col("user", "item").cast(pl.String)).rows()


@pytest.mark.parametrize("zipped", [True, False])
def test_lists_are_sequences_and_items_keep_their_numbers_and_texts(tmp_path: Path, zipped: bool) -> None:
    folder = write(tmp_path, zipped=zipped)
    assert locate(folder).format == "letter"
    assert rows(folder) == [("0", item) for item in ("2", "0", "10", "0")] + [("1", item) for item in ("10", "2", "0")]
    data = prepare(read_interactions(folder), PrepareConfig(), tmp_path / "made", "toy")
    assert data.catalog.keys == ("0", "2", "7", "10")  # by number, 7 too, which nobody has
    assert data.catalog.texts == (None, "Pot & lid. Acme. Home,Pots. A fine pot", "Nobody's", "Spoon")


def test_an_item_without_metadata_is_kept(tmp_path: Path) -> None:
    raw = read_interactions(write(tmp_path, items={"2": ITEMS["2"]}))
    assert raw.item_order == ("0", "2", "10")
    assert read_interactions(write(tmp_path, inter={"a": ["x", "w"]}, items={"x": ITEMS["2"]})).item_order is None


def test_maps_give_numbers_their_keys_and_order_users(tmp_path: Path) -> None:
    write(tmp_path, inter={"1": [1, 0, 2], "0": [0, 1, 1]}, items={"1": {"title": "Spoon"}, "9": {"title": "Unknown"}})
    (tmp_path / "Toy.item2id").write_text("B00A\t0\nB00B\t1\nB00C\t2\nnobody's\t3\n")
    (tmp_path / "Toy.user2id").write_text("ann\t0\nbob\t1\n")
    raw = read_interactions(tmp_path)
    assert raw.item_order == ("B00A", "B00B", "B00C", "nobody's")
    assert raw.texts is not None
    assert {key: text for key, text in raw.texts.items() if text} == {"B00B": "Spoon"}
    ann = [("ann", "B00A"), ("ann", "B00B"), ("ann", "B00B")]
    assert rows(tmp_path) == [*ann, ("bob", "B00B"), ("bob", "B00A"), ("bob", "B00C")]


@pytest.mark.parametrize(
    ("inter", "items", "message"),
    [
        (
            '{"0": [1, 2, 3],\n "1": [4 5]}',
            None,
            r"Toy\.inter\.json:2: the file must be one JSON object, but .* column 10",
        ),
        ('{"0": [1, 2], "0": [3]}', None, r"each key must stand once in an object, but '0' stands there twice"),
        ({"0": [1], "3": []}, None, r"each user must have a list of one item or more, .* but user '3' has '\[\]'"),
        ({"0": [1], "3": {"1": 2}}, None, r"but user '3' has"),
        ({"0": [1], "3": [[1]]}, None, r"but user '3' has '\[\[1\]\]'"),
        (INTER, {"2": {"title": "t"}, "0": "pot"}, r"Toy\.item\.json: .* item '0' has 'pot'"),
        (INTER, '{"2": {"title": "t"},', r"Toy\.item\.json:1: the file must be one JSON object"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, inter: object, items: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_interactions(write(tmp_path, inter, items))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("map_text", "message"),
    [
        ("a\t0\nb\t2\n", r"Toy\.item2id: the numbers must count from 0 to 1, each once, but 'b' has 2 where 1 is next"),
        ("a\t0\nb 1\n", r"Toy\.item2id:2: each line must be a key, a tab and a number, but got 'b 1'"),
        ("a\t0\nb\t1\n", r"Toy\.item2id: numbers 0 to 1, but item '2' has interactions"),
    ],
)
def test_a_bad_map_is_one_line(tmp_path: Path, map_text: str, message: str) -> None:
    write(tmp_path, {"0": [0, 2, 1]}, None)
    (tmp_path / "Toy.item2id").write_text(map_text)
    with pytest.raises(DataError, match=message):
        read_interactions(tmp_path)


def test_items_of_the_published_set_are_its_numbers(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    data = prepare(read_interactions(real_data("scientific5core")), PrepareConfig(), tmp_path / "made", "set")
    assert data.catalog.keys == tuple(map(str, range(4_344)))
    assert data.catalog.texts is not None
    assert all(data.catalog.texts)
    # 58,492 interactions, less the first and the two held out of each of 8,317 users.
    assert int((data.train.lengths - 1).sum()) == 58_492 - 3 * 8_317
