"""What SASRec asks of a GPU at the paper's sizes, counted on the stand-in. The budgets are ours: a tenth above counts.

Before the plain kernels of a device: 290 kernels and 17 waits a step, 1,060 and 180 for 4,000 users.
"""

from typing import Any

import pytest
from test_on_stand_in import needs_torch
from there import told_there


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    return told_there("counts_on_stand_in.py")


@needs_torch
def test_a_training_step_launches_few_kernels_copies_once_and_never_waits(counted: dict[str, Any]) -> None:
    step = counted["step"]
    assert 50 < step["kernels"]["total"] <= 145, step["kernels"]
    assert step["waits"]["total"] == 0, step["waits"]
    assert list(step["moved"]["sites"]) == ["harness/nn/moving.py:27"], step["moved"]
    assert step["moved"]["total"] < 300_000  # bytes


@needs_torch
def test_an_evaluation_waits_a_few_times_for_thousands_of_users(counted: dict[str, Any]) -> None:
    found = counted["evaluation"]
    assert 20 < found["kernels"]["total"] <= 100, found["kernels"]
    assert 1 <= found["waits"]["total"] <= 7, found["waits"]  # five results, and two looks for ties
