"""CUDA's autocast on the stand-in: which operations run in low precision, and which in full.

The lists are those of torch's documentation ("CUDA Ops that can autocast to float16", "to float32"), as far as the
project's networks use them. An operation in neither takes what it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch.utils import _pytree as tree

KEY = "AutocastPrivateUse1"
LOW = "mm bmm addmm baddbmm addbmm matmul linear mv addmv conv1d"
FULL = (
    "exp expm1 log log10 log1p reciprocal rsqrt pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar layer_norm "
    "native_layer_norm nll_loss mse_loss logsumexp l1_loss cosine_similarity softplus softmax.int log_softmax.int "
    "cumsum sum sum.dim_IntList prod linalg_vector_norm"
)


@contextmanager
def registered() -> Iterator[None]:
    """The lists hold in this process while the block lasts."""
    others, listed = torch.library.Library("_", "IMPL", KEY), torch.library.Library("aten", "IMPL", KEY)
    others.fallback(torch.library.fallthrough_kernel)
    try:
        for names, dtype in ((LOW, None), (FULL, torch.float32)):
            for name in names.split():
                listed.impl(name, _casting(name, dtype))
        yield
    finally:
        listed._destroy()
        others._destroy()


def _casting(name: str, dtype: torch.dtype | None) -> Any:
    """The operation on inputs of one precision: of `dtype`, or where that is none, of autocast's."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
    without_autocast = DispatchKeySet(DispatchKey.AutocastPrivateUse1)

    def cast(leaf: Any) -> Any:
        is_cast = (
            isinstance(leaf, Tensor) and leaf.dtype in (torch.float32, torch.bfloat16) and leaf.device.type == "gpu"
        )
        return leaf.to(dtype or torch.get_autocast_dtype("gpu")) if is_cast else leaf

    def run(*args: Any, **keywords: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(without_autocast):
            return operation(*tree.tree_map(cast, args), **tree.tree_map(cast, keywords))

    return run
