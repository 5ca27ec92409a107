"""Arrays on their way to a device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 16  # bytes: an array begins where any number format may


def moved(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """The arrays on the device, by their names; none may be changed afterwards.

    On a CPU they share the arrays' memory. Elsewhere all go in one copy from pinned memory, which the host does not
    wait for.
    """
    if device.type == "cpu":
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    starts = np.cumsum([0, *(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays.values())])
    packed = torch.empty(int(starts[-1]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    bytes_of_all = packed.numpy()
    for start, array in zip(starts, arrays.values(), strict=False):
        bytes_of_all[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    there = packed.to(device, non_blocking=True)
    found = {}
    for start, (name, array) in zip(starts, arrays.items(), strict=False):
        dtype = torch.from_numpy(np.empty(0, dtype=array.dtype)).dtype
        found[name] = there[start : start + array.nbytes].view(dtype).view(array.shape)
    return found
