"""Item codes in the files of other projects, and ours written as theirs.

    NAME.json    {item key: ["<a_12>", "<b_3>", ...]}, numbers in place of the words too (LETTER, LC-Rec, MiniOneRec)
    NAME.npy     (N, L) whole numbers, row i for item i + 1, in the order of the data set's items
    NAME.safetensors  as a run of this project keeps them
    NAME.parquet a column `key` or `item_id`, and a column of lists, or one of numbers for each level

Each may be compressed (`.json.gz`). Levels have the codes 0 to the largest that occurs.

Shape legend: N items, L levels.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from harness.data.dataset import PADDING
from harness.errors import DataError, UsageError
from harness.generative.tokenizer.codes import CodeTable
from harness.generative.tokenizer.reassign import Reassigned, reassign

ENDINGS = (".json", ".npy", ".parquet")
LETTERS = string.ascii_lowercase  # of the levels, in order


def read_codes(path: Path, keys: Sequence[str]) -> CodeTable:
    """The codes of a data set's items from a file; those of other items are left out.

    `DataError` with the file, the item and the rule for what is no code, missing, doubled or of unequal length.
    """
    if path.suffix == ".safetensors":
        return CodeTable.load(path, keys)
    rows = _rows(path, _content(path), keys)
    missing = [key for key in keys if key not in rows]
    if missing:
        raise DataError(
            f"{path}: must have codes for all {len(keys)} items, but has none for {len(missing)} of them, the first "
            f"being '{missing[0]}', and begins with '{next(iter(rows), '')}'; `harness data items` prints the keys"
        )
    codes = [rows[key] for key in keys]
    levels = len(codes[0])
    for key, row in zip(keys, codes, strict=True):
        if len(row) != levels or min(row, default=-1) < 0:
            raise DataError(
                f"{path}, item '{key}': every item must have {levels} codes of 0 or more, as '{keys[0]}' has, but got "
                f"{list(row)}; mend the file"
            )
    codes_NL = torch.tensor(codes, dtype=torch.long)
    return CodeTable.of(codes_NL, tuple(int(largest) + 1 for largest in codes_NL.amax(dim=0)))


def write_codes(table: CodeTable, keys: Sequence[str], path: Path) -> None:
    """Writes the codes in the form that the file's ending names; `UsageError` for another ending."""
    codes_NL = table.codes[PADDING + 1 :].numpy()
    inner = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if inner not in ENDINGS:
        raise UsageError(f"{path}: must end in {', '.join(ENDINGS)}, or one of them and .gz; give another name")
    buffer = io.BytesIO()
    if inner == ".json":
        rows = zip(keys, codes_NL.tolist(), strict=True)
        words = {key: [f"<{LETTERS[level]}_{code}>" for level, code in enumerate(row)] for key, row in rows}
        buffer.write(json.dumps(words).encode())
    elif inner == ".npy":
        np.save(buffer, codes_NL)
    else:
        pl.DataFrame({"key": list(keys), "codes": codes_NL.tolist()}).write_parquet(buffer)
    content = buffer.getvalue()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def with_unique_tuples(table: CodeTable, last_codes: int | None = None) -> tuple[CodeTable, Reassigned]:
    """The table without collisions (METHODS B.11), and what that took; the last level may have more codes than occur.

    A file tells no distances, so of all ways that move the fewest items the one of the lowest codes is taken.
    """
    size = max(*table.sizes, last_codes or 0)
    codes_NL = table.codes[PADDING + 1 :]
    found = reassign(codes_NL, torch.zeros(len(codes_NL), size, dtype=torch.float64))
    return CodeTable.of(found.codes_NL, (*table.sizes[:-1], size)), found


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: no such file of codes; check the path")
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the file") from None


def _rows(path: Path, content: bytes, keys: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """Codes by item key."""
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".json"):
            return {str(key): _numbers(path, str(key), words) for key, words in json.loads(content).items()}
        if name.endswith(".npy"):
            codes_NL = np.load(io.BytesIO(content), allow_pickle=False)
            if codes_NL.ndim != 2 or len(codes_NL) != len(keys) or not np.issubdtype(codes_NL.dtype, np.integer):
                raise DataError(
                    f"{path}: must hold whole numbers of shape ({len(keys)}, levels), a row for each item in the order "
                    f"of `harness data items`, but got {codes_NL.dtype} {codes_NL.shape}"
                )
            return dict(zip(keys, codes_NL.tolist(), strict=True))
        if name.endswith(".parquet"):
            return _parquet_rows(path, pl.read_parquet(io.BytesIO(content)))
    except (ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: not a file of codes ({str(error).splitlines()[0]}); check its form") from None
    raise DataError(f"{path}: codes are read from {', '.join(ENDINGS)}, or one of them and .gz; give such a file")


def _numbers(path: Path, key: str, words: Iterable[str | int]) -> list[int]:
    """`<a_12>` or 12 → 12."""
    found = [re.fullmatch(r"<[a-z]+_(\d+)>|(\d+)", str(word)) for word in words]
    if not all(found):
        raise DataError(
            f"{path}, item '{key}': codes are words like <a_12>, or numbers, but got {words}; mend the file"
        )
    return [int(match[1] or match[2]) for match in found if match]


def _parquet_rows(path: Path, frame: pl.DataFrame) -> dict[str, list[int]]:
    key = next((name for name in ("key", "item_id", "item") if name in frame.columns), None)
    if key is None or len(frame.columns) < 2:
        raise DataError(f"{path}: needs a column 'key' or 'item_id' and codes, but has {', '.join(frame.columns[:6])}")
    others = frame.drop(key)
    lists = [name for name, kind in others.schema.items() if isinstance(kind, pl.List | pl.Array)]
    codes = others[lists[0]].to_list() if lists else [list(row) for row in others.rows()]
    keys = frame[key].cast(pl.String).to_list()
    if len(set(keys)) < len(keys):
        twice = next(each for place, each in enumerate(keys) if each in keys[:place])
        raise DataError(f"{path}: each item must have one row, but '{twice}' has several; remove all but one")
    return {one: _numbers(path, one, row or []) for one, row in zip(keys, codes, strict=True)}
