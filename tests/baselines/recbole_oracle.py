"""RecBole 1.2.1 as the oracle of a baseline: its model of the same name with our weights, under its own Python."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from harness.data.dataset import Sequences

PYTHON = os.environ.get("HARNESS_RECBOLE_PYTHON") or (sys.executable if util.find_spec("recbole") else None)
SERVER = Path(__file__).with_name("recbole_server.py")
needs_recbole = pytest.mark.skipif(PYTHON is None, reason="RecBole is not installed; set HARNESS_RECBOLE_PYTHON")

LAYER = {  # parts of a self-attentive layer: ours, RecBole's; keys and values are one matrix here
    "attention.query": "multi_head_attention.query",
    "output": "multi_head_attention.dense",
    "attention_norm": "multi_head_attention.LayerNorm",
    "inner": "feed_forward.dense_1",
    "outer": "feed_forward.dense_2",
    "feed_forward_norm": "feed_forward.LayerNorm",
}


def of_layers(state: Mapping[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    """RecBole's weights of an encoder `theirs` from ours, the layers `ours.0`, `ours.1`, ..."""
    found = {}
    for name, tensor in state.items():
        if not name.startswith(f"{ours}."):
            continue
        number, rest = name.removeprefix(f"{ours}.").split(".", 1)
        part, kind = rest.rsplit(".", 1)
        prefix = f"{theirs}.layer.{number}."
        if part == "attention.key_value":
            for half, values in zip(("key", "value"), tensor.chunk(2), strict=True):
                found[f"{prefix}multi_head_attention.{half}.{kind}"] = values
        else:
            found[f"{prefix}{LAYER[part]}.{kind}"] = tensor
    return found


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors whose name begins with a key of `names`, under RecBole's names."""
    return {
        f"{theirs}{name.removeprefix(ours)}": tensor
        for name, tensor in state.items()
        for ours, theirs in names.items()
        if name == ours or name.startswith(f"{ours}.")
    }


def answers(
    folder: Path,
    model: str,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    rows: list[list[int]],
    targets: Tensor,
    **others: Mapping[str, np.ndarray],
) -> Mapping[str, np.ndarray]:
    """Logits and loss of RecBole's model; `others`: `field`, `feature` and `pretrain` arrays by name."""
    sequences, longest = Sequences.from_rows(rows), settings["MAX_ITEM_LIST_LENGTH"]
    items = sequences.padded()
    arrays = {f"weight/{name}": tensor.contiguous().numpy() for name, tensor in weights.items()}
    arrays |= {f"{kind}/{name}": array for kind, group in others.items() for name, array in group.items()}
    arrays |= {"items": np.pad(items, ((0, 0), (0, longest - items.shape[1]))), "lengths": sequences.lengths}
    np.savez(folder / "given.npz", targets=targets.numpy(), **arrays)
    command = [PYTHON, SERVER, model, json.dumps(settings), folder / "given.npz", folder / "found.npz"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return np.load(folder / "found.npz")
