"""RecBole's models behind a pipe: a script for the Python that has RecBole, which need not have the harness.

It reads a line of JSON per request from stdin and answers each with one on stdout: {"status": "done" or "failed",
"content": ...}. Arrays come in an npz file that the request names. What it serves is told by the first request:
SASRec with weights and batches that are given (`sizes`), where RecBole's loader and metrics, which would cost it more
time, are left out; or any sequential model on RecBole's own data set and loaders (`settings`).

Shape legend: B rows, S positions, N items with padding, K places of a ranked list.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.utils import get_model

EVAL_BATCH = 4096  # users ranked at a time: RecBole's default
SOFTMAX = {"loss_type": "CE", "train_neg_sample_args": None, "use_gpu": False}
Arrays = dict[str, np.ndarray]


class Items:
    """What the model asks of a data set: how many items there are."""

    def __init__(self, num_items: int):
        self.num_items = num_items

    def num(self, field: str) -> int:
        """N, whatever the field."""
        return self.num_items


class GivenBatches:
    """SASRec on batches that are made elsewhere. Tasks by name; each takes the request's arrays."""

    def __init__(self, sizes: dict[str, Any], weights: Arrays):
        table = weights["item_embedding.weight"]
        config = Config(model="SASRec", dataset="bench", config_dict=sizes | SOFTMAX)
        self.model = SASRec(config, Items(len(table)))
        self.model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=sizes["learning_rate"])

    def loss(self, arrays: Arrays) -> float:
        """Mean cross-entropy (nats) of the batch without dropout."""
        self.model.eval()
        with torch.no_grad():
            return float(self.model.calculate_loss(self._batch(arrays)))

    def training(self, arrays: Arrays) -> float:
        """Samples per second of one training step, as RecBole's trainer makes it."""
        self.model.train()
        batch = self._batch(arrays)
        started = time.perf_counter()
        training_step(self.model, self.optimizer, batch)
        return len(batch) / (time.perf_counter() - started)

    @torch.no_grad()
    def ranking(self, arrays: Arrays) -> float:
        """Users per second of ranked lists from the scores of all items."""
        self.model.eval()
        batch = self._batch(arrays)
        started = time.perf_counter()
        for start in range(0, len(batch), EVAL_BATCH):
            best_items(self.model, batch[start : start + EVAL_BATCH], int(arrays["k"]))
        return len(batch) / (time.perf_counter() - started)

    def memory(self, arrays: Arrays) -> float:
        """The most memory that this process has held so far, in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

    def _batch(self, arrays: Arrays) -> Interaction:
        names = {
            self.model.ITEM_SEQ: "items_BS",
            self.model.ITEM_SEQ_LEN: "lengths_B",
            self.model.POS_ITEM_ID: "targets_B",
        }
        return Interaction({field: torch.from_numpy(arrays[name]) for field, name in names.items() if name in arrays})


class OwnLoaders:
    """A model on RecBole's own data set, which it reads from atomic files, and loaders.

    The settings are RecBole's, the model's name and the folder of the files among them. A model of two stages starts in
    the first, unless `finetune` is set.
    """

    def __init__(self, settings: dict[str, Any]):
        is_second_stage = settings.pop("finetune", False)
        self.config = Config(config_dict=settings | SOFTMAX)
        self.data = create_dataset(self.config)
        self.loader, self.users, _ = data_preparation(self.config, self.data)
        self.model = get_model(settings["model"])(self.config, self.data)
        if is_second_stage:
            self.model.train_stage, self.model.loss_fct = "finetune", torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings["learning_rate"])
        self.batches, self.rounds = endless(self.loader), endless(self.users)
        # The share of batches in which only the last item of each row is masked.
        self.last_share = getattr(self.loader.transform, "ft_ratio", None)

    def samples(self, arrays: Arrays) -> float:
        """Rows of an epoch."""
        return float(self.loader.sample_size)

    def parameters(self, arrays: Arrays) -> float:
        """Of the model."""
        return float(sum(parameter.numel() for parameter in self.model.parameters()))

    def training(self, arrays: Arrays) -> float:
        """Targets per second of a training step as RecBole's trainer makes it, the making of the batch included.

        Where batches are of two kinds, a step of each is made, and counted by its kind's share.
        """
        self.model.train()
        if self.last_share is None:
            targets, seconds = self._step()
            return targets / seconds
        targets = seconds = 0.0
        for share, is_last_only in ((1 - self.last_share, 0.0), (self.last_share, 1.0)):
            self.loader.transform.ft_ratio = is_last_only
            own_targets, own_seconds = self._step()
            targets, seconds = targets + share * own_targets, seconds + share * own_seconds
        return targets / seconds

    def _step(self) -> tuple[float, float]:
        started = time.perf_counter()
        batch = next(self.batches)
        training_step(self.model, self.optimizer, batch)
        return self._targets(batch), time.perf_counter() - started

    def _targets(self, batch: Interaction) -> float:
        """What the batch predicts: masked items, in a first stage as many as are expected; or one item a row."""
        if "MASK_INDEX" in batch:
            return float((batch["MASK_INDEX"] > 0).sum())
        if getattr(self.model, "train_stage", None) == "pretrain":
            return self.model.mask_ratio * float(batch[self.model.ITEM_SEQ_LEN].sum())
        return float(len(batch))

    @torch.no_grad()
    def ranking(self, arrays: Arrays) -> float:
        """Users per second of ranked lists of a loader's batch from the scores of all items."""
        self.model.eval()
        started = time.perf_counter()
        batch = next(self.rounds)[0]
        best_items(self.model, batch, int(arrays["k"]))
        return len(batch) / (time.perf_counter() - started)


def endless(loader: Any) -> Iterator[Any]:
    """The loader's batches, epoch after epoch."""
    while True:
        yield from loader


def training_step(model: Any, optimizer: torch.optim.Optimizer, batch: Interaction) -> None:
    """One step of RecBole's trainer."""
    optimizer.zero_grad()
    model.calculate_loss(batch).backward()
    optimizer.step()


def best_items(model: Any, batch: Interaction, k: int) -> torch.Tensor:
    """(B, K) the items with the highest scores, padding left out."""
    scores_BN = model.full_sort_predict(batch)
    scores_BN[:, 0] = -np.inf
    return torch.topk(scores_BN, min(k, scores_BN.shape[1]), dim=1).indices


def started_server(request: dict[str, Any], weights: Arrays) -> GivenBatches | OwnLoaders:
    """What the first request asks for."""
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    return GivenBatches(request["sizes"], weights) if "sizes" in request else OwnLoaders(request["settings"])


def main() -> None:
    """Answers until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what RecBole prints must not come between the answers
    sys.argv = sys.argv[:1]
    server: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with np.load(request["file"]) as file:
                arrays = dict(file)
            if request["task"] == "start":
                server, content = started_server(request, arrays), 0.0
            else:
                content = getattr(server, request["task"])(arrays)
            answer = {"status": "done", "content": content}
        except Exception as error:
            answer = {"status": "failed", "content": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
