"""The protocol of unseen users (METHODS D.2): the users with the fewest interactions are left out of all learning.

A derived folder is made from the prepared folder of the original data set and holds

    sequences.parquet      of the users that methods may see, in the original's order
    items.parquet          the original's: the item universe stays
    test.parquet           the original's: the test cases are those of all users
    all_sequences.parquet  the original's sequences.parquet: all users' test histories; only `load_test` opens it
    new_users.parquet      row (among all users), user, interactions: one row per user that is left out
    meta.json              as of any prepared folder, and the original's name and fingerprint

Shape legend: U users.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from harness.config import Config, digest
from harness.data.dataset import Dataset
from harness.data.prepare import (
    ALL_SEQUENCES,
    ITEMS,
    NEW_USERS,
    SEQUENCES,
    TEST,
    load_dataset,
    read_meta,
    read_table,
    replaced,
    split_columns,
    whole_file,
    write_meta,
)
from harness.errors import DataError
from harness.seeding import numpy_stream

SUFFIX = "unseen-users"
HELD_OUT = 2  # items of a user beyond the training sequence: validation and test


class UnseenUsersConfig(Config):
    """Which users are new."""

    new_user_share: float = Field(0.05, gt=0, lt=1)  # of all users
    seed: int = 0  # of the shuffle that settles ties


def new_user_rows(num_interactions_U: np.ndarray, config: UnseenUsersConfig) -> np.ndarray:
    """Sorted int64 rows of the users with the fewest interactions; ties are settled by a seeded shuffle.

    `DataError` when the share leaves no user on one of the two sides.
    """
    num_users = len(num_interactions_U)
    count = round(config.new_user_share * num_users)
    if not 0 < count < num_users:
        raise DataError(
            f"some users must be new and some not, but new_user_share={config.new_user_share} makes {count} of "
            f"{num_users} new; change the share, or give more users"
        )
    shuffled_U = numpy_stream(config.seed, "unseen-users").permutation(num_users)
    ranked_U = shuffled_U[np.argsort(num_interactions_U[shuffled_U], kind="stable")]
    return np.sort(ranked_U[:count])


def derived_folder(original: Path, config: UnseenUsersConfig, parent: Path) -> Path:
    """Where the derived data set lies; what the original holds and which users are new name it."""
    meta = read_meta(original)
    if NEW_USERS in meta["sha256"]:
        raise DataError(f"{original}: some users are unseen in it already; name the original data set")
    return parent / f"{meta['name']}-{SUFFIX}-{_fingerprint(meta['fingerprint'], config)[:12]}"


def prepare_unseen_users(original: Path, config: UnseenUsersConfig, folder: Path) -> Dataset:
    """The data set `<name>-unseen-users` that was made from `original` and written to `folder`, which it replaces.

    The original's test file is copied without being read.
    """
    meta = read_meta(original)
    everyone = read_table(original, SEQUENCES, meta)
    interactions_U = everyone["items"].list.len().cast(pl.Int64).to_numpy() + HELD_OUT
    new_rows = new_user_rows(interactions_U, config)
    is_known = np.ones(len(everyone), dtype=bool)
    is_known[new_rows] = False
    known = everyone.filter(is_known)
    with replaced(folder) as unfinished:
        known.write_parquet(unfinished / SEQUENCES)
        pl.DataFrame(
            {"row": new_rows, "user": everyone["user"].gather(new_rows), "interactions": interactions_U[new_rows]}
        ).write_parquet(unfinished / NEW_USERS)
        for file, copy in ((SEQUENCES, ALL_SEQUENCES), (ITEMS, ITEMS), (TEST, TEST)):
            shutil.copyfile(whole_file(original, file, meta), unfinished / copy)
        derived = {
            "name": f"{meta['name']}-{SUFFIX}",
            "fingerprint": _fingerprint(meta["fingerprint"], config),
            "original": meta["name"],
            "unseen_users": config.model_dump(mode="json"),
            "statistics": meta["statistics"] | _learning_statistics(known, meta["counts"]["items"], len(new_rows)),
        }
        write_meta(unfinished, meta | derived)
    return load_dataset(folder)


def _fingerprint(original: str, config: UnseenUsersConfig) -> str:
    return digest({"original": original, "unseen_users": config.model_dump(mode="json")})


def _learning_statistics(known: pl.DataFrame, num_items: int, num_new: int) -> dict[str, int]:
    """What `harness.data.prepare.statistics` says of learning, when only the known users are learnt from."""
    train, _ = split_columns(known)
    return {
        "new_users": num_new,
        "cold_items": num_items - len(np.unique(train.items)),
        "train_samples": int((train.lengths - 1).sum()),
    }
