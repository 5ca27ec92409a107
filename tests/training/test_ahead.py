"""Batches made ahead of the steps. Oracle: the same batches in a loop of their own."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from harness.training.ahead import DEPTH, made_ahead

DEVICE = torch.device("meta")  # any that is not the CPU


class Drawn:
    """Random batches, which remember how many there are and who made them."""

    def __init__(self, fails_at: int | None = None):
        self.made, self.fails_at, self.threads = 0, fails_at, set[int]()

    def batches(self) -> Iterator[float]:
        stream = np.random.default_rng(0)
        for place in range(20):
            if place == self.fails_at:
                raise ValueError("no more of these")
            self.made += 1
            self.threads.add(threading.get_ident())
            yield stream.random()


def is_running() -> bool:
    """Whether a thread that makes batches is left."""
    return any(thread.name.startswith("batches") for thread in threading.enumerate())


@pytest.mark.parametrize("device", [DEVICE, torch.device("cpu")])
def test_batches_are_the_same_in_the_same_order_and_few_are_made_ahead(device: torch.device) -> None:
    drawn, used = Drawn(), []
    with made_ahead(drawn.batches(), device) as batches:
        for batch in batches:
            used.append(batch)
            assert 0 <= drawn.made - len(used) <= (0 if device.type == "cpu" else DEPTH)
    assert used == list(Drawn().batches())
    assert not is_running()
    assert (drawn.threads == {threading.get_ident()}) == (device.type == "cpu")


def use_all(drawn: Drawn, used: list[float], last: int = 20) -> None:
    """Uses the batches until there are none, or is interrupted."""
    with made_ahead(drawn.batches(), DEVICE) as batches:
        for batch in batches:
            used.append(batch)
            if len(used) == last:
                raise KeyboardInterrupt


def test_an_error_comes_in_its_place_and_ends_the_thread() -> None:
    used: list[float] = []
    with pytest.raises(ValueError, match="no more of these"):
        use_all(Drawn(fails_at=5), used)
    assert used == list(Drawn().batches())[:5]
    assert not is_running()


def test_an_interrupted_step_ends_the_thread() -> None:
    drawn = Drawn()
    with pytest.raises(KeyboardInterrupt):
        use_all(drawn, [], last=3)
    assert not is_running()
    assert 3 <= drawn.made <= 3 + DEPTH
