"""Losses over items. Oracles: torch's losses and gradcheck, arithmetic by hand, slow loops, the limit of many draws."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from harness.sequence import losses
from harness.sequence.losses import (
    binary_cross_entropy,
    chosen_logits,
    chunked_cross_entropy,
    drawn_cross_entropy,
    generalised_binary_cross_entropy,
    linear_cross_entropy,
    plain_chosen_logits,
    sampled_cross_entropy,
)


def problem(targets=7, classes=23, width=4, dtype=torch.float64):
    stream = torch.Generator().manual_seed(3)
    states = torch.randn(targets, width, generator=stream, dtype=dtype).requires_grad_()
    table = torch.randn(classes, width, generator=stream, dtype=dtype).requires_grad_()
    return states, table, torch.randint(classes, (targets,), generator=stream)


@pytest.mark.parametrize("size", [1, 4, 23, None])
@pytest.mark.parametrize(
    ("loss", "argument", "dtype"),
    [
        (linear_cross_entropy, "targets_at_once", torch.float64),
        (chunked_cross_entropy, "classes_at_once", torch.float32),
    ],
)
def test_a_cross_entropy_in_chunks_has_torchs_loss_and_gradients_whatever_the_chunk(loss, argument, dtype, size):
    states, table, targets = problem(dtype=dtype)
    expected = F.cross_entropy(states @ table.T, targets, reduction="sum")
    expected_grads = torch.autograd.grad(3 * expected, (states, table))
    found = loss(states, table, targets, **{argument: size})
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for grad, expected_grad in zip(torch.autograd.grad(3 * found, (states, table)), expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-5)


def test_chunked_cross_entropy_passes_gradcheck():
    states, table, targets = problem()
    loss = partial(chunked_cross_entropy, classes_at_once=5)
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t, targets), (states, table))


def test_linear_cross_entropy_stays_finite_for_logits_far_apart():
    loss = linear_cross_entropy(torch.tensor([[1000.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert loss.item() == 2000.0  # by hand: log(e^1000 + e^-1000) + 1000


def test_chunked_cross_entropy_stays_finite_for_logits_far_apart():
    states = torch.tensor([[1.0]])
    table = torch.tensor([[-2e4], [0.0], [2e4]]).requires_grad_()
    loss = chunked_cross_entropy(states, table, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 4e4
    assert table.grad.tolist() == [[-1.0], [0.0], [1.0]]


def test_the_chunked_loss_holds_no_table_of_logits():
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            largest = max(largest, result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    states, table, targets = problem(targets=16, classes=10_000, dtype=torch.float32)
    with Watch():
        chunked_cross_entropy(states, table, targets, classes_at_once=256).backward()
    assert largest == table.numel()  # its gradient; all the logits would be 4 times as many


def test_sampled_cross_entropy_by_hand():
    states = torch.tensor([[1.0]])
    table = torch.tensor([[0.0], [math.log(2)], [math.log(3)]])
    drawn = torch.tensor([1, 2, 0])  # class 1 is the target, so its draw does not count
    log_expected = torch.tensor([0.5, 1.5, 3.0]).log()
    found = sampled_cross_entropy(states, table, torch.tensor([1]), drawn, log_expected)
    assert found.item() == pytest.approx(math.log((2 + 3 / 1.5 + 1 / 3) / 2), abs=1e-6)


def test_sampled_cross_entropy_of_a_target_that_all_draws_hit_is_zero_with_a_finite_gradient():
    states, table, _ = problem(targets=1)
    loss = sampled_cross_entropy(states, table, torch.tensor([4]), torch.tensor([4, 4]), torch.zeros(2).double())
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert table.grad.isfinite().all()


def test_sampled_cross_entropy_tends_to_the_whole_softmax_and_without_the_correction_does_not():
    states, table, targets = problem(targets=1)
    shares = (states @ table.T).detach().softmax(dim=1)[0]  # what the user likes is drawn often
    drawn = torch.multinomial(shares, 200_000, replacement=True, generator=torch.Generator().manual_seed(2))
    log_expected = (len(drawn) * shares).log()[drawn]
    whole = chunked_cross_entropy(states, table, targets).item()
    assert sampled_cross_entropy(states, table, targets, drawn, log_expected).item() == pytest.approx(whole, rel=5e-3)
    uncorrected = torch.full_like(log_expected, math.log(len(drawn) / len(table)))
    assert sampled_cross_entropy(states, table, targets, drawn, uncorrected).item() > 1.05 * whole


def test_binary_cross_entropy_is_torchs_of_target_and_negative():
    states, table, targets = problem(targets=3)
    negatives = torch.tensor([4, 5, 6])
    logits = torch.cat([(states * table[targets]).sum(1), (states * table[negatives]).sum(1)])
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([1.0] * 3 + [0.0] * 3).double(), reduction="sum")
    torch.testing.assert_close(binary_cross_entropy(states, table, targets, negatives), expected)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_is_the_formula_of_the_specification_worked_out_target_by_target(calibration):
    states, table, targets = problem()
    num_items, count = 22, 5
    negatives = torch.randint(1, 23, (7, count), generator=torch.Generator().manual_seed(1))
    share = count / (num_items - 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)  # METHODS B.9: alpha (t (1 - 1/alpha) + 1/alpha)
    expected = 0.0
    for state, target, row in zip(states.tolist(), targets.tolist(), negatives.tolist(), strict=True):
        score = [sum(s * t for s, t in zip(state, table[item].tolist(), strict=True)) for item in (target, *row)]
        chance = [1 / (1 + math.exp(-each)) for each in score]
        expected -= (beta * math.log(chance[0]) + sum(math.log(1 - each) for each in chance[1:])) / (count + 1)
    found = generalised_binary_cross_entropy(
        states, table, targets, negatives, num_items=num_items, calibration=calibration
    )
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_gbce_without_calibration_and_with_one_negative_is_half_the_binary_cross_entropy():
    states, table, targets = problem(targets=3)
    negatives = torch.tensor([[4], [5], [6]])
    found = generalised_binary_cross_entropy(states, table, targets, negatives, num_items=22, calibration=0.0)
    torch.testing.assert_close(2 * found, binary_cross_entropy(states, table, targets, negatives[:, 0]))


@pytest.mark.parametrize("ratio", [0, 1000], ids=["rows of the table", "all products"])
def test_chosen_logits_and_their_gradients_are_those_of_the_plain_form(monkeypatch, ratio):
    monkeypatch.setattr(losses, "ROWS_OF_A_CHOICE", ratio)
    states, table, _ = problem()
    classes = torch.randint(23, (7, 5), generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(
        lambda s, t: chosen_logits(s, t, classes, at_once=3), (states.requires_grad_(), table.requires_grad_())
    )
    torch.testing.assert_close(chosen_logits(states, table, classes), plain_chosen_logits(states, table, classes))


def test_drawn_cross_entropy_is_that_of_the_target_among_its_own_negatives_hits_included():
    states, table, targets = problem(targets=3)
    negatives = torch.tensor([[1, 2], [5, 5], [int(targets[2]), 4]])
    expected = 0.0
    for state, target, row in zip(states.detach(), targets.tolist(), negatives.tolist(), strict=True):
        scores = [float(state @ table.detach()[item]) for item in (target, *row)]
        expected += math.log(sum(map(math.exp, scores))) - scores[0]
    assert drawn_cross_entropy(states, table, targets, negatives).item() == pytest.approx(expected, rel=1e-9)
