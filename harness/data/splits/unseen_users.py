"""Unseen users (METHODS D.2): leave-one-out, but nothing is learnt of the users with the fewest interactions.

The item universe and the test cases are those of all users. Shape legend: U users.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from harness.config import Config
from harness.data.splits import leave_one_out
from harness.data.splits.split import Cases, Parts, Split, Whole
from harness.errors import DataError
from harness.seeding import numpy_stream


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


def cut(whole: Whole, config: UnseenUsersConfig) -> Parts:
    """The parts of leave-one-out, without training sequences and validation cases of the new users."""
    users, train, validation, test = leave_one_out.cut(whole, config)
    known = np.delete(users, new_user_rows(whole.sequences.lengths, config))
    learnt = train.take(known)
    return Parts(known, learnt, Cases(known, learnt, validation.targets[known]), test)


SPLIT = Split("unseen-users", cut, UnseenUsersConfig())
