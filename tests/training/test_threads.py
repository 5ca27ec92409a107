"""Training with two threads, which all other tests leave out. Oracle: the same once more, equal to the bit.

Batches are large enough that torch shares out the work of a layer.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.generative.generator import LITE_T5
from harness.interfaces import FitContext
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.sequence.sasrec import SASREC, SASRecConfig
from harness.sequence.training import Batches, batch_losses

NUM_ITEMS = 200


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def histories(users: int) -> Sequences:
    stream = np.random.default_rng(0)
    return Sequences.from_rows([stream.integers(1, NUM_ITEMS + 1, 12).tolist() for _ in range(users)])


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def sasrec_step(seed: int, folder: Path) -> list[Tensor]:
    """The gradients of a batch."""
    train = histories(100)
    dataset = Dataset("made-up", "0", Catalog(tuple(map(str, range(NUM_ITEMS)))), train, EvalCases(train, train.items))
    config = SASRecConfig(batch_size=2000, num_layers=1, dropout=0.2)
    network = SASREC.new(config, dataset, FitContext(seed, folder)).network
    batches = Batches(SASREC.objective(config, dataset), config.batch_size, torch.device("cpu"))
    torch.manual_seed(seed)
    (batch,) = batches(np.random.default_rng(seed))
    for piece in batch_losses(network, batches.objective.loss, batch):
        piece["total"].backward()
    return gradients(network)


def generator_step(seed: int, folder: Path) -> list[Tensor]:
    """The gradients of a batch."""
    torch.manual_seed(seed)
    model = CodeSeq2Seq(LITE_T5, (16, 16)).train()
    codes_NL = torch.randint(0, 16, (NUM_ITEMS + 1, 2), generator=torch.Generator().manual_seed(1))
    output = model(histories(64), codes_NL[1:65], codes_NL)
    output.logits_LBK.square().mean().backward()
    return gradients(model)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("work", [sasrec_step, generator_step])
def test_two_threads_give_the_same_bits_each_time(tmp_path: Path, work: Callable[[int, Path], list[Tensor]]) -> None:
    first, again, other = (work(seed, tmp_path / name) for seed, name in ((0, "first"), (0, "again"), (1, "other")))
    assert all(torch.equal(tensor, same) for tensor, same in zip(first, again, strict=True))
    assert not all(torch.equal(tensor, same) for tensor, same in zip(first, other, strict=True))
