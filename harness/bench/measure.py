"""All measurements in one run, ours and the peers' in turns, so that all meet the same machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from harness.bench.model_rows import model_rows
from harness.bench.peer import Peer, started_peer
from harness.bench.rates import etegrec_rate, evaluation_rate, pretraining_rate, sasrec_rate
from harness.bench.recbole_peer import RecBole, history_arrays, sample_arrays, started_recbole
from harness.bench.rows import OURS_PER_ROUND, Contest, Report, Row, Spread, in_turns, measured
from harness.bench.workload import CORE, Setup, Workload, peak_memory
from harness.jobs.local import use_threads
from harness.sequence.sasrec import SASREC

SHORT_STEPS = 30  # timed steps of what has no peer and is fast, at least,
SHORT_STEPS_PER_ROUND = 10  # and of what has a slow peer and is fast
PUBLISHED_RANKING = 1030  # users/s of RecBole's full ranking on two cores: the basis of an aim


def measure(setup: Setup, report: Report) -> list[Row]:
    """All rows; `report` is told what is measured next. `StageError` where a peer's process ends early."""
    use_threads(setup.threads)
    workload = Workload(setup)
    rows = _core_rows(workload, report) if CORE in setup.rows else []
    rows += model_rows(workload, report)
    return rows if setup.has_aims else [row._replace(aim=None, aim_ratio=None) for row in rows]


def _core_rows(workload: Workload, report: Report) -> list[Row]:
    setup = workload.setup
    with started_peer(setup) as peer, started_recbole(setup, workload) as recbole:
        # Small steps come before ETEGRec's large ones, whose memory would make them a tenth slower: a run gives each
        # stage a process of its own.
        small = list(_other_rows(workload, recbole, report))
        return [*_etegrec_rows(workload, peer, report), *small, _memory_row(setup, peer, recbole)]


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
    ours, rivals = in_turns(etegrec_rate(training, "recommender", workload), contests, repeats)
    yield Row("ETEGRec recommender training", "samples/s", ours, rivals, aim=200, aim_ratio=2)
    report("tokenizer epoch step")
    ours = measured(etegrec_rate(training, "tokenizer", workload), OURS_PER_ROUND * repeats)
    yield Row("tokenizer epoch step", "samples/s", ours, aim=500)
    report("beam-20 evaluation")
    contests = [
        _transformers(peer, "generate, random batches", "random evaluation"),
        _transformers(peer, "generate, users by length", "sorted evaluation"),
    ]
    rate = evaluation_rate(training.recommender(), workload)
    ours, rivals = in_turns(rate, contests, repeats, ours_per_round=1)
    yield Row("beam-20 evaluation", "users/s", ours, rivals, aim=200, aim_ratio=4)


def _other_rows(workload: Workload, recbole: RecBole | None, report: Report) -> Iterator[Row]:
    repeats, dataset, config = workload.setup.repeats, workload.dataset, workload.sizes.sasrec
    report("RQ-VAE pre-training")
    ours = measured(pretraining_rate(workload), max(SHORT_STEPS, repeats))
    yield Row("RQ-VAE pre-training", "samples/s", ours, aim=40_000)
    recommender = SASREC.new(config, dataset, workload.context)

    def train(peer: RecBole, step: int) -> float:
        return peer("training", sample_arrays(workload, step, config.batch_size))

    def rank(peer: RecBole, part: int) -> float:
        return peer("ranking", history_arrays(workload.users(part), dataset.max_history))

    report("SASRec training")
    rate, contests = sasrec_rate(recommender, workload), [_recbole(recbole, train)]
    ours, rivals = in_turns(rate, contests, repeats, ours_per_round=SHORT_STEPS_PER_ROUND)
    yield Row("SASRec training", "samples/s", ours, rivals, aim_ratio=20)
    report("SASRec full ranking")
    rate = evaluation_rate(recommender, workload)
    ours, rivals = in_turns(rate, [_recbole(recbole, rank)], repeats, ours_per_round=1)
    yield Row("SASRec full ranking", "users/s", ours, rivals, aim=5 * PUBLISHED_RANKING)


def _memory_row(setup: Setup, peer: Peer | None, recbole: RecBole | None) -> Row:
    """The peaks of the whole processes, which are measured once."""
    contests = [
        _transformers(peer, "transformers", "memory"),
        _recbole(recbole, lambda process, step: process("memory")),
    ]
    rivals = tuple(contest.rival([contest.rate(0)] if contest.rate else []) for contest in contests)
    return Row("peak memory", "MiB", Spread.of([peak_memory(setup)]), rivals, aim=1.5 * 1024)
