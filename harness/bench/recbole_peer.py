"""The second peer: RecBole's SASRec with our weights, on our batches padded as RecBole pads, under its own Python.

RecBole 1.2.1 needs older versions of numpy, scipy and pandas than the harness, and so an environment of its own.

Shape legend: B rows, S positions, D width.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from harness.bench.workload import K, Setup, Workload
from harness.data.dataset import Sequences
from harness.errors import StageError, UsageError
from harness.nn.encoder import Encoder, pack
from harness.nn.sasrec import SASRec, TransformerSizes
from harness.sequence.losses import linear_cross_entropy
from harness.sequence.sasrec import SASREC, SASRecConfig

SCRIPT = Path(__file__).with_name("recbole_server.py")
CHECKED = 64  # samples on which both must have the same loss
CLOSE = 1e-5  # relative
PARTS = {  # of a layer: ours, RecBole's
    "attention.query": "multi_head_attention.query",
    "output": "multi_head_attention.dense",
    "attention_norm": "multi_head_attention.LayerNorm",
    "inner": "feed_forward.dense_1",
    "outer": "feed_forward.dense_2",
    "feed_forward_norm": "feed_forward.LayerNorm",
}


def recbole_python(path: str | None) -> str | None:
    """The Python that has RecBole: the one at `path`, else our own; None where ours has it not.

    `UsageError` where the given one has it not.
    """
    if path is None:
        return sys.executable if util.find_spec("recbole") else None
    look = "import sys; from importlib import util; sys.exit(util.find_spec('recbole') is None)"
    try:
        found = subprocess.run([path, "-c", look], capture_output=True, check=False).returncode == 0
    except OSError:
        found = False
    if not found:
        raise UsageError(
            f"--recbole-python must be a Python with RecBole, but {path} is none; in an environment of its own: "
            "pip install recbole==1.2.1 'numpy<2' 'scipy<1.14' 'pandas<3'"
        )
    return path


class RecBole:
    """RecBole's process: it is asked for a task on a batch."""

    def __init__(self, process: subprocess.Popen[str], folder: Path):
        assert process.stdin is not None
        assert process.stdout is not None
        self.requests: IO[str] = process.stdin
        self.answers: IO[str] = process.stdout
        self.process = process
        self.folder = folder

    def __call__(self, task: str, arrays: dict[str, np.ndarray] | None = None, **settings: Any) -> float:
        """What the process answers; `StageError` where it fails or ends."""
        file = self.folder / "request.npz"
        np.savez(file, **(arrays or {}))  # type: ignore[arg-type]  # its annotation takes the arrays for options
        try:
            print(json.dumps({"task": task, "file": str(file), **settings}), file=self.requests, flush=True)
            answer = json.loads(self.answers.readline() or "null")
        except BrokenPipeError:
            answer = None
        if answer is None:
            answer = {"status": "failed", "content": f"it ended with exit code {self.process.wait()}"}
        if answer["status"] == "failed":
            raise StageError(f"RecBole's process must do '{task}', but failed: {answer['content']}; leave it out")
        return answer["content"]


@contextmanager
def started_recbole(setup: Setup, workload: Workload) -> Iterator[RecBole | None]:
    """RecBole in its own process while the block lasts; None if the setup wants none.

    `StageError` where its loss is not ours.
    """
    if setup.recbole_python is None:
        yield None
        return
    config = workload.sizes.sasrec
    network = SASREC.new(config, workload.dataset, workload.context).network.eval()
    assert isinstance(network, SASRec)
    with recbole_process(setup) as recbole:
        recbole("start", recbole_weights(network), sizes=recbole_sizes(network, config), threads=setup.threads)
        batch = sample_arrays(workload, 0, CHECKED)
        ours, theirs = sample_loss(network, batch), recbole("loss", batch)
        if abs(ours - theirs) > CLOSE * abs(theirs):
            raise StageError(
                f"RecBole's loss must be ours for the same weights and samples, but {theirs:.6f} is not {ours:.6f}; "
                "compare with RecBole 1.2.1"
            )
        yield recbole


@contextmanager
def recbole_process(setup: Setup) -> Iterator[RecBole]:
    """The server, with our threads and our settings of the allocator (`harness.heap.keep_freed_memory`)."""
    assert setup.recbole_python is not None
    settings = {
        "OMP_NUM_THREADS": str(setup.threads),
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        "MALLOC_TOP_PAD_": str(64 * 2**20),
    }
    with tempfile.TemporaryDirectory(prefix="harness-recbole-") as name:
        folder = Path(name)
        with (folder / "log").open("w") as errors:
            process = subprocess.Popen(
                [setup.recbole_python, str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,  # RecBole writes logs where it stands
                env=os.environ | settings,
            )
        try:
            yield RecBole(process, folder)
        finally:
            process.kill()
            process.communicate()


def recbole_sizes(network: SASRec, config: SASRecConfig) -> dict[str, Any]:
    """The network's sizes by RecBole's names."""
    return transformer_settings(config, network.max_history) | {"learning_rate": config.learning_rate}


def transformer_settings(config: TransformerSizes, longest: int) -> dict[str, Any]:
    """The sizes of self-attentive layers."""
    return {
        "MAX_ITEM_LIST_LENGTH": longest,
        "hidden_size": config.hidden_size,
        "inner_size": config.inner_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "hidden_dropout_prob": config.dropout,
        "attn_dropout_prob": config.dropout,
    }


def recbole_weights(network: SASRec) -> dict[str, np.ndarray]:
    """The network's weights by RecBole's names."""
    ours = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    theirs = {
        "item_embedding.weight": ours["item_table.weight"],
        "position_embedding.weight": ours["position_table.weight"],
        "LayerNorm.weight": ours["norm.weight"],
        "LayerNorm.bias": ours["norm.bias"],
    }
    for layer in range(len(network.layers)):
        for kind in ("weight", "bias"):
            prefix = f"trm_encoder.layer.{layer}."
            for part, name in PARTS.items():
                theirs[f"{prefix}{name}.{kind}"] = ours[f"layers.{layer}.{part}.{kind}"]
            key, value = ours[f"layers.{layer}.attention.key_value.{kind}"].chunk(2)
            theirs[f"{prefix}multi_head_attention.key.{kind}"] = key
            theirs[f"{prefix}multi_head_attention.value.{kind}"] = value
    return {name: tensor.numpy() for name, tensor in theirs.items()}


def sample_arrays(workload: Workload, step: int, count: int) -> dict[str, np.ndarray]:
    """A step's random prefix samples, padded to the longest history allowed, as RecBole's loader pads them."""
    batch = workload.prefix_samples(step, count)
    return history_arrays(batch.histories, workload.dataset.max_history) | {"targets_B": batch.targets}


def history_arrays(histories: Sequences, max_history: int) -> dict[str, np.ndarray]:
    """Histories as RecBole takes them, and the length of the list that is asked for."""
    items_BS = histories.padded()
    padded_BS = np.pad(items_BS, ((0, 0), (0, max_history - items_BS.shape[1])))
    return {"items_BS": padded_BS, "lengths_B": histories.lengths, "k": np.array(K)}


@torch.no_grad()
def sample_loss(network: Encoder, arrays: dict[str, np.ndarray]) -> float:
    """Our mean cross-entropy (nats) of the same samples, padding being a class; in eval mode nothing is dropped."""
    rows = [row[:length].tolist() for row, length in zip(arrays["items_BS"], arrays["lengths_B"], strict=True)]
    packed = pack(Sequences.from_rows(rows), torch.device("cpu"))
    states_BD: Tensor = network(packed, packed.ends_B)
    targets_B = torch.from_numpy(arrays["targets_B"])
    return float(linear_cross_entropy(states_BD, network.item_rows_VD, targets_B)) / len(rows)
