"""Item vectors of a user's own, from a file: which item each row is for, and whether they can be used.

    vectors.npy           (rows, F) floats; `vectors.keys` beside it has a row's item key a line
    vectors.safetensors   a tensor `vectors`, or the only one; keys in the metadata `keys` (a JSON list) or as above
    vectors.parquet       a column of keys, and one of lists of numbers, or a column of numbers for each dimension

Without keys row i is item i + 1, in the order that `harness data items` prints. Rows of other items are left out. A
file is named by its path, and `PATH@DIGEST` names its content too: so it stands in configs, whose digests tell results
of one content from those of another.

Shape legend: N items, R rows of the file, F features.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open

from harness.data.files import readable
from harness.data.formats.columns import common_column
from harness.errors import DataError

KEYS = ".keys"  # the ending of the file of keys


def location(named: str) -> tuple[Path, str | None]:
    """The path, and the digest of the content that is meant, if one is named."""
    found = re.fullmatch(r"(.+)@([0-9a-f]{12})", named)
    return (Path(found[1]), found[2]) if found else (Path(named), None)


def pinned(named: str) -> str:
    """`PATH@DIGEST` of the file's present content; `DataError` where it is missing, or another one is named."""
    path, wanted = location(named)
    present = _digest(path, _stamp(path))
    if wanted not in (None, present):
        raise DataError(
            f"{path}: has the content {present}, but {wanted} is asked for; name the file without '@{wanted}'"
        )
    return f"{path}@{present}"


def short_name(named: str) -> str:
    """The file's name without folders, for notes that are passed on."""
    path, digest = location(named)
    return path.name if digest is None else f"{path.name}@{digest}"


def own_vectors(named: str, keys: Sequence[str]) -> np.ndarray:
    """(N, F) floats, row i for item i + 1; `DataError` in one line for what is missing, doubled or no number."""
    path, _ = location(pinned(named))
    vectors_RF, row_keys = _read(path)
    if vectors_RF.ndim != 2 or not vectors_RF.shape[1] or not np.issubdtype(vectors_RF.dtype, np.floating):
        raise DataError(
            f"{path}: item vectors must be floats of shape (items, dimensions), but got {vectors_RF.dtype} "
            f"{vectors_RF.shape}"
        )
    vectors_NF = vectors_RF if row_keys is None else _joined(path, vectors_RF, row_keys, keys)
    if len(vectors_NF) != len(keys):
        raise DataError(
            f"{path}: has {len(vectors_NF)} rows and no keys, but the data set has {len(keys)} items; give the rows in "
            f"the order of `harness data items`, or their keys in {path.with_suffix(KEYS).name}"
        )
    is_bad_N = ~np.isfinite(vectors_NF).all(axis=1)
    if is_bad_N.any():
        raise DataError(
            f"{path}: item vectors must be finite, but those of {is_bad_N.sum()} items are not, the first being "
            f"'{keys[int(is_bad_N.argmax())]}'; mend them"
        )
    return vectors_NF


def width_of(named: str, keys: tuple[str, ...]) -> int:
    """F of a file whose vectors are all right; errors as in `own_vectors`. Asked again, it is not read again."""
    path, _ = location(named)
    return _checked_width(named, keys, _stamp(path))


@functools.lru_cache(maxsize=8)
def _checked_width(named: str, keys: tuple[str, ...], stamp: tuple[int, ...]) -> int:
    return int(own_vectors(named, keys).shape[1])


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when the file or its keys do; `DataError` where there is no such file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    files = [file for file in (path, path.with_suffix(KEYS)) if file.exists()]
    return tuple(number for file in files for number in (file.stat().st_mtime_ns, file.stat().st_size))


@functools.lru_cache(maxsize=8)
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    """12 hex digits of the SHA-256 of the file, and of its keys where they lie beside it."""
    state = hashlib.sha256()
    for file in (path, path.with_suffix(KEYS)):
        if file.exists():
            with file.open("rb") as stream:
                state.update(hashlib.file_digest(stream, "sha256").digest())
    return state.hexdigest()[:12]


def _joined(path: Path, vectors_RF: np.ndarray, row_keys: Sequence[str], keys: Sequence[str]) -> np.ndarray:
    """(N, F) the rows of the data set's items in their order."""
    if len(row_keys) != len(vectors_RF):
        raise DataError(f"{path}: has {len(vectors_RF)} rows, but {len(row_keys)} keys; give one key for each row")
    rows = {key: row for row, key in enumerate(row_keys)}
    if len(rows) < len(row_keys):
        twice = next(key for row, key in enumerate(row_keys) if rows[key] != row)
        raise DataError(f"{path}: each item must have one row, but '{twice}' has several; remove all but one")
    missing = [key for key in keys if key not in rows]
    if missing:
        raise DataError(
            f"{path}: has no row for {len(missing)} of {len(keys)} items, the first being '{missing[0]}', and begins "
            f"with '{''.join(row_keys[:1])}'; `harness data items` prints the keys"
        )
    return vectors_RF[[rows[key] for key in keys]]


def _read(path: Path) -> tuple[np.ndarray, list[str] | None]:
    """The file's rows, and their keys where it has any."""
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        keys = _read_keys(path.with_suffix(KEYS))
        if path.suffix != ".safetensors":
            return np.load(path, allow_pickle=False, mmap_mode="r"), keys
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            name = "vectors" if "vectors" in names or not names else names[0]
            told = (file.metadata() or {}).get("keys")
            return file.get_tensor(name), keys if told is None else list(map(str, json.loads(told)))
    except (ValueError, OSError, EOFError, SafetensorError, pl.exceptions.PolarsError) as error:
        if isinstance(error, DataError):
            raise
        # What is no array at all would be a pickle to numpy, which is nothing to advise a reader to load.
        reason = "it is no array of numbers" if "pickle" in str(error) else (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path}: not a readable file of item vectors ({reason}); .npy (numpy.save), "
            f".safetensors and .parquet are read"
        ) from None


def _read_keys(path: Path) -> list[str] | None:
    """A key a line; None where there is no such file."""
    if not path.exists():
        return None
    with readable(path) as stream:
        return stream.read().splitlines()


def _read_parquet(path: Path) -> tuple[np.ndarray, list[str]]:
    """A column of keys beside one of lists, or beside a column for each dimension."""
    frame = pl.read_parquet(path)
    key = "key" if "key" in frame.columns else common_column(frame.columns, "item")
    if key is None:
        raise DataError(f"{path}: needs a column 'key' or 'item_id', but has {', '.join(frame.columns[:6])}; rename it")
    others = frame.drop(key)
    lists = [name for name, kind in others.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if lists:
        if len(lists) > 1 or others[lists[0]].list.len().n_unique() > 1 or others[lists[0]].null_count():
            raise DataError(f"{path}: must have one column of lists, all of one length, but has {', '.join(lists)}")
        vectors = np.array(others[lists[0]].to_list(), dtype=np.float32)
    else:
        vectors = others.select(pl.selectors.numeric().cast(pl.Float32)).to_numpy()
    return vectors, frame[key].cast(pl.String).to_list()
