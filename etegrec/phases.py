"""What each kind of epoch minimises, moves and renews, as one table (METHODS C.3 and C.4).

The paper's R is called generator in this package. Phases, learners and config fields keep the name `recommender`, under
which histories, checkpoints and digests of stored runs know it.
"""

from __future__ import annotations

from typing import NamedTuple


class PhaseRule(NamedTuple):
    """One row of the table."""

    terms: tuple[str, ...]  # of the loss, beside SIA and PSA once their warm-up is over
    learners: tuple[str, ...]
    moves: tuple[str, ...]  # parts of the model; the rest is frozen
    refreshes_codes: bool  # tokenises all items anew at the epoch's end


GENERATOR_PARTS = ("generator", "sia_adapter", "psa_adapter")

PHASES = {
    # L_IT; C.5 #23 decides whether the SIA adapter moves too.
    "tokenizer": PhaseRule(("sq",), ("tokenizer",), ("tokenizer",), refreshes_codes=True),
    # L_GR
    "recommender": PhaseRule(("rec",), ("recommender",), GENERATOR_PARTS, refreshes_codes=False),
    # w/o AT (D.1)
    "joint": PhaseRule(
        ("rec", "sq"), ("tokenizer", "recommender"), ("tokenizer", *GENERATOR_PARTS), refreshes_codes=True
    ),
}
