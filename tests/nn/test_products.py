"""Products with a long table. Oracle: torch's matrix product in float64."""

import pytest
import torch

from harness.nn.kernels import products
from harness.nn.kernels.products import scores_of_all, weighted_rows
from harness.nn.kernels.switch import plain_kernels


@pytest.fixture(params=["oneDNN", "MKL"])
def served_by(request, monkeypatch) -> str:
    """Every table counts as long, or none does."""
    if request.param == "oneDNN" and not products.HAS_ONEDNN:
        pytest.skip("this torch has no oneDNN")
    for name in ("LEAST_SCORED", "LEAST_WEIGHTED"):
        monkeypatch.setattr(products, name, 0 if request.param == "oneDNN" else 2**62)
    return request.param


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("rows", [1, 64, 65, 300])
def test_products_are_those_of_float64_and_the_same_each_time(served_by, rows):
    table_VD, x_MD, weights_MV = drawn(1013, 24), drawn(rows, 24), drawn(rows, 1013)
    scores_MV = scores_of_all(x_MD, table_VD, torch.empty(rows, 1013))
    torch.testing.assert_close(scores_MV, (x_MD.double() @ table_VD.double().T).float(), rtol=1e-5, atol=1e-4)
    assert torch.equal(scores_MV, scores_of_all(x_MD, table_VD, torch.empty(rows, 1013)))
    out_MD = torch.empty(rows, 24)
    assert weighted_rows(weights_MV, table_VD, out_MD) is out_MD
    torch.testing.assert_close(out_MD, (weights_MV.double() @ table_VD.double()).float(), rtol=1e-5, atol=1e-4)


def test_only_the_fast_form_of_many_rows_in_fp32_with_a_long_table_is_oneDNNs(served_by, monkeypatch):
    calls = []
    monkeypatch.setattr(products, "_linear", lambda x, weight: calls.append(len(x)) or x @ weight.T)
    table_VD = drawn(1013, 24)
    scores_of_all(drawn(64, 24), table_VD, torch.empty(64, 1013))
    assert calls == ([64] if served_by == "oneDNN" else [])
    scores_of_all(drawn(63, 24), table_VD, torch.empty(63, 1013))
    scores_of_all(drawn(64, 24).double(), table_VD.double(), torch.empty(64, 1013, dtype=torch.float64))
    with plain_kernels():
        scores_of_all(drawn(64, 24), table_VD, torch.empty(64, 1013))
    assert len(calls) == (1 if served_by == "oneDNN" else 0)
