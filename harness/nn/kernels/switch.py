"""Which form of the kernels runs: the fast one with gradients by hand, the plain one to check it by, or torch's own.

The fast form is made for CPUs. On another device its many small operations would cost more than they save, so torch's
own kernels run there (`native`): attention and dropout in one launch each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from harness.errors import UsageError

VARIABLE = "HARNESS_KERNELS"
FORMS = ("fast", "plain", "native")

# One list for all threads, no ContextVar: backward passes may run pieces of a network again in threads of torch's.
_chosen: list[str] = []


@cache
def form_of_environment() -> str | None:
    """What HARNESS_KERNELS says, read once in each process; None where it is not set. `UsageError` for other values."""
    form = os.environ.get(VARIABLE) or None
    if form not in (None, *FORMS):
        raise UsageError(f"{VARIABLE} must be {', '.join(FORMS[:-1])} or {FORMS[-1]}, but got '{form}'")
    return form


def form_on(device: torch.device) -> str:
    """The form that kernels run in on the device now: unless one was chosen, fast on a CPU, native elsewhere."""
    chosen = _chosen[-1] if _chosen else form_of_environment()
    return chosen or ("fast" if device.type == "cpu" else "native")


def runs_fast(device: torch.device) -> bool:
    """Whether kernels run in the form with gradients by hand."""
    return form_on(device) == "fast"


def runs_native(device: torch.device) -> bool:
    """Whether torch's own kernels run."""
    return form_on(device) == "native"


@contextmanager
def plain_kernels() -> Iterator[None]:
    """All kernels of this process run in their plain form while the block lasts."""
    with _all_in("plain"):
        yield


@contextmanager
def native_kernels() -> Iterator[None]:
    """All kernels of this process are torch's own while the block lasts, on a CPU too."""
    with _all_in("native"):
        yield


@contextmanager
def _all_in(form: str) -> Iterator[None]:
    _chosen.append(form)
    try:
        yield
    finally:
        _chosen.pop()
