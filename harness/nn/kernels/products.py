"""Products of few rows with a long table, on a CPU: scores of all items, and gradients of a softmax over them.

MKL packs the table anew for each product, which costs as much as the product itself where the rows are few. oneDNN
reads it as it lies. torch has oneDNN's product of fp32 only as the operator that its compiler uses.

Shape legend: M rows, D width, V rows of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.nn.kernels.switch import runs_fast

# Elements of the shortest table that oneDNN is faster with: in scores of all its rows, and in weighted sums of them.
LEAST_SCORED, LEAST_WEIGHTED = 2**18, 2**19
LEAST_ROWS = 64
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def scores_of_all(x_MD: Tensor, table_VD: Tensor, out_MV: Tensor) -> Tensor:
    """(M, V) `x · tableᵀ`, in `out_MV` or in memory of its own; without a gradient."""
    if _is_faster(x_MD, table_VD, LEAST_SCORED):
        return _linear(x_MD, table_VD)
    return torch.mm(x_MD, table_VD.T, out=out_MV)


def weighted_rows(weights_MV: Tensor, table_VD: Tensor, out_MD: Tensor) -> Tensor:
    """(M, D) `weights · table`, in `out_MD`; without a gradient."""
    if _is_faster(weights_MV, table_VD, LEAST_WEIGHTED):
        return out_MD.copy_(_linear(weights_MV, table_VD.T))
    return torch.mm(weights_MV, table_VD, out=out_MD)


def _is_faster(rows: Tensor, table_VD: Tensor, least: int) -> bool:
    is_long = len(rows) >= LEAST_ROWS and table_VD.numel() >= least and table_VD.dtype == torch.float32
    return HAS_ONEDNN and is_long and runs_fast(table_VD.device)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
