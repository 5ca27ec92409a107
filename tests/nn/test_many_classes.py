"""Softmax losses for large catalogs. Oracles: torch's cross_entropy and gradcheck, arithmetic by hand, and the limit of
many draws."""

import math

import pytest
import torch
import torch.nn.functional as F

from harness.nn import many_classes
from harness.nn.many_classes import chunked_cross_entropy, sampled_cross_entropy


def problem(targets=7, classes=23, width=4, dtype=torch.float64):
    stream = torch.Generator().manual_seed(3)
    states = torch.randn(targets, width, generator=stream, dtype=dtype).requires_grad_()
    table = torch.randn(classes, width, generator=stream, dtype=dtype).requires_grad_()
    return states, table, torch.randint(classes, (targets,), generator=stream)


@pytest.mark.parametrize("chunk", [1, 4, 23, 1000])
def test_chunked_cross_entropy_has_torchs_loss_and_gradients_whatever_the_chunk(monkeypatch, chunk):
    monkeypatch.setattr(many_classes, "CHUNK_ELEMENTS", 0)
    monkeypatch.setattr(many_classes, "LEAST_CHUNK", chunk)
    states, table, targets = problem(dtype=torch.float32)
    expected = F.cross_entropy(states @ table.T, targets, reduction="sum")
    expected_grads = torch.autograd.grad(3 * expected, (states, table))
    found = chunked_cross_entropy(states, table, targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for grad, expected_grad in zip(torch.autograd.grad(3 * found, (states, table)), expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-5)


def test_chunked_cross_entropy_passes_gradcheck(monkeypatch):
    monkeypatch.setattr(many_classes, "CHUNK_ELEMENTS", 0)
    monkeypatch.setattr(many_classes, "LEAST_CHUNK", 5)
    states, table, targets = problem()
    assert torch.autograd.gradcheck(lambda s, t: chunked_cross_entropy(s, t, targets), (states, table))


def test_chunked_cross_entropy_stays_finite_for_logits_far_apart():
    states = torch.tensor([[1.0]])
    table = torch.tensor([[-2e4], [0.0], [2e4]]).requires_grad_()
    loss = chunked_cross_entropy(states, table, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 4e4
    assert table.grad.tolist() == [[-1.0], [0.0], [1.0]]


def test_the_chunked_loss_holds_no_table_of_logits(monkeypatch):
    monkeypatch.setattr(many_classes, "CHUNK_ELEMENTS", 2**12)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            largest = max(largest, result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    states, table, targets = problem(targets=16, classes=10_000, dtype=torch.float32)
    with Watch():
        chunked_cross_entropy(states, table, targets).backward()
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
