"""What a split is, and what it makes of a data set: the interface between splits and the preparation.

Shape legend: T interactions, U users, B training sequences, C cases. Users are named by their row among all U.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from harness.config import Config, digest
from harness.data.dataset import Sequences

LEAVE_ONE_OUT = "leave-one-out"  # the default split


class Cases(NamedTuple):
    """Held-out items: any number of a user, none included, in any order."""

    users: np.ndarray  # (C,) int64
    histories: Sequences  # C rows: what precedes the target, oldest first, not cut; the last items are what is seen
    targets: np.ndarray  # (C,) int32


class Parts(NamedTuple):
    """A data set taken apart. A user may lack a training sequence, and is new where a test case is theirs."""

    users: np.ndarray  # (B,) int64: whose training sequences they are
    train: Sequences  # B rows
    validation: Cases  # at least one in all
    test: Cases  # at least one in all


@dataclass(frozen=True)
class Split:
    """How a data set is taken apart into what is learnt from, what models are selected by, and what they are tested on.

    `cut` gets the full sequences (U rows, oldest first), the times of their interactions ((T,) numbers as the source
    gives them; None where it tells only an order) and `config`; it raises `DataError` for data that it cannot split.
    """

    name: str  # as given to --split; ends the name of a data set that is split so, leave-one-out apart
    cut: Callable[[Sequences, np.ndarray | None, Any], Parts]
    config: Config = field(default_factory=Config)
    min_interactions: int = 3  # per user

    def fingerprint(self, whole: str) -> str:
        """The split data set's fingerprint, given that of the whole; under leave-one-out they are the same."""
        if self.name == LEAVE_ONE_OUT:
            return whole
        return digest({"original": whole, self.name.replace("-", "_"): self.config.model_dump(mode="json")})

    def dataset_name(self, original: str) -> str:
        """The split data set's name."""
        return original if self.name == LEAVE_ONE_OUT else f"{original}-{self.name}"

    def record(self) -> dict[str, Any]:
        """What meta.json says of it: name and config."""
        return {"name": self.name, **self.config.model_dump(mode="json")}
