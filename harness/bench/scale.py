"""How the cost of each part grows with interactions, items, history length and beams.

Every measurement is made in a process of its own, so that its peak memory is its own. All data are made up: speed does
not depend on what the numbers mean.

Shape legend: N items, L code levels, Z width of an item vector.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.bench.growth import Growth, growth
from harness.bench.interactions import write_interactions
from harness.bench.workload import SEED, Sizes, training_step
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.filters import PrepareConfig
from harness.data.formats.read import read_interactions
from harness.data.prepare import prepare
from harness.errors import UsageError, nearest
from harness.generative.decoding.beam import Search, recommend_by_codes
from harness.generative.decoding.trie import Trie
from harness.generative.generator import adamw, new_generator, token_loss
from harness.generative.tokenizer.codes import CodeTable, deduplicate
from harness.generative.tokenizer.fit import kmeans, start_codebooks
from harness.generative.tokenizer.rqvae import RQVAE
from harness.interfaces import FitContext
from harness.jobs.graph import Job, Observer, Send
from harness.jobs.local import run_jobs
from harness.provenance import peak_memory_mb
from harness.seeding import numpy_stream, torch_stream
from harness.sequence.model import learner_of
from harness.sequence.sasrec import SASREC, SASRecConfig
from harness.sequence.training import Batches, Softmax, batch_losses
from harness.training.learner import Learner

Axis = Literal["interactions", "items", "history length", "beams"]
Work = Callable[[], object]  # what is timed

GRIDS: Mapping[Axis, tuple[int, ...]] = {
    "interactions": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000),
    "items": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "history length": (10, 20, 50, 100, 200),
    "beams": (5, 10, 20, 50, 100),
}
LINEAR, QUADRATIC = 1.0, 2.0
TOLERANCE = 0.1  # above the allowed exponent: what sorting and caches that overflow add to a linear cost
LEAST_MEMORY = 32.0  # MiB: less is the allocator's doing, and no basis for a fit

TARGETS = 256  # of a training step with a softmax over the items
RANKED_USERS = 128
BEAM_USERS = 32
HISTORY = 20  # items of a history where its length is fixed
ROWS = 32  # histories of SASRec's training step where their length grows,
GENERATOR_ROWS = 8  # and of the generator's, which costs far more
FEW_ITEMS = 10_000  # where their number is fixed
CLUSTERED_ITEMS = 8192  # from which the codebooks start
K = 5  # length of the ranked lists


@dataclass(frozen=True)
class Scene:
    """What all measurements share."""

    folder: Path  # for files that are deleted again
    threads: int
    sizes: Sizes = field(default_factory=Sizes)
    repeats: int = 3
    points: int | None = None  # how many of the least sizes of each axis; none: all


@dataclass(frozen=True)
class Measure:
    """A part whose cost grows along an axis: `build(size, scene)` makes the data, what it returns is timed."""

    title: str
    axis: Axis
    build: Callable[[int, Scene], Work]
    limit: float = LINEAR  # the exponent that it may have
    is_preparation: bool = False  # reads a file that another process writes; done once, and cold


class Point(NamedTuple):
    """What one size costs."""

    measure: str
    size: int
    seconds: float  # the median of the repeats
    least: float
    most: float
    memory_mb: float  # what the process grew by, data included
    peak_mb: float  # of the whole process


class Fit(NamedTuple):
    """How a measure's costs grow."""

    measure: str
    time: Growth | None
    memory: Growth | None

    @property
    def is_within(self) -> bool | None:
        """Whether neither grows clearly faster than allowed; None where too few sizes were measured."""
        found = [cost for cost in (self.time, self.memory) if cost is not None]
        limit = MEASURES[self.measure].limit + TOLERANCE
        return all(cost.exponent - 2 * cost.error <= limit for cost in found) if self.time is not None else None


def preparation(size: int, scene: Scene) -> Work:
    """Reading a rating file, 5-core filtering, numbering and writing."""
    source, folder = interactions_file(size, scene), scene.folder / f"prepared-{size}"
    return lambda: prepare(read_interactions(source), PrepareConfig(core=5, repeats="drop"), folder, "scale")


def interactions_file(size: int, scene: Scene) -> Path:
    """Where the rating file of so many interactions lies."""
    return scene.folder / f"interactions-{size}.csv"


def sasrec_step(size: int, scene: Scene, softmax: Softmax = "full") -> Work:
    """One training step of SASRec with a softmax over N items."""
    users = -(-TARGETS // HISTORY)
    config = scene.sizes.sasrec.replace(softmax=softmax, legacy_pad=False, batch_size=users * HISTORY)
    return _sasrec_training(config, made_up(size, users, HISTORY + 1), scene)


def sasrec_history(size: int, scene: Scene) -> Work:
    """One training step of SASRec on rows of so many items, each with a target."""
    config = scene.sizes.sasrec.replace(batch_size=ROWS * size)
    return _sasrec_training(config, made_up(FEW_ITEMS, ROWS, size + 1, max_history=size), scene)


def _sasrec_training(config: SASRecConfig, dataset: Dataset, scene: Scene) -> Work:
    context = FitContext(SEED, scene.folder)
    network, objective = SASREC.new(config, dataset, context).network.train(), SASREC.objective(config, dataset)
    learner = learner_of(network, config)
    (pieces,) = Batches(objective, config.batch_size, context.device)(numpy_stream(SEED, "scale"))
    return lambda: training_step(learner, batch_losses(network, objective.loss, pieces))


def ranking(size: int, scene: Scene) -> Work:
    """Ranked lists of SASRec for some users from the scores of all N items."""
    dataset = made_up(size, RANKED_USERS, HISTORY)
    recommender = SASREC.new(scene.sizes.sasrec, dataset, FitContext(SEED, scene.folder))
    return lambda: recommender.recommend(dataset.train, K)


def tokenization(size: int, scene: Scene) -> Work:
    """Codes of all N items by a trained-like RQ-VAE, de-duplicated."""
    config = scene.sizes.rqvae
    vectors_NZ = torch.randn(size, scene.sizes.item_width, generator=torch_stream(SEED, "scale", "vectors"))
    rqvae = RQVAE(scene.sizes.item_width, config, generator=torch_stream(SEED, "scale", "tokenizer"))
    start_codebooks(rqvae, vectors_NZ[:CLUSTERED_ITEMS], kmeans(config.codebook_size, SEED, iterations=5))
    return lambda: deduplicate(rqvae.codes(vectors_NZ), config.codebook_size)


def trie(size: int, scene: Scene) -> Work:
    """The prefix tree of N items' codes."""
    table = made_up_codes(size, scene)
    return lambda: Trie.of(table.codes[1:], table.sizes)


def beam_items(size: int, scene: Scene) -> Work:
    """Beam search for some users over the codes of N items."""
    return _beam_search(size, scene, num_beams=20)


def beam_width(size: int, scene: Scene) -> Work:
    """Beam search for some users with so many beams."""
    return _beam_search(FEW_ITEMS, scene, num_beams=size)


def _beam_search(num_items: int, scene: Scene, num_beams: int) -> Work:
    table = made_up_codes(num_items, scene)
    tree = Trie.of(table.codes[1:], table.sizes)
    model = new_generator(scene.sizes.t5, table, FitContext(SEED, scene.folder))
    histories = made_up(num_items, BEAM_USERS, HISTORY).train
    search = Search(num_beams=num_beams, k=min(K, num_beams))
    return lambda: recommend_by_codes(model, histories, table.codes, tree, search)


def t5_history(size: int, scene: Scene) -> Work:
    """One training step of the generator on histories of so many items."""
    table = made_up_codes(FEW_ITEMS, scene)
    model = new_generator(scene.sizes.t5, table, FitContext(SEED, scene.folder)).train()
    histories = made_up(FEW_ITEMS, GENERATOR_ROWS, size).train
    target_codes_BL = table.codes[1 : GENERATOR_ROWS + 1]
    learner = Learner(adamw(model.parameters(), 1e-3, 0.0))

    def step() -> None:
        logits_LBK = model(histories, target_codes_BL, table.codes).logits_LBK
        training_step(learner, [{"total": token_loss(logits_LBK, target_codes_BL)}])

    return step


def made_up(num_items: int, users: int, length: int, max_history: int = 50) -> Dataset:
    """Users with equally long sequences of random items."""
    items = numpy_stream(SEED, "scale", "items").integers(1, num_items + 1, users * length).astype(np.int32)
    train = Sequences(items, np.arange(users + 1, dtype=np.int64) * length)
    keys = tuple(map(str, range(num_items)))
    return Dataset("made-up", "0", Catalog(keys), train, EvalCases(train.last(max_history), items[:users]), max_history)


def made_up_codes(num_items: int, scene: Scene) -> CodeTable:
    """Random codes of the RQ-VAE's sizes, de-duplicated."""
    size, levels = scene.sizes.rqvae.codebook_size, scene.sizes.rqvae.num_levels
    codes_NL: Tensor = torch.randint(size, (num_items, levels), generator=torch_stream(SEED, "scale", "codes"))
    return CodeTable.of(deduplicate(codes_NL, size), (size,) * (levels + 1))


MEASURES: Mapping[str, Measure] = {
    "prepare": Measure("preparation", "interactions", preparation, is_preparation=True),
    "softmax-full": Measure("SASRec step, full softmax", "items", sasrec_step),
    "softmax-chunked": Measure("SASRec step, chunked", "items", partial(sasrec_step, softmax="chunked")),
    "softmax-sampled": Measure("SASRec step, sampled", "items", partial(sasrec_step, softmax="sampled")),
    "ranking": Measure("full ranking", "items", ranking),
    "codes": Measure("tokenisation", "items", tokenization),
    "trie": Measure("trie", "items", trie),
    "beam-items": Measure("beam search", "items", beam_items),
    "history-sasrec": Measure("SASRec step", "history length", sasrec_history, QUADRATIC),
    "history-t5": Measure("generator step", "history length", t5_history, QUADRATIC),
    "beam-width": Measure("beam search", "beams", beam_width),
}


def chosen(only: Collection[str]) -> list[str]:
    """The measures whose names begin with one of `only`; all where it is empty. `UsageError` for a name of none."""
    for name in only:
        if not any(known.startswith(name) for known in MEASURES):
            raise UsageError(f"unknown measurement '{name}'; {nearest(name, MEASURES)}")
    return [known for known in MEASURES if not only or known.startswith(tuple(only))]


def grid(axis: Axis, most: int | None) -> tuple[int, ...]:
    """The axis' sizes up to `most`; where these are too few for a fit, `most` and its third and ninth parts."""
    sizes = tuple(size for size in GRIDS[axis] if most is None or size <= most)
    if most is None or len(sizes) >= 3:
        return sizes
    return tuple(max(1, most // part) for part in (9, 3, 1))


def measure_growth(
    names: Sequence[str], scene: Scene, most: int | None, report: Callable[[str], None]
) -> tuple[list[Point], list[str]]:
    """The points that were measured, and a line for each that failed; `report` is told what is measured next."""
    jobs: dict[str, Job] = {}
    for name in names:
        for size in grid(MEASURES[name].axis, most)[: scene.points]:
            needs = (f"data-{size}",) if MEASURES[name].is_preparation else ()
            jobs |= {need: Job(need, partial(_write, size, scene)) for need in needs}
            jobs[f"{name}-{size}"] = Job(f"{name}-{size}", partial(_point, name, size, scene), needs)
    outcomes = run_jobs(
        jobs,
        processes=1,
        threads=scene.threads,
        logs=scene.folder,
        observer=Observer(report),
    )
    failed = [f"{key}: {outcome.error}" for key, outcome in outcomes.items() if outcome.status == "failed"]
    points = [outcomes[key].value for key in jobs if isinstance(outcomes[key].value, Point)]
    return points, failed


def _write(size: int, scene: Scene, send: Send) -> None:
    """The body of the process that makes the rating file."""
    write_interactions(interactions_file(size, scene), size)


def _point(name: str, size: int, scene: Scene, send: Send) -> Point:
    """The body of a measuring process."""
    measure, before = MEASURES[name], peak_memory_mb()
    work = measure.build(size, scene)
    if not measure.is_preparation:
        work()  # warms up
    seconds = []
    for _ in range(1 if measure.is_preparation else scene.repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    if measure.is_preparation:
        interactions_file(size, scene).unlink()
    peak = peak_memory_mb()
    return Point(name, size, statistics.median(seconds), min(seconds), max(seconds), peak - before, peak)


def fits(points: Sequence[Point]) -> list[Fit]:
    """The growth of time and memory of each measure, in the order of the points."""
    names = dict.fromkeys(point.measure for point in points)
    return [_fit(name, [point for point in points if point.measure == name]) for name in names]


def _fit(name: str, points: Sequence[Point]) -> Fit:
    large = [point for point in points if point.memory_mb >= LEAST_MEMORY]
    return Fit(
        name,
        growth([point.size for point in points], [point.seconds for point in points]),
        growth([point.size for point in large], [point.memory_mb for point in large]),
    )
