"""The precision of matrix products inside kernels, where torch's autocast does not reach."""

import torch
from torch import Tensor


def dtype_of_products(x: Tensor) -> torch.dtype:
    """What matrix products of `x` are computed in: its own precision, or autocast's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
