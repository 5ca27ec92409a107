"""Counts what SASRec asks of a GPU at the paper's sizes, and prints it as JSON: python counts_on_stand_in.py

A training step, and an evaluation with exact ranks and lists, over random histories: counts depend on sizes, not items.
"""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import fused
import numpy as np
from stand_in_gpu import GPU, StandInGpu

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.evaluation.ranking import ranked_cases
from harness.interfaces import FitContext
from harness.sequence.model import learner_of
from harness.sequence.sasrec import PAPER, SASREC
from harness.sequence.training import Batches, batch_losses

NUM_ITEMS, NUM_USERS = 9_922, 4_000  # of instruments2018; more users would change no count of a step


def dataset() -> Dataset:
    """Histories of 8 items on average, 50 and more at most."""
    stream = np.random.default_rng(0)
    lengths = np.minimum(3 + stream.geometric(1 / 6, NUM_USERS), 60)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = stream.integers(1, NUM_ITEMS + 1, offsets[-1]).astype(np.int32)
    train = Sequences(items, offsets)
    targets = stream.integers(1, NUM_ITEMS + 1, NUM_USERS).astype(np.int32)
    catalog = Catalog(tuple(map(str, range(NUM_ITEMS))))
    return Dataset("random", "0" * 16, catalog, train, EvalCases(train.last(50), targets))


def counts(gpu: StandInGpu) -> dict[str, Any]:
    """What was counted since it was last asked, most frequent call sites first."""
    told = {
        name: {"total": sum(counter.values()), "sites": dict(counter.most_common(12))}
        for name, counter in (("kernels", gpu.kernels), ("waits", gpu.waits), ("moved", gpu.moved))
    }
    gpu.kernels, gpu.waits, gpu.moved = Counter(), Counter(), Counter()
    return told


def main() -> None:
    """Prints the counts of a step, of its copies, and of an evaluation."""
    data, gpu = dataset(), StandInGpu()
    with tempfile.TemporaryDirectory() as folder, gpu, fused.installed(gpu):
        recommender = SASREC.new(PAPER, data, FitContext(0, Path(folder), device=GPU))
        network, objective = recommender.network.train(), SASREC.objective(PAPER, data)
        learner = learner_of(network, PAPER)
        batches = iter(Batches(objective, PAPER.batch_size, GPU)(np.random.default_rng(1)))
        told = {}
        for name in ("first step", "step"):
            counts(gpu)
            batch = next(batches)
            for losses in batch_losses(network, objective.loss, batch):
                losses["total"].backward()
            learner.step()
            told[name] = counts(gpu)
        ranked_cases(recommender.scores, data.validation, 100, np.ones(NUM_ITEMS))
        told["evaluation"] = counts(gpu)
    print(json.dumps(told | {"users": NUM_USERS}, indent=1))


if __name__ == "__main__":
    main()
