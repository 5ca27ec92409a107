"""Which GPU a job's process sees: where a machine has several, jobs side by side have one each."""

from __future__ import annotations

import os
import threading

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name: the GPUs that this process sees; none where torch sees none."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch  # not at the top: what starts the server of jobs must not wait for it

    # Asks the driver's management library, so that CUDA is not started and the variable still counts afterwards.
    return [str(number) for number in range(torch.cuda.device_count())] if torch.version.cuda else []


def gpu_of(slot: int) -> str | None:
    """The one GPU that the job of this slot is to see; None: what there is. Where slots are more, they share.

    Jobs of a process that torchrun started see what it sees, which has one GPU for itself.
    """
    from harness.jobs.torchrun import LAUNCHED

    gpus = visible_gpus()
    return gpus[slot % len(gpus)] if len(gpus) > 1 and LAUNCHED not in os.environ else None


class Slots:
    """Numbers from 0 that running jobs hold, each one job's."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.lock = threading.Lock()  # a sweep starts jobs from several threads

    def take(self) -> int:
        """The lowest number that no job holds, held from now on."""
        with self.lock:
            slot = next(number for number in range(len(self.held) + 1) if number not in self.held)
            self.held.add(slot)
            return slot

    def give_back(self, slot: int) -> None:
        """Lets another job have it."""
        with self.lock:
            self.held.discard(slot)


# Of all pools of this process: GPUs are the machine's, and a sweep has a pool for each trial.
SLOTS = Slots()
