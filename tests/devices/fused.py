"""What CUDA does in few launches and the stand-in would count as many: attention, and a recurrent layer.

Each runs on the CPU as one call, so that its numbers are the CPU's, and counts the launches that CUDA's kernel has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from stand_in_gpu import OnGpu, StandInGpu, call_site, is_low
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as tree


class _Fused(torch.autograd.Function):
    """A function of tensors of the stand-in, computed on their numbers; its graph is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], gpu: StandInGpu, launches: int, *parts: Any) -> Any:
        gpu.kernels[call_site()] += launches
        if is_low(parts):
            gpu.low[call_site()] += launches
        inner = [part.inner if isinstance(part, OnGpu) else part for part in parts]
        leaves = [
            one.detach().requires_grad_(part.requires_grad) if isinstance(part, OnGpu) else one
            for part, one in zip(parts, inner, strict=True)
        ]
        with torch.enable_grad():
            made = function(*leaves)
        ctx.gpu, ctx.launches, ctx.leaves, ctx.made = gpu, launches, leaves, tree.tree_leaves(made)
        return tree.tree_map(lambda one: OnGpu(one.detach()), made)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        ctx.gpu.kernels["backward"] += 2 * ctx.launches
        wanted = [leaf for leaf in ctx.leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
        given = [None if grad is None else grad.inner for grad in grads]
        found = iter(torch.autograd.grad(ctx.made, wanted, given, allow_unused=True))
        of_parts = [next(found) if isinstance(leaf, Tensor) and leaf.requires_grad else None for leaf in ctx.leaves]
        return None, None, None, *(None if grad is None else OnGpu(grad) for grad in of_parts)


@contextmanager
def installed(gpu: StandInGpu) -> Iterator[None]:
    """While the block lasts, attention and GRUs of this stand-in's tensors run so."""
    attention, gru = functional.scaled_dot_product_attention, torch._VF.gru

    def fused_attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        if not isinstance(query, OnGpu):
            return attention(query, key, value, **options)
        mask = options.pop("attn_mask", None)
        assert mask is None or isinstance(mask, OnGpu), "the mask must be on the device"
        return _Fused.apply(
            lambda q, k, v, m: attention(q, k, v, attn_mask=m, **options), gpu, 1, query, key, value, mask
        )

    def fused_gru(inputs: Tensor, *rest: Any) -> Any:
        if not isinstance(inputs, OnGpu):
            return gru(inputs, *rest)
        counts, (start, weights, *options) = (rest[:1], rest[1:]) if isinstance(rest[1], Tensor) else ((), rest)
        return _Fused.apply(lambda x, h, *w: gru(x, *counts, h, list(w), *options), gpu, 4, inputs, start, *weights)

    with (
        mock.patch.object(functional, "scaled_dot_product_attention", fused_attention),
        mock.patch.object(torch._VF, "gru", fused_gru),
    ):
        yield
