"""Several processes that train one model: how they find each other, and what they exchange.

torchrun starts them; each runs the same command. `World` is what they are to each other for the whole command, `Group`
what they are within one job. A process that is alone has a world and a group too, which do nothing and cost nothing.

Shape legend: R rows of an array of which each process computed some.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.errors import StageError, UsageError

Value = TypeVar("Value")
Backend = Literal["none", "gloo", "nccl"]

LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun in the processes that it starts
POLL_SECONDS = 0.05
LOST_PEER_SECONDS = 3.0  # how long a process that lost another one leaves that one to tell why
# A dead process is noticed at once, through its connection or by torchrun; this only bounds a peer that is slow.
TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class Group:
    """The processes that work on one job together; by default this one alone.

    Every method but `own` and `is_main` must be called by all of them, in the same order. `StageError` when one of
    them has ended.
    """

    rank: int = 0
    size: int = 1
    backend: Backend = "none"
    device: str = "cpu"  # where the backend takes its tensors

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
        a single process; elsewhere, no gradient counts as 0.
        """
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in dict.fromkeys(parameters):
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for dtype, bucket in by_dtype.items():
            has_gradient = torch.tensor([p.grad is not None for p in bucket], dtype=dtype, device=bucket[0].device)
            parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket]
            flat = torch.cat([*parts, has_gradient])
            with telling_lost_peers():
                dist.all_reduce(flat)
            *sums, counts = flat.split([*(p.numel() for p in bucket), len(bucket)])
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
            dist.broadcast_object_list(box, src=0, device=torch.device(self.device))
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
        bits = torch.from_numpy(own_R.view(np.dtype(f"int{8 * own_R.itemsize}"))).to(self.device)
        with telling_lost_peers():
            dist.all_reduce(bits)
        return bits.cpu().numpy().view(array_R.dtype)

    def barrier(self) -> None:
        """Returns when all processes have come here."""
        if self.size > 1:
            with telling_lost_peers():
                dist.barrier()


ALONE = Group()


@contextmanager
def telling_lost_peers() -> Iterator[None]:
    """Turns the backend's error about a process that is gone into a `StageError`, after that one had time to speak."""
    try:
        yield
    except RuntimeError as error:
        time.sleep(LOST_PEER_SECONDS)
        raise StageError(
            "all processes of a run must live until its end, but one has ended; give the same command again to go on "
            f"({' '.join(str(error).split())[:200]})"
        ) from error


@dataclass(frozen=True)
class World:
    """The processes that torchrun started for one command; by default this one alone.

    They speak through torchrun's store, so that waiting costs nothing and has no time limit.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine
    host: str = ""
    port: int = 0
    run: str = ""  # tells a restart by torchrun from the run before it

    @classmethod
    def of_environment(cls) -> World:
        """What torchrun's environment variables say; alone without them."""
        env = os.environ
        if LAUNCHED not in env or env["WORLD_SIZE"] == "1":
            return cls()
        if env.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            raise UsageError(
                "torchrun must keep the store that its processes meet in, but TORCH_DISABLE_SHARE_RDZV_TCP_STORE "
                "forbids it; unset that variable"
            )
        run = f"{env[LAUNCHED]}/{env.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        rank, size, local_rank = (int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(rank, size, local_rank, env["MASTER_ADDR"], int(env["MASTER_PORT"]), run)

    @property
    def is_main(self) -> bool:
        """Whether this process plans, prints and writes."""
        return self.rank == 0

    @property
    def store(self) -> dist.Store:
        """Where the processes leave each other notes."""
        return dist.PrefixStore(f"harness/{self.run}", _opened(self.host, self.port))

    def tell(self, name: str, value: str = "") -> None:
        """Leaves a note for the other processes."""
        if self.size > 1:
            self.store.set(name, value)

    def hear(self, name: str) -> str:
        """The note of that name, as soon as there is one."""
        self.hear_first(name)
        return self.store.get(name).decode()

    def hear_first(self, *names: str) -> str:
        """Which of the notes is there; where several are, the first named."""
        while True:  # in Python, so that a signal ends it
            for name in names:
                if self.store.check([name]):
                    return name
            time.sleep(POLL_SECONDS)

    @contextmanager
    def main_first(self, what: str) -> Iterator[None]:
        """The block is run by the main process, and only then by the others."""
        if not self.is_main:
            self.hear(what)
        yield
        if self.is_main:
            self.tell(what)

    def is_first_to_fail(self) -> bool:
        """Whether no other process has failed before; the one of which this is true tells the user."""
        return self.size == 1 or self.store.add("failures", 1) == 1

    def device(self, name: str) -> torch.device:
        """The device of this process: on machines with several GPUs each process has one of its own.

        `UsageError` where there are fewer GPUs than processes, or for a device without a backend.
        """
        if self.size == 1 or name == "cpu":
            return torch.device(name)
        if name != "cuda":
            raise UsageError(f"several processes must compute on cpu or cuda, but got {name}; start one process")
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise UsageError(
                f"each process needs a GPU of its own, but there are {count} and more processes; start {count}"
            )
        return torch.device("cuda", self.local_rank)

    @contextmanager
    def joined(self, job: str, device: torch.device) -> Iterator[Group]:
        """The group of all processes, for the job of that name, while the block lasts."""
        if self.size == 1:
            yield ALONE
            return
        backend: Backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with telling_lost_peers():
            dist.init_process_group(
                backend,
                store=dist.PrefixStore(job, self.store),
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
            )
        try:
            yield Group(self.rank, self.size, backend, str(device))
        finally:
            dist.destroy_process_group()


@functools.cache
def _opened(host: str, port: int) -> dist.TCPStore:
    return dist.TCPStore(host, port, is_master=False)


def end_when_others_end() -> None:
    """Makes the signal by which torchrun ends the processes that are left a failure like any other."""

    def ended(*_: Any) -> NoReturn:
        raise StageError("all processes of a run must live until its end, but one has ended; give the command again")

    signal.signal(signal.SIGTERM, ended)
