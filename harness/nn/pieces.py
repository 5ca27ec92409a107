"""How much of a generator's or a tokenizer's work runs at once, by the form of the kernels, and so by the device."""

from __future__ import annotations

from typing import NamedTuple

import torch

from harness.nn.kernels.switch import runs_native


class Pieces(NamedTuple):
    """The most that runs at once."""

    trained_tokens: int  # encoder tokens of a training step
    searched_tokens: int  # history tokens and beams
    items: int  # items that a tokenizer encodes


SMALL = Pieces(2048, 2048, 4096)  # temporaries of this size stay in a CPU's cache
# A GPU's time goes into launches, not into arithmetic: all 512 samples of a chunk, and thousands of users, at once. The
# graph of so many tokens is about 9 GB at the paper's sizes, a search takes about 3 GB.
LARGE = Pieces(2**17, 2**18, 2**18)


def pieces_on(device: torch.device) -> Pieces:
    """Those of the device, or of the form of the kernels that was chosen for it."""
    return LARGE if runs_native(device) else SMALL
