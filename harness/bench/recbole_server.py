"""RecBole's SASRec behind a pipe: a script for the Python that has RecBole, which need not have the harness.

It reads a line of JSON per request from stdin and answers each with one on stdout: {"status": "done" or "failed",
"content": ...}. Arrays come in an npz file that the request names. Only RecBole's model works here: its data loader and
its metrics, which would cost it more time, are left out.

Shape legend: B rows, S positions (right-padded with 0), N items with padding, K places of a ranked list.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec

EVAL_BATCH = 4096  # users ranked at a time: RecBole's default


class Items:
    """What the model asks of a data set: how many items there are."""

    def __init__(self, num_items: int):
        self.num_items = num_items

    def num(self, field: str) -> int:
        """N, whatever the field."""
        return self.num_items


class Server:
    """The tasks, by name; each takes the request's arrays."""

    def __init__(self, sizes: dict[str, Any], threads: int, weights: dict[str, np.ndarray]):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        table = weights["item_embedding.weight"]
        settings = sizes | {"loss_type": "CE", "train_neg_sample_args": None, "use_gpu": False}
        self.model = SASRec(Config(model="SASRec", dataset="bench", config_dict=settings), Items(len(table)))
        self.model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=sizes["learning_rate"])

    def loss(self, arrays: dict[str, np.ndarray]) -> float:
        """Mean cross-entropy (nats) of the batch without dropout."""
        self.model.eval()
        with torch.no_grad():
            return float(self.model.calculate_loss(self._batch(arrays)))

    def training(self, arrays: dict[str, np.ndarray]) -> float:
        """Samples per second of one training step, as RecBole's trainer makes it."""
        self.model.train()
        batch = self._batch(arrays)
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.model.calculate_loss(batch).backward()
        self.optimizer.step()
        return len(batch) / (time.perf_counter() - started)

    @torch.no_grad()
    def ranking(self, arrays: dict[str, np.ndarray]) -> float:
        """Users per second of ranked lists from the scores of all items."""
        self.model.eval()
        batch = self._batch(arrays)
        started = time.perf_counter()
        for start in range(0, len(batch), EVAL_BATCH):
            scores_BN = self.model.full_sort_predict(batch[start : start + EVAL_BATCH])
            scores_BN[:, 0] = -np.inf
            torch.topk(scores_BN, min(int(arrays["k"]), scores_BN.shape[1]), dim=1)
        return len(batch) / (time.perf_counter() - started)

    def memory(self, arrays: dict[str, np.ndarray]) -> float:
        """The most memory that this process has held so far, in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

    def _batch(self, arrays: dict[str, np.ndarray]) -> Interaction:
        names = {
            self.model.ITEM_SEQ: "items_BS",
            self.model.ITEM_SEQ_LEN: "lengths_B",
            self.model.POS_ITEM_ID: "targets_B",
        }
        return Interaction({field: torch.from_numpy(arrays[name]) for field, name in names.items() if name in arrays})


def main() -> None:
    """Answers until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what RecBole prints must not come between the answers
    sys.argv = sys.argv[:1]
    server = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with np.load(request["file"]) as file:
                arrays = dict(file)
            if request["task"] == "start":
                server, content = Server(request["sizes"], request["threads"], arrays), 0.0
            else:
                content = getattr(server, request["task"])(arrays)
            answer = {"status": "done", "content": content}
        except Exception as error:
            answer = {"status": "failed", "content": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
