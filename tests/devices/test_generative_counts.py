"""What code generators and tokenizers ask of a GPU, counted on the stand-in at the paper's sizes, against budgets.

Before rows were padded in buckets, a step of 512 samples launched 12,800 kernels, a tokenizer step 3,900, a search for
64 users 4,800, with 9 waits.
"""

from typing import Any

import pytest
from test_on_stand_in import needs_torch
from there import told_there

from harness.generative.counted import STEP_KERNELS


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    return told_there("generative_counts.py")


@needs_torch
@pytest.mark.parametrize("name", STEP_KERNELS)
def test_a_step_launches_about_as_many_kernels_as_estimates_take_and_no_more(
    counted: dict[str, Any], name: str
) -> None:
    kernels = counted[name]["kernels"]
    assert 0.9 * STEP_KERNELS[name] < kernels["total"] <= STEP_KERNELS[name], kernels
    assert kernels["total"] <= (2_500 if name == "tokenizer" else 3_500)  # what a GPU path is worth


@needs_torch
@pytest.mark.parametrize("name", STEP_KERNELS)
def test_a_step_does_not_wait_for_the_device(counted: dict[str, Any], name: str) -> None:
    waits = counted[name]["waits"]
    # Codes made anew at each step: whether they can be told apart, and how many changed.
    assert waits["total"] <= (2 if name == "joint" else 0), waits


@needs_torch
def test_in_bf16_losses_and_gradients_are_fp32_and_casts_stay_within_the_budget(counted: dict[str, Any]) -> None:
    found = counted["bf16"]
    assert found["losses"] == found["gradients"] == ["torch.float32"]
    assert 100 < found["kernels"]["total"] <= STEP_KERNELS["recommender"], found["kernels"]
    assert found["waits"]["total"] == 0, found["waits"]


@needs_torch
def test_a_batch_goes_to_the_device_in_copies_that_nobody_waits_for(counted: dict[str, Any]) -> None:
    moved = counted["recommender"]["moved"]
    assert all(site.startswith("harness/nn/moving.py") for site in moved["sites"]), moved
    assert 10_000 < moved["total"] < 100_000  # bytes


@needs_torch
def test_a_search_with_20_beams_waits_once_and_launches_few_kernels_a_user(counted: dict[str, Any]) -> None:
    found = counted["evaluation"]
    # All users are searched at once, so that more of them are more work for the same kernels.
    assert found["kernels"]["total"] <= 25 * counted["users"], found["kernels"]
    assert found["waits"]["total"] == 1, found["waits"]
    assert counted["preparing an evaluation"]["waits"]["total"] == 1  # for the codes


@needs_torch
def test_exact_decoding_waits_once_whatever_the_pieces_of_the_trie(counted: dict[str, Any]) -> None:
    found = counted["exact decoding"]  # of thousands of prefixes, some hundreds of which are looked at at once
    assert found["kernels"]["total"] > 1000, found["kernels"]
    assert found["waits"]["total"] == 1, found["waits"]  # for where children begin, the next time for nothing
