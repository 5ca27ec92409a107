"""Oracles: counts that stand in the data's own README, counting by hand, a round trip through every form."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.errors import DataError, UsageError
from harness.generative.tokenizer.code_facts import agreements, code_facts, follower_lift
from harness.generative.tokenizer.code_files import read_codes, with_unique_tuples, write_codes
from harness.generative.tokenizer.codes import CodeTable

KEYS = ("a", "b", "c", "d")
CODES = [[0, 3], [1, 0], [0, 3], [2, 1]]


def table(rows: list[list[int]]) -> CodeTable:
    codes = torch.tensor(rows)
    return CodeTable.of(codes, tuple(int(size) + 1 for size in codes.amax(dim=0)))


@pytest.mark.parametrize("ending", [".index.json", ".index.json.gz", ".npy", ".parquet", ".npy.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"codes{ending}"
    write_codes(table(CODES), KEYS, path)
    again = read_codes(path, KEYS)
    assert again.codes[1:].tolist() == CODES
    assert again.sizes == (3, 4)


def test_words_are_those_of_the_other_projects(tmp_path: Path) -> None:
    write_codes(table(CODES), KEYS, tmp_path / "codes.json")
    assert json.loads((tmp_path / "codes.json").read_text())["a"] == ["<a_0>", "<b_3>"]


def test_columns_of_levels_and_other_items_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "codes.parquet"
    pl.DataFrame({"item_id": ["d", "x", "c", "b", "a"], "one": [2, 9, 0, 1, 0], "two": [1, 9, 3, 0, 3]}).write_parquet(
        path
    )
    assert read_codes(path, KEYS).codes[1:].tolist() == CODES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": ["<a_0>"]}, "has none for 3 of them, the first being 'b'"),
        ({key: ["<a_0>", "<b_1>"][: 1 + (key != "c")] for key in KEYS}, "item 'c': every item must have 2 codes"),
        ({key: ["<a_0>", "x"] for key in KEYS}, "item 'a': codes are words like <a_12>"),
        ({key: [-1, 0] for key in KEYS}, "item 'a': codes are words like <a_12>"),
        (["<a_0>"], "not a file of codes"),
    ],
)
def test_what_is_wrong_is_told_with_its_item(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "codes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_codes(path, KEYS)


def test_files_that_hold_no_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((3, 2), dtype=np.int64))
    with pytest.raises(DataError, match=r"shape \(4, levels\).*int64 \(3, 2\)"):
        read_codes(tmp_path / "short.npy", KEYS)
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"{}" * 99)[:20])
    with pytest.raises(DataError, match=r"cut.json.gz: cannot be read"):
        read_codes(tmp_path / "cut.json.gz", KEYS)
    with pytest.raises(DataError, match="no such file of codes"):
        read_codes(tmp_path / "none.json", KEYS)
    with pytest.raises(UsageError, match=r"must end in .json, .npy, .parquet"):
        write_codes(table(CODES), KEYS, tmp_path / "codes.txt")


@pytest.mark.parametrize(
    ("name", "colliding", "largest"),
    [
        ("rqvae_native", 887, 22),
        ("rkmeans_native", 1326, 26),
        ("quasid_native", 235, 4),
        ("letter_native", 54, 2),
        ("rqvae_zcr", 0, 1),
        ("letter_zcr", 0, 1),
    ],
)
def test_published_files_have_the_collisions_that_were_counted(
    real_data, name: str, colliding: int, largest: int
) -> None:
    folder = real_data("scientific5core")
    keys = list(json.loads(gzip.decompress((folder / "Scientific.item.json.gz").read_bytes())))
    codes = read_codes(folder / "indexes" / f"{name}.index.json.gz", keys)
    sharers = codes.sharers(codes.num_levels)
    assert (int((sharers > 1).sum()), int(sharers.max())) == (colliding, largest)


def test_as_few_items_as_possible_get_another_last_code(real_data) -> None:
    """Of each tuple one item stays: 4,344 items with 3,790 tuples need 554 moves."""
    folder = real_data("scientific5core")
    keys = list(json.loads(gzip.decompress((folder / "Scientific.item.json.gz").read_bytes())))
    codes = read_codes(folder / "indexes" / "rqvae_native.index.json.gz", keys)
    unique, found = with_unique_tuples(codes, 256)
    assert (found.moved, found.left) == (554, 0)
    assert unique.unique
    assert torch.equal(unique.codes[:, :-1], codes.codes[:, :-1])
    assert int((unique.codes[:, -1] != codes.codes[:, -1]).sum()) == 554


def test_facts_by_hand() -> None:
    train = Sequences.from_rows([[1, 3, 2], [3, 1], [4]])
    dataset = Dataset("hand", "0" * 16, Catalog(KEYS), train, EvalCases(train, np.array([1, 2, 3], dtype=np.int32)))
    facts = code_facts(table(CODES), dataset)
    assert facts["used_codes"] == [3, 3]
    assert facts["collision_rate"] == 0.25
    assert facts["colliding_items"] == 0.5
    # Neighbours: (1, 3), (3, 2), (3, 1), first codes (0, 0), (0, 1), (0, 0). By chance 3 * 2 / 3 pairs would be equal.
    assert facts["followers"] == pytest.approx(2 / (3 * 2 / 3))
    assert follower_lift(np.array([0, 1, 2, 3]), train) == 0


def test_agreement_looks_at_groups_and_not_at_names() -> None:
    renamed = table([[2, 0], [0, 0], [2, 0], [1, 0]])
    (found,) = agreements([table(CODES), renamed])
    assert found["same_tuples"] == 0
    assert found["level_agreement"] == pytest.approx([1.0, 1.0])
    (same,) = agreements([table(CODES), table(CODES)])
    assert same["same_tuples"] == 1
