"""Vectors of one's own. Oracles: the rows written by hand, permuted, doubled and left out."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from harness.data.text.own import own_vectors, pinned, short_name, width_of
from harness.errors import DataError

KEYS = ("a", "b", "c")
VECTORS = np.arange(8, dtype=np.float32).reshape(4, 2)
ROW_KEYS = ["c", "x", "a", "b"]  # in an order of their own, with an item that the data do not have
EXPECTED = VECTORS[[2, 3, 0]]


def write(folder: Path, form: str, vectors: np.ndarray = VECTORS, keys: list[str] | None = None) -> Path:
    keys = ROW_KEYS if keys is None else keys
    if form == "npy":
        np.save(folder / "own.npy", vectors)
        (folder / "own.keys").write_text("".join(f"{key}\n" for key in keys))
    elif form == "safetensors":
        save_file({"vectors": vectors}, folder / "own.safetensors", metadata={"keys": json.dumps(keys)})
    elif form == "lists":
        pl.DataFrame({"key": keys, "vector": vectors.tolist()}).write_parquet(folder / "own.parquet")
    else:
        columns = {f"d{place}": column for place, column in enumerate(vectors.T)}
        pl.DataFrame({"itemId": keys, **columns}).write_parquet(folder / "own.parquet")
    return folder / f"own.{form if form in ('npy', 'safetensors') else 'parquet'}"


FORMS = pytest.mark.parametrize("form", ["npy", "safetensors", "lists", "columns"])


@FORMS
def test_rows_are_joined_to_the_items_by_their_keys(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    np.testing.assert_array_equal(own_vectors(str(path), KEYS), EXPECTED)
    assert width_of(str(path), KEYS) == 2


@FORMS
@pytest.mark.parametrize(
    ("vectors", "keys", "message"),
    [
        (VECTORS, ["c", "x", "a", "y"], "has no row for 1 of 3 items, the first being 'b', and begins with 'c'"),
        (VECTORS, ["c", "a", "a", "b"], "each item must have one row, but 'a' has several"),
        (
            np.where(VECTORS == 7, np.nan, VECTORS),
            ROW_KEYS,
            "finite, but those of 1 items are not, the first being 'b'",
        ),
        (
            np.where(VECTORS == 0, np.inf, VECTORS),
            ROW_KEYS,
            "finite, but those of 1 items are not, the first being 'c'",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, form: str, vectors: np.ndarray, keys: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        width_of(str(write(tmp_path, form, vectors, keys)), KEYS)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/own.")


def test_without_keys_the_rows_are_the_items_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", VECTORS[:3])
    np.testing.assert_array_equal(own_vectors(str(tmp_path / "own.npy"), KEYS), VECTORS[:3])
    with pytest.raises(DataError, match=r"has 3 rows and no keys, but the data set has 2 items; .* own\.keys"):
        own_vectors(str(tmp_path / "own.npy"), KEYS[:2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.npy", b"not an array", r"not a readable file of item vectors"),
        ("own.parquet", b"PAR1", r"not a readable file of item vectors"),
        ("own.safetensors", b"xx", r"not a readable file of item vectors"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        own_vectors(str(tmp_path / name), KEYS)
    assert "\n" not in str(error.value)


def test_shapes_and_kinds_that_are_no_vectors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npy"
    for array in (np.ones(3, np.float32), np.ones((3, 2), np.int64), np.ones((3, 0), np.float32)):
        np.save(path, array)
        with pytest.raises(DataError, match="must be floats of shape"):
            own_vectors(str(path), KEYS)
    np.save(path, VECTORS)
    (tmp_path / "own.keys").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="has 4 rows, but 3 keys"):
        own_vectors(str(path), KEYS)
    pl.DataFrame({"key": list(KEYS), "v": [[1.0], [1.0, 2.0], [1.0]]}).write_parquet(tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="one column of lists, all of one length"):
        own_vectors(str(tmp_path / "ragged.parquet"), KEYS)
    pl.DataFrame({"film": list(KEYS), "v": [1.0, 2.0, 3.0]}).write_parquet(tmp_path / "nameless.parquet")
    with pytest.raises(DataError, match="needs a column 'key' or 'item_id', but has film, v"):
        own_vectors(str(tmp_path / "nameless.parquet"), KEYS)


def test_a_pinned_name_tells_the_content_and_refuses_another(tmp_path: Path) -> None:
    path = write(tmp_path, "npy")
    before = pinned(str(path))
    assert pinned(before) == before
    assert short_name(before).startswith("own.npy@")
    write(tmp_path, "npy", keys=["c", "x", "b", "a"])  # the keys are a part of it
    after = pinned(str(path))
    assert after != before
    with pytest.raises(DataError, match="is asked for; name the file without"):
        own_vectors(before, KEYS)
    with pytest.raises(DataError, match=r"nowhere\.npy: no such file; check the path"):
        pinned(str(tmp_path / "nowhere.npy"))
