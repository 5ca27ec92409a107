"""The precision of what is computed under torch's autocast."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def dtype_of_products(x: Tensor) -> torch.dtype:
    """What matrix products of `x` are computed in: its own precision, or autocast's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Outside of autocast: logits, distances, losses and codes are computed so, whatever precision a fit has."""
    return torch.autocast(device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """What autocast has made of a tensor in fp32 again; others as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x
