"""The peer: transformers' T5 with our weights, on our batches, in a process of its own.

So the peak memory of the measuring process is ours alone. The peer gets the same threads and allocator settings.

Shape legend: B samples or users, N items, S history items, L code levels.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor

from etegrec.config import ETEGRecConfig
from harness.bench.workload import K, Rate, Setup, Workload, peak_memory, timed
from harness.data.dataset import Sequences
from harness.errors import StageError
from harness.generative.generator import Batch, adamw, new_generator
from harness.jobs.local import use_threads
from harness.nn.code_seq2seq import length_groups
from harness.sequence.sasrec import vectors_config
from harness.training.learner import Learner
from harness.training.loop import Losses

PIECE_TOKENS = 6144  # padded tokens of a piece of like lengths: about where its throughput is best
GENERATED_USERS = 16  # users of one call of `generate`

Peer = Callable[[str, int], float]  # task and step → what the peer's process measured


@contextmanager
def started_peer(setup: Setup) -> Iterator[Peer | None]:
    """The peer in its own process while the block lasts; None if the setup wants none."""
    if not setup.with_peer:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, setup), daemon=True)
    process.start()
    theirs.close()
    try:
        _received(ours, process)
        yield partial(_asked, ours, process)
    finally:
        process.kill()
        process.join()


def _asked(connection: Connection, process: BaseProcess, task: str, step: int) -> float:
    with suppress(BrokenPipeError):  # that the process is gone is told by the next line
        connection.send((task, step))
    return _received(connection, process)


def _received(connection: Connection, process: BaseProcess) -> float:
    try:
        status, content = connection.recv()
    except (EOFError, ConnectionError):
        process.join()
        status, content = "failed", f"exit code {process.exitcode}"
    if status == "failed":
        raise StageError(
            f"the peer's process must measure transformers' T5, but it ended ({content}); if memory is short, split "
            "its batch with --peer-batch 64"
        )
    return content


def _serve(connection: Connection, setup: Setup) -> None:
    """The body of the peer's process: answers until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    use_threads(setup.threads)
    try:
        twin = Twin(Workload(setup))
        tasks: dict[str, Rate] = {
            "random training": twin.random_training_rate,
            "bucketed training": twin.bucketed_training_rate,
            "random evaluation": twin.random_evaluation_rate,
            "sorted evaluation": twin.sorted_evaluation_rate,
            "memory": lambda step: peak_memory(setup),
        }
        connection.send(("done", 0.0))
        while True:
            task, step = connection.recv()
            connection.send(("done", tasks[task](step)))
    except EOFError:
        return
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"))


class Twin:
    """transformers' T5 with our weights, on our batches, padded to their longest member."""

    def __init__(self, workload: Workload):
        import transformers

        from harness.nn.transformers_twin import transformers_twin

        transformers.logging.set_verbosity_error()
        self.workload = workload
        generator = new_generator(workload.sizes.t5, workload.codes, workload.context)
        self.bos = generator.bos
        self.device = workload.context.device
        self.tokens_NL = (workload.codes.codes + torch.tensor(generator.offsets)).to(self.device)
        self.model: Any = transformers_twin(generator).to(self.device)
        config = ETEGRecConfig(vectors=vectors_config(workload.sizes.item_width))
        optimizer = adamw(self.model.parameters(), config.learning_rate_recommender, config.weight_decay)
        self.learner = Learner(optimizer, max_norm=config.max_norm)
        self._train([workload.batch(0).rows(range(8))])  # warms up at little cost
        self._generate([workload.users(0).take(np.arange(2))])

    def random_training_rate(self, step: int) -> float:
        """Samples per second of one step by cross-entropy alone, in the order of the random batch."""
        batch = self.workload.batch(step)
        total = len(batch.targets)
        size = self.workload.setup.peer_batch or total
        pieces = [batch.rows(range(start, min(start + size, total))) for start in range(0, total, size)]
        return timed(lambda: self._train(pieces), total)

    def bucketed_training_rate(self, step: int) -> float:
        """The same for the same samples, in pieces of like length."""
        batch = self.workload.batch(step)
        lengths = batch.histories.lengths * self.workload.codes.num_levels
        groups = length_groups(lengths, PIECE_TOKENS)
        pieces = [Batch(batch.histories.take(rows), batch.targets[rows]) for rows in groups]
        return timed(lambda: self._train(pieces), len(batch.targets))

    def random_evaluation_rate(self, part: int) -> float:
        """Users per second of `generate` for some of the round's users, in random batches."""
        return self._evaluation_rate(self._users(part, self.workload.sizes.peer_users))

    def sorted_evaluation_rate(self, part: int) -> float:
        """Users per second of `generate` for more of the round's users, sorted by the length of their history."""
        users = self._users(part, self.workload.sizes.peer_sorted_users)
        return self._evaluation_rate(users.take(np.argsort(users.lengths, kind="stable")))

    def _users(self, part: int, count: int) -> Sequences:
        users = self.workload.users(part)
        return users.take(np.arange(min(count, len(users))))

    def _evaluation_rate(self, users: Sequences) -> float:
        parts = np.split(np.arange(len(users)), range(GENERATED_USERS, len(users), GENERATED_USERS))
        batches = [users.take(rows) for rows in parts]
        return timed(lambda: self._generate(batches), len(users))

    def _train(self, pieces: list[Batch]) -> None:
        self.model.train()
        self.workload.step(self.learner, self._losses(pieces))

    def _losses(self, pieces: list[Batch]) -> Iterator[Losses]:
        total = sum(len(piece.targets) for piece in pieces)
        for piece in pieces:
            labels_BL = self.tokens_NL[torch.from_numpy(piece.targets).to(self.device)]
            output = self.model(**self._inputs(piece.histories), labels=labels_BL)
            yield {"total": output.loss * (len(labels_BL) / total)}

    @torch.inference_mode()
    def _generate(self, batches: list[Sequences]) -> None:
        num_beams, num_levels = self.workload.context.contract.num_beams, self.workload.codes.num_levels
        self.model.eval()
        for histories in batches:
            self.model.generate(
                **self._inputs(histories),
                num_beams=num_beams,
                num_return_sequences=K,
                max_new_tokens=num_levels,
                do_sample=False,
                use_cache=True,
            )

    def _inputs(self, histories: Sequences) -> dict[str, Tensor]:
        items_BS = torch.from_numpy(histories.padded()).to(self.device)
        is_padding_BS = items_BS == 0
        tokens_BSL = self.tokens_NL[items_BS].masked_fill(is_padding_BS[..., None], self.bos)
        mask_BS = (~is_padding_BS).long().repeat_interleave(self.workload.codes.num_levels, dim=1)
        return {"input_ids": tokens_BSL.flatten(1), "attention_mask": mask_BS}
