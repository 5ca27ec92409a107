"""Processes that torchrun started for one command, each of which runs it whole: how they find each other.

`World` is what they are to each other for the whole command, `harness.distributed.Group` what they are within one job.
A process that is alone has a world too, which does nothing and costs nothing.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from harness.distributed import ALONE, Group, telling_lost_peers
from harness.errors import StageError, UsageError

LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun in the processes that it starts
POLL_SECONDS = 0.05
# A dead process is noticed at once, through its connection or by torchrun; this bounds one that does not answer. All
# waiting of hours, for another process's stage, is for a note in the store, which has no bound.
TIMEOUT = timedelta(minutes=20)


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
        """The device of this process, the current one from now on where it is a GPU: each process has one of its own.

        `UsageError` where there are fewer GPUs than processes, or for another kind of device.
        """
        if name not in ("cpu", "cuda"):
            raise UsageError(
                f"the device must be cpu or cuda, but got {name}; others refuse whole 64-bit draws or float64, which "
                "training needs"
            )
        if self.size == 1 or name == "cpu":
            return torch.device(name)
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise UsageError(
                f"each process needs a GPU of its own, but there are {count} and more processes; start {count}"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    @contextmanager
    def joined(self, job: str, device: torch.device) -> Iterator[Group]:
        """The group of all processes, for the job of that name, while the block lasts.

        Tensors of hosts go by gloo, those of GPUs by NCCL.
        """
        if self.size == 1:
            yield ALONE
            return
        is_cuda = device.type == "cuda"
        with telling_lost_peers():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
                store=dist.PrefixStore(job, self.store),
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
                device_id=device if is_cuda else None,
            )
        try:
            yield Group(self.rank, self.size)
        except BaseException:
            if not is_cuda:  # NCCL would wait for the one that is gone; this process ends anyway
                dist.destroy_process_group()
            raise
        dist.destroy_process_group()


@functools.cache
def _opened(host: str, port: int) -> dist.TCPStore:
    return dist.TCPStore(host, port, is_master=False)


def end_when_others_end() -> None:
    """Makes the signal by which torchrun ends the processes that are left a failure like any other."""

    def ended(*_: Any) -> NoReturn:
        raise StageError("all processes of a run must live until its end, but one has ended; give the command again")

    signal.signal(signal.SIGTERM, ended)
