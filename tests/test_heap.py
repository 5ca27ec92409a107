"""Freed memory that a training holds. Oracle: readings made up by hand."""

import pytest

from harness.heap import SpareMemory


@pytest.mark.parametrize(
    ("readings", "given_back_after"),
    [
        ([400, 500, 528, 529, 420, 529], [3]),  # 128 MiB may lie idle beside what the first step needed, 400
        ([1000, 1250, 1251, 900, 1250, 1251], [2, 5]),  # a quarter of 1000; a smaller step later changes nothing
        ([300, 429, 800, 999, 1001], [1, 4]),  # the step on the emptied heap needed 800
    ],
)
def test_freed_memory_is_given_back_beyond_a_quarter_of_what_a_step_needs(readings, given_back_after):
    steps, given_back = iter(readings), []
    spare = SpareMemory(held=lambda: next(steps), give_back=lambda: given_back.append(True))
    assert len(given_back) == 1  # what was freed before is no need of the first step
    found = []
    for place in range(len(readings)):
        before = len(given_back)
        spare.after_step()
        found += [place] * (len(given_back) - before)
    assert found == given_back_after
