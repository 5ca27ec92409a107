"""The process's heap under glibc: it keeps what is freed, and gives it back where too much of that lies idle."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

SPARE_SHARE, LEAST_SPARE_MB = 0.25, 128.0  # freed memory that may lie idle: a share of what a step needs, or so much


def keep_freed_memory() -> None:
    """Tells glibc not to return freed memory to the system; nothing under another C library.

    Fresh pages are dear, and a training step frees and asks again for the same megabytes.
    """
    libc = _glibc()
    if libc is not None:
        m_trim_threshold, m_mmap_max, m_top_pad = -1, -4, -2
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 * 2**20)


def give_freed_memory_back() -> None:
    """Returns all pages that hold nothing to the system, also those between others; nothing without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def resident_mb() -> float:
    """The memory that this process holds now, in MiB; 0 where the system does not tell it as Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class SpareMemory:
    """Bounds the freed memory that a training holds.

    Steps of different sizes leave gaps that later ones do not fill, so that a heap grows long after the largest step.
    What a step needs is read after it was the first one on a heap without idle pages; only `SPARE_SHARE` of it is held
    beyond. No number depends on it.
    """

    def __init__(self, held: Callable[[], float] = resident_mb, give_back: Callable[[], None] = give_freed_memory_back):
        self._held, self._give_back = held, give_back
        self._give_back()
        self._needed, self._is_fresh = 0.0, True

    def after_step(self) -> None:
        """Gives freed memory back, if too much is held."""
        held = self._held()
        if self._is_fresh:
            self._needed, self._is_fresh = max(self._needed, held), False
        elif held > self._needed + max(LEAST_SPARE_MB, SPARE_SHARE * self._needed):
            self._give_back()
            self._is_fresh = True


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
