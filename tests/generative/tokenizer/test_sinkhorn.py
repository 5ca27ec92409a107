"""Oracles: the literal matrix iteration of METHODS B.4, the marginals, and an optimal matching by scipy."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from harness.generative.tokenizer.sinkhorn import scaled_distances, sinkhorn_at_level, sinkhorn_codes, sinkhorn_plan


def distances(rows: int, codes: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, codes, generator=torch.Generator().manual_seed(seed))


def literal_plan(scaled_BK: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    plan = torch.exp(-scaled_BK / epsilon)
    plan = plan / plan.sum()
    for _ in range(iterations):
        plan = plan / plan.sum(1, keepdim=True) / len(plan)
        plan = plan / plan.sum(0, keepdim=True) / plan.shape[1]
    return plan


def test_scaling_puts_the_extremes_at_minus_one_and_one() -> None:
    scaled = scaled_distances(torch.tensor([[2.0, 4.0], [6.0, 3.0]]))
    assert scaled.dtype == torch.float64
    # middle 4, half range 2: (2 - 4) / 2.00001 and so on.
    torch.testing.assert_close(scaled * 2.00001, torch.tensor([[-2.0, 0.0], [2.0, -1.0]], dtype=torch.float64))


def test_the_plan_equals_the_literal_matrix_iteration() -> None:
    scaled = scaled_distances(distances(40, 12))
    torch.testing.assert_close(
        sinkhorn_plan(scaled, epsilon=0.05, iterations=7), literal_plan(scaled, 0.05, 7), rtol=1e-9, atol=0
    )


def test_columns_sum_to_one_over_k_and_rows_to_one_over_b_when_converged() -> None:
    plan = sinkhorn_plan(scaled_distances(distances(40, 12)), epsilon=0.1, iterations=500)
    torch.testing.assert_close(plan.sum(0), torch.full((12,), 1 / 12, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(1), torch.full((40,), 1 / 40, dtype=torch.float64), rtol=1e-6, atol=0)


def test_the_paper_s_epsilon_stays_finite_on_a_full_batch() -> None:
    plan = sinkhorn_plan(scaled_distances(distances(1024, 256)))
    assert plan.isfinite().all()
    assert plan.sum().item() == np.float64(1).item() or abs(plan.sum().item() - 1) < 1e-9


def test_as_many_rows_as_codes_gives_the_optimal_matching() -> None:
    costs = distances(8, 8, seed=3)
    _, columns = linear_sum_assignment(costs.numpy())
    assert sinkhorn_codes(costs, epsilon=0.01, iterations=2000).tolist() == columns.tolist()


def test_crowded_rows_are_spread_over_the_codes() -> None:
    # All rows are nearest to code 0, yet each code gets its share.
    crowded = distances(64, 8)
    crowded[:, 0] -= 2
    assert crowded.argmin(-1).unique().tolist() == [0]
    counts = torch.bincount(sinkhorn_codes(crowded, epsilon=0.01, iterations=200), minlength=8)
    assert counts.min() >= 4
    assert counts.max() <= 12


def test_only_the_named_level_is_balanced() -> None:
    crowded = distances(64, 8)
    crowded[:, 0] -= 2
    assign = sinkhorn_at_level(1)
    assert torch.equal(assign(0, crowded), crowded.argmin(-1))
    assert torch.equal(assign(1, crowded), sinkhorn_codes(crowded))
