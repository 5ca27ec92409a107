"""Products of few rows with a long table, on a CPU: scores of all items, and gradients of a softmax over them.

MKL packs the table anew for each product, which costs as much as the product itself where the rows are few. oneDNN
reads it as it lies. torch has oneDNN's product of fp32 only as the operator that its compiler uses.

Shape legend: M rows, D width, V rows of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.nn.kernels.switch import runs_fast

LEAST_ELEMENTS = 2**20  # of the table; a shorter one stays in a CPU's cache, and MKL is as fast
LEAST_ROWS = 64


def scores_of_all(x_MD: Tensor, table_VD: Tensor, out_MV: Tensor) -> Tensor:
    """(M, V) `x · tableᵀ`, in `out_MV` or in memory of its own; without a gradient."""
    if _is_long(x_MD, table_VD):
        return _linear(x_MD, table_VD)
    return torch.mm(x_MD, table_VD.T, out=out_MV)


def weighted_rows(weights_MV: Tensor, table_VD: Tensor, out_MD: Tensor) -> Tensor:
    """(M, D) `weights · table`, in `out_MD`; without a gradient."""
    if _is_long(weights_MV, table_VD):
        return out_MD.copy_(_linear(weights_MV, table_VD.T))
    return torch.mm(weights_MV, table_VD, out=out_MD)


def _is_long(rows: Tensor, table_VD: Tensor) -> bool:
    is_served = table_VD.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return runs_fast(table_VD.device) and is_served and table_VD.numel() > LEAST_ELEMENTS and len(rows) >= LEAST_ROWS


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
