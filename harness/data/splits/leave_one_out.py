"""Leave-one-out (METHODS A.5): each user's last item is the test, the one before it the validation."""

import numpy as np

from harness.config import Config
from harness.data.splits.split import LEAVE_ONE_OUT, Cases, Parts, Split, Whole


def cut(whole: Whole, config: Config) -> Parts:
    """Of x1..xn: training x1..x(n-2), validation x(n-1), test xn; each case's history is all that precedes it."""
    sequences = whole.sequences
    users = np.arange(len(sequences))
    train, before_test = sequences.without_last(2), sequences.without_last(1)
    last = sequences.offsets[1:] - 1
    return Parts(
        users,
        train,
        validation=Cases(users, train, sequences.items[last - 1]),
        test=Cases(users, before_test, sequences.items[last]),
    )


SPLIT = Split(LEAVE_ONE_OUT, cut)
