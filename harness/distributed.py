"""Several processes that train one model together: what they exchange within one job.

A process that is alone has a group too, which does nothing and costs nothing. How processes find each other is told in
`harness.jobs.torchrun`.

Shape legend: R rows of an array of which each process computed some.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.errors import StageError

Value = TypeVar("Value")
LOST_PEER_SECONDS = 3.0  # how long a process that lost another one leaves that one to tell why


@dataclass(frozen=True)
class Group:
    """The processes that work on one job together; by default this one alone.

    Every method but `own` and `is_main` must be called by all of them, in the same order. `StageError` when one of
    them has ended.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """This process's part of anything in an order: every `size`-th, from its rank on."""
        return slice(self.rank, None, self.size)

    @torch.no_grad()
    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its sum over the processes, in one exchange per number format.

        A parameter without a gradient in every process keeps none, so that its optimiser passes over it as it would in
        a single process; elsewhere, no gradient counts as 0. Which have one goes from host to host, so that nobody
        waits for a device to tell, and a process that is gone is noticed here.
        """
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in dict.fromkeys(parameters):
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for bucket in by_dtype.values():
            counts = torch.tensor([p.grad is not None for p in bucket], dtype=torch.int32)
            flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket])
            with telling_lost_peers():
                dist.all_reduce(counts)
                dist.all_reduce(flat)
            sums = flat.split([p.numel() for p in bucket])
            for parameter, gradient, count in zip(bucket, sums, counts.tolist(), strict=True):
                parameter.grad = gradient.view_as(parameter) if count else None

    def sum_by_name(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sums over the processes; a name that a process does not have counts as 0 there."""
        if self.size == 1:
            return dict(values)
        gathered: list[dict[str, float]] = [{}] * self.size
        with telling_lost_peers():
            dist.all_gather_object(gathered, dict(values))
        names = dict.fromkeys(name for one in gathered for name in one)
        return {name: sum(one.get(name, 0.0) for one in gathered) for name in names}

    def from_main(self, value: Value) -> Value:
        """The main process's value."""
        if self.size == 1:
            return value
        box = [value]
        with telling_lost_peers():
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    @torch.no_grad()
    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites the tensors with the main process's."""
        if self.size == 1:
            return
        with telling_lost_peers():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def gather_rows(self, rows: np.ndarray, array_R: np.ndarray) -> np.ndarray:
        """The array with the rows of all processes, to the bit; `rows` are those that this process computed.

        No row may be another process's too; rows of none are 0.
        """
        if self.size == 1:
            return array_R
        own_R = np.zeros_like(array_R)
        own_R[rows] = array_R[rows]
        # Sums of bit patterns of which all but one are 0 are exact, whatever the numbers are.
        bits = torch.from_numpy(own_R.view(np.dtype(f"int{8 * own_R.itemsize}")))
        with telling_lost_peers():
            dist.all_reduce(bits)
        return bits.numpy().view(array_R.dtype)

    def barrier(self) -> None:
        """Returns when all processes have come here."""
        if self.size > 1:
            with telling_lost_peers():
                dist.all_reduce(torch.zeros(1))  # from host to host: dist.barrier would wait for a device


ALONE = Group()


@contextmanager
def telling_lost_peers() -> Iterator[None]:
    """Turns the backend's error about a process that is gone or silent into a `StageError`.

    One that is gone had time to speak before. A device without memory is no lost process.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        time.sleep(LOST_PEER_SECONDS)
        told = " ".join(str(error).split())
        what = "has not answered for minutes" if re.search("timed? ?out", told, re.IGNORECASE) else "has ended"
        raise StageError(
            f"all processes of a run must live until its end, but one {what}; give the same command again to go on "
            f"({told[:200]})"
        ) from error
