"""All measurements in one run, ours and the peer in turns, so that both meet the same machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

from harness.bench.peer import Peer, started_peer
from harness.bench.rates import evaluation_rate, pretraining_rate, recommender_rate, sasrec_rate, tokenizer_rate
from harness.bench.workload import Rate, Setup, Workload
from harness.provenance import peak_memory_mb
from harness.sequential import SASRecRecommender, build_network
from harness.workers import use_threads

OURS_PER_ROUND = 2  # training steps of ours for each one of the slow peer
SHORT_STEPS = 10  # timed steps of what has no peer and is fast

Report = Callable[[str], None]


class Row(NamedTuple):
    """A measured number beside the peer's and what was aimed at. Of memory less is better, of all else more."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    aim: float | None = None
    aim_ratio: float | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether a small number is a good one."""
        return self.unit == "MiB"

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.peer is None:
            return None
        return self.peer / self.ours if self.lower_is_better else self.ours / self.peer

    @property
    def reached(self) -> bool | None:
        """Whether all aims are met, as far as they were measured; None where there is none."""
        if self.aim is None:
            return None
        is_enough = self.ours < self.aim if self.lower_is_better else self.ours >= self.aim
        return is_enough and (self.aim_ratio is None or self.ratio is None or self.ratio >= self.aim_ratio)


def measure(setup: Setup, report: Report) -> list[Row]:
    """All rows; `report` is told what is measured next. `StageError` where the peer's process ends early."""
    use_threads(setup.threads)
    workload = Workload(setup)
    with started_peer(setup) as peer:
        rows = [
            *_etegrec_rows(workload, peer, report),
            *_other_rows(workload, report),
            Row("peak memory", "MiB", peak_memory_mb(), peer and peer("memory", 0), aim=3 * 1024),
        ]
    return rows if setup.has_aims else [row._replace(aim=None, aim_ratio=None) for row in rows]


def _etegrec_rows(workload: Workload, peer: Peer | None, report: Report) -> Iterator[Row]:
    training = workload.etegrec()
    report("ETEGRec recommender training")
    ours, theirs = _in_turns(recommender_rate(training, workload), peer, "training", workload.sizes.rounds)
    yield Row("ETEGRec recommender training", "samples/s", ours, theirs, aim=120, aim_ratio=2)
    report("tokenizer epoch step")
    rate = tokenizer_rate(training, workload)
    yield Row("tokenizer epoch step", "samples/s", _median(rate, OURS_PER_ROUND * workload.sizes.rounds))
    report("beam-20 evaluation")
    rate = evaluation_rate(training.recommender(), workload)
    ours, theirs = _in_turns(rate, peer, "evaluation", workload.sizes.rounds, ours_per_round=1)
    yield Row("beam-20 evaluation", "users/s", ours, theirs, aim=60, aim_ratio=4)


def _other_rows(workload: Workload, report: Report) -> Iterator[Row]:
    report("RQ-VAE pre-training")
    yield Row("RQ-VAE pre-training", "samples/s", _median(pretraining_rate(workload), SHORT_STEPS))
    report("SASRec")
    recommender = SASRecRecommender(
        build_network(workload.sizes.sasrec, workload.dataset, workload.context), workload.dataset.catalog
    )
    yield Row("SASRec training", "targets/s", _median(sasrec_rate(recommender, workload), SHORT_STEPS))
    yield Row("SASRec full ranking", "users/s", _median(evaluation_rate(recommender, workload), workload.sizes.rounds))


def _median(rate: Rate, steps: int) -> float:
    """Median over the steps, after one that warms up."""
    rate(0)
    return statistics.median(rate(step) for step in range(steps))


def _in_turns(
    rate: Rate, peer: Peer | None, task: str, rounds: int, ours_per_round: int = OURS_PER_ROUND
) -> tuple[float, float | None]:
    """Medians of ours and of the peer, which take turns; ours alone without a peer."""
    rate(0)
    ours, theirs = [], []
    for step in range(rounds):
        ours += [rate(step * ours_per_round + more) for more in range(ours_per_round)]
        if peer:
            theirs.append(peer(task, step * ours_per_round))
    return statistics.median(ours), statistics.median(theirs) if theirs else None
