"""Batches that are made while a device works on those before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import torch

DEPTH = 2  # batches that are made ahead
END = object()


def made_ahead(batches: Iterator[Any], device: torch.device) -> AbstractContextManager[Iterator[Any]]:
    """The batches in their order; on a CPU each when it is asked for, else by a thread that is `DEPTH` of them ahead.

    One thread takes them one after another, so that what they draw is the same. What it raises is raised here. It has
    ended when the block has.
    """
    return nullcontext(batches) if device.type == "cpu" else closing(_from_thread(batches, device))


def _from_thread(batches: Iterator[Any], device: torch.device) -> Generator[Any, None, None]:
    # A thread's current GPU is the first one, until it is told; memory is pinned for the current one.
    start = (torch.cuda.set_device, (device,)) if device.type == "cuda" and device.index is not None else (None, ())
    with ThreadPoolExecutor(1, "batches", *start) as thread:
        try:
            waiting = deque(thread.submit(next, batches, END) for _ in range(DEPTH))
            while (batch := waiting.popleft().result()) is not END:
                waiting.append(thread.submit(next, batches, END))
                yield batch
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
