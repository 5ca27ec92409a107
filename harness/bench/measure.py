"""All measurements in one run, ours and the peers' in turns, so that all meet the same machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from harness.bench.peer import Peer, started_peer
from harness.bench.rates import etegrec_rate, evaluation_rate, pretraining_rate, sasrec_rate
from harness.bench.recbole_peer import RecBole, history_arrays, sample_arrays, started_recbole
from harness.bench.workload import Rate, Setup, Workload, peak_memory
from harness.jobs.local import use_threads
from harness.sequence.sasrec import SASREC

OURS_PER_ROUND = 2  # training steps of ours for each one of the slow peers
SHORT_STEPS = 30  # timed steps of what has no peer and is fast, at least,
SHORT_STEPS_PER_ROUND = 10  # and of what has a slow peer and is fast
PUBLISHED_RANKING = 1030  # users/s of RecBole's full ranking on two cores: the basis of an aim

Report = Callable[[str], None]


class Spread(NamedTuple):
    """Repeated measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of the given values, at least one."""
        return cls(statistics.median(values), min(values), max(values))


class Rival(NamedTuple):
    """A peer's numbers, or why there are none."""

    name: str
    spread: Spread | None
    missing: str = ""


class Row(NamedTuple):
    """A measured number beside the peers' and what was aimed at. Of memory less is better, of all else more."""

    what: str
    unit: str
    ours: Spread
    rivals: tuple[Rival, ...] = ()
    aim: float | None = None
    aim_ratio: float | None = None  # to the first rival

    @property
    def lower_is_better(self) -> bool:
        """Whether a small number is a good one."""
        return self.unit == "MiB"

    def ratio(self, rival: Rival) -> float | None:
        """How many times better our median is."""
        if rival.spread is None:
            return None
        ours, theirs = self.ours.median, rival.spread.median
        return theirs / ours if self.lower_is_better else ours / theirs

    @property
    def reached(self) -> bool | None:
        """Whether all aims are met, as far as they were measured; None where none was."""
        checks = []
        if self.aim is not None:
            checks.append(self.ours.median <= self.aim if self.lower_is_better else self.ours.median >= self.aim)
        ratio = self.ratio(self.rivals[0]) if self.rivals else None
        if self.aim_ratio is not None and ratio is not None:
            checks.append(ratio >= self.aim_ratio)
        return all(checks) if checks else None


class Contest(NamedTuple):
    """A task of a peer under the name that it has in the table; none runs where the peer is missing."""

    name: str
    rate: Rate | None
    missing: str

    def rival(self, values: Sequence[float]) -> Rival:
        """What came of it."""
        return Rival(self.name, Spread.of(values)) if values else Rival(self.name, None, self.missing)


def measure(setup: Setup, report: Report) -> list[Row]:
    """All rows; `report` is told what is measured next. `StageError` where a peer's process ends early."""
    use_threads(setup.threads)
    workload = Workload(setup)
    with started_peer(setup) as peer, started_recbole(setup, workload) as recbole:
        # Small steps come before ETEGRec's large ones, whose memory would make them a tenth slower: a run gives each
        # stage a process of its own.
        small = list(_other_rows(workload, recbole, report))
        rows = [*_etegrec_rows(workload, peer, report), *small, _memory_row(setup, peer, recbole)]
    return rows if setup.has_aims else [row._replace(aim=None, aim_ratio=None) for row in rows]


def _transformers(peer: Peer | None, name: str, task: str, stride: int = 1) -> Contest:
    """A task of transformers' T5 on the batch or the users that ours had in the same round."""
    rate = None if peer is None else lambda step: peer(task, step * stride)
    return Contest(name, rate, "transformers is not installed")


def _recbole(recbole: RecBole | None, rate: Callable[[RecBole, int], float]) -> Contest:
    return Contest("RecBole", None if recbole is None else partial(rate, recbole), "RecBole is not installed")


def _etegrec_rows(workload: Workload, peer: Peer | None, report: Report) -> Iterator[Row]:
    training = workload.etegrec()
    repeats = workload.setup.repeats
    report("ETEGRec recommender training")
    contests = [
        _transformers(peer, "T5, random batches", "random training", OURS_PER_ROUND),
        _transformers(peer, "T5, batches by length", "bucketed training", OURS_PER_ROUND),
    ]
    ours, rivals = _in_turns(etegrec_rate(training, "recommender", workload), contests, repeats)
    yield Row("ETEGRec recommender training", "samples/s", ours, rivals, aim=200, aim_ratio=2)
    report("tokenizer epoch step")
    ours = _measured(etegrec_rate(training, "tokenizer", workload), OURS_PER_ROUND * repeats)
    yield Row("tokenizer epoch step", "samples/s", ours, aim=500)
    report("beam-20 evaluation")
    contests = [
        _transformers(peer, "generate, random batches", "random evaluation"),
        _transformers(peer, "generate, users by length", "sorted evaluation"),
    ]
    rate = evaluation_rate(training.recommender(), workload)
    ours, rivals = _in_turns(rate, contests, repeats, ours_per_round=1)
    yield Row("beam-20 evaluation", "users/s", ours, rivals, aim=200, aim_ratio=4)


def _other_rows(workload: Workload, recbole: RecBole | None, report: Report) -> Iterator[Row]:
    repeats, dataset, config = workload.setup.repeats, workload.dataset, workload.sizes.sasrec
    report("RQ-VAE pre-training")
    ours = _measured(pretraining_rate(workload), max(SHORT_STEPS, repeats))
    yield Row("RQ-VAE pre-training", "samples/s", ours, aim=40_000)
    recommender = SASREC.new(config, dataset, workload.context)

    def train(peer: RecBole, step: int) -> float:
        return peer("training", sample_arrays(workload, step, config.batch_size))

    def rank(peer: RecBole, part: int) -> float:
        return peer("ranking", history_arrays(workload.users(part), dataset.max_history))

    report("SASRec training")
    rate, contests = sasrec_rate(recommender, workload), [_recbole(recbole, train)]
    ours, rivals = _in_turns(rate, contests, repeats, ours_per_round=SHORT_STEPS_PER_ROUND)
    yield Row("SASRec training", "samples/s", ours, rivals, aim_ratio=20)
    report("SASRec full ranking")
    rate = evaluation_rate(recommender, workload)
    ours, rivals = _in_turns(rate, [_recbole(recbole, rank)], repeats, ours_per_round=1)
    yield Row("SASRec full ranking", "users/s", ours, rivals, aim=5 * PUBLISHED_RANKING)


def _memory_row(setup: Setup, peer: Peer | None, recbole: RecBole | None) -> Row:
    """The peaks of the whole processes, which are measured once."""
    contests = [
        _transformers(peer, "transformers", "memory"),
        _recbole(recbole, lambda process, step: process("memory")),
    ]
    rivals = tuple(contest.rival([contest.rate(0)] if contest.rate else []) for contest in contests)
    return Row("peak memory", "MiB", Spread.of([peak_memory(setup)]), rivals, aim=1.5 * 1024)


def _measured(rate: Rate, steps: int) -> Spread:
    """The steps' spread, after one that warms up."""
    rate(0)
    return Spread.of([rate(step) for step in range(steps)])


def _in_turns(
    rate: Rate, contests: Sequence[Contest], repeats: int, ours_per_round: int = OURS_PER_ROUND
) -> tuple[Spread, tuple[Rival, ...]]:
    """The spreads of ours and of the peers, which take turns."""
    rate(0)
    ours: list[float] = []
    theirs: dict[str, list[float]] = {contest.name: [] for contest in contests}
    for step in range(repeats):
        ours += [rate(step * ours_per_round + more) for more in range(ours_per_round)]
        for contest in contests:
            if contest.rate:
                theirs[contest.name].append(contest.rate(step))
    return Spread.of(ours), tuple(contest.rival(theirs[contest.name]) for contest in contests)
