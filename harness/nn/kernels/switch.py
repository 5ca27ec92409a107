"""Which form of the kernels runs: the fast one with gradients by hand, or the plain one to check it by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from harness.errors import UsageError

VARIABLE = "HARNESS_KERNELS"
FORMS = ("fast", "plain")

# One list for all threads, no ContextVar: backward passes may run pieces of a network again in threads of torch's.
_chosen: list[str] = []


@cache
def form_of_environment() -> str:
    """What HARNESS_KERNELS says, read once in each process; fast where it is not set. `UsageError` for other values."""
    form = os.environ.get(VARIABLE) or "fast"
    if form not in FORMS:
        raise UsageError(f"{VARIABLE} must be {' or '.join(FORMS)}, but got '{form}'")
    return form


def runs_plain() -> bool:
    """Whether kernels run in their plain form now."""
    return (_chosen[-1] if _chosen else form_of_environment()) == "plain"


@contextmanager
def plain_kernels() -> Iterator[None]:
    """All kernels of this process run in their plain form while the block lasts."""
    _chosen.append("plain")
    try:
        yield
    finally:
        _chosen.pop()
