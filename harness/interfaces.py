"""What a method is, and what it gets: the one interface between the methods and the rest of the harness.

Shape legend: B users, k places of a ranked list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import Field, model_validator

from harness.config import Config
from harness.data.dataset import Dataset, Sequences
from harness.distributed import ALONE, Group
from results.store.contract import ALWAYS, DEFAULTS, contradictions


class Contract(Config):
    """How every method is judged (METHODS A.8); its digest stands in each result row, and tables refuse to mix two.

    The test split is read once, at the end. How the data are split is named by their fingerprint. A dump, and so the
    digest, leaves out what `results.store.contract.compact` leaves out: later rules at their defaults.
    """

    added_later: ClassVar[frozenset[str]] = frozenset(DEFAULTS) - frozenset(ALWAYS)

    top_k: int = Field(default=10, ge=1, description="length of the ranked lists")
    num_beams: int = Field(default=20, ge=1, description="beam width of generative methods")
    decoding: Literal["trie", "free", "released", "exact"] = Field(
        "trie",
        description="how generative methods search: beams over existing items, beams over any codes, as each method's "
        "authors released it, or the true best of all items",
    )
    candidates: Literal["all", "uniform99", "popular99"] = Field(
        "all", description="what the target is ranked among: all items, or 99 drawn from outside the history"
    )
    history: Literal["kept", "removed"] = Field("kept", description="whether items of the history take ranks")
    hit_unit: Literal["item", "codes"] = Field("item", description="codes: any item with the target's codes is a hit")
    ties: Literal["item id", "first", "last"] = Field(
        "item id", description="the target's place among items with its codes: by id, or always the first or the last"
    )
    cold_targets: Literal["kept", "dropped"] = Field(
        "kept", description="whether users count whose target no training sequence has"
    )
    selection: Literal["validation NDCG@10"] = Field(
        "validation NDCG@10", description="what chooses a model, by beams over existing items where decoding is exact"
    )

    @model_validator(mode="after")
    def _beams_fill_the_list(self) -> Contract:
        if self.num_beams < self.top_k:
            raise ValueError(
                f"num_beams >= top_k must hold, but got num_beams={self.num_beams}, top_k={self.top_k}; "
                "raise num_beams (--beams)"
            )
        return self

    @model_validator(mode="after")
    def _outcomes_can_be_read_so(self) -> Contract:
        if reason := contradictions(dict(self)):
            raise ValueError(reason)
        return self

    def of_fits(self) -> Contract:
        """The part that decides how a model is trained and selected: how its lists are read is not in it."""
        decoding = "trie" if self.decoding == "exact" else self.decoding
        return Contract(top_k=self.top_k, num_beams=self.num_beams, decoding=decoding)


class Recommendations(NamedTuple):
    """Ranked lists, best first."""

    items: np.ndarray  # (B, k) int64; 0 where a generated sequence decodes to no item
    scores: np.ndarray  # (B, k) float32


class Recommender(Protocol):
    """A fitted method."""

    def recommend(self, histories: Sequences, k: int) -> Recommendations:
        """The k best items for each history (its last `max_history` items, oldest first); k is at most N."""
        ...

    def save(self, folder: Path) -> None:
        """Writes everything that `Method.load` needs, as safetensors and JSON."""
        ...

    def health(self) -> dict[str, Any]:
        """What to record beside the scores, as plain JSON: parameters, code usage, collisions."""
        ...


@runtime_checkable
class SharesCodes(Protocol):
    """A recommender whose items have codes that several of them may share; of one without codes, nothing is asked."""

    def item_sharers(self) -> np.ndarray:
        """(N,) int: how many items, itself included, have item i + 1's codes, the de-duplication level left aside."""
        ...


@runtime_checkable
class GeneratesCodes(Protocol):
    """A recommender that finds items by a search for their codes, and may find fewer than a list has places."""

    def found(self, histories: Sequences, places: int) -> Recommendations:
        """The best `places` items that the search found; item 0 at -inf where it found no more."""
        ...

    def item_tuples(self) -> np.ndarray:
        """(N,) int64 a number for item i + 1's codes as generated, below N; equal exactly where the codes are."""
        ...


class Progress(NamedTuple):
    """Where a fit stands; sent after each epoch."""

    stage: str
    epoch: int  # epochs done
    epochs: int  # epochs at most
    loss: float
    score: float | None  # validation score of this epoch (a recommender's: NDCG@10); None: not scored
    best: float | None = None  # the stage's best score so far, whose weights will be kept
    peak_memory_mb: float = 0.0  # the most that the fit's process has held so far


Precision = Literal["fp32", "bf16"]  # of the forward passes


@dataclass(frozen=True)
class FitContext:
    """What a fit gets besides its config and its data."""

    seed: int
    folder: Path  # where the result goes; `resume/` in it holds the checkpoints of an interrupted fit
    contract: Contract = field(default_factory=Contract)
    is_constrained: bool = True  # generate existing items only: what the contract's `decoding` says of this method
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    group: Group = ALONE  # the processes that do this fit together; the main one alone writes into `folder`
    report: Callable[[Progress], None] = lambda progress: None
    # Given the stage, the epoch and the recommender as it is, after each epoch that is validated and after the last.
    keep: Callable[[str, int, Recommender], None] | None = None


class Counts(NamedTuple):
    """What a whole training asks of a device."""

    kernels: float  # launches
    operations: float  # multiplications and additions of matrix products, backward included


def not_counted(config: Any, dataset: Dataset) -> Counts | None:
    """Of what does not say what it asks: its effort stands in."""
    return None


@dataclass(frozen=True)
class ArtifactKind:
    """What methods share, or a method's own fit: how it is made, and what its result depends on.

    `build(config, dataset, inputs, context)` writes into `context.folder`. It must be importable by name, since stages
    travel to worker processes.
    """

    name: str  # of the folder in the cache
    build: Callable[[Any, Dataset, Artifacts, FitContext], None]
    # About how long it takes, what it is made from apart, in epochs of a generator; what may take longest goes first.
    effort: Callable[[Any], float] = lambda config: 1.0
    counts: Callable[[Any, Dataset], Counts | None] = not_counted  # of all epochs of `build`, evaluations apart
    is_seeded: bool = True  # False: made without a random number that matters, so one serves all seeds
    is_distributed: bool = False  # `build` shares its work among the processes of `context.group`
    follows_contract: bool = False  # the contract decides the result, through the selection by validation NDCG@10
    reads_times: bool = False  # the times of interactions decide the result, not only their order
    version: int = 1  # raised when the code of `build` changes its result
    # Why these data do not allow it, with a remedy, in one line; None: they do. What is wrong on any data, or with a
    # file that the user names, is raised.
    obstacle: Callable[[Any, Dataset], str | None] = lambda config, dataset: None


class Need(NamedTuple):
    """An artifact that a method asks for: its kind, its config, and the needs that it is made from."""

    kind: ArtifactKind | str  # a name: the method of that name, fitted
    config: Config
    inputs: Mapping[str, Need] = {}


Artifacts = Mapping[str, Path]  # the need's name → the folder of the finished stage
Family = Literal["no training", "item-scoring", "generative"]
Input = Literal["text", "features", "timestamps"]  # what a data set may carry beside the interactions' order


@dataclass(frozen=True)
class Method:
    """A method of the benchmark: a name, a typed config, and how to fit and load it."""

    name: str
    title: str  # as the paper's tables print it
    config: type[Config]
    fit: Callable[[Any, Dataset, Artifacts, FitContext], Recommender]
    load: Callable[[Path, Any, Dataset, FitContext], Recommender]
    family: Family = "item-scoring"
    groups: tuple[str, ...] = ()  # names under which `--methods` takes it: core, paper, generative, strong, or new ones
    inputs: tuple[Input, ...] = ()  # what it asks of a data set,
    inputs_of: Callable[[Any], tuple[Input, ...]] | None = None  # and where the config decides; None: it does not
    place: int = 1000  # in the tables: rows go up by it, and by title where it is equal
    is_proposed: bool = False  # the method that a paper proposes: tables compare it with the best of the others
    needs: Callable[[Any], dict[str, Need]] = lambda config: {}
    presets: Mapping[str, Config] = field(default_factory=dict)  # "paper", "lite"
    tiny: Mapping[str, Any] = field(default_factory=dict)  # a TOML table that makes "lite" fit in seconds, for tests
    recipes: Mapping[str, Callable[[Any], Config]] = field(default_factory=dict)  # by `--recipe`
    ablations: Mapping[str, Ablation] = field(default_factory=dict)  # by name, in the order of their table
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # dotted field → values that a sweep tries
    curves: Mapping[str, Curve] = field(default_factory=dict)  # dotted field → its curve in the method's paper
    for_dataset: Callable[[Any, str], Config] = lambda config, dataset: config  # published per-data-set values
    released_decoding: Literal["trie", "free"] = "free"  # how the authors' own code generates (METHODS C.6)
    assumptions: Callable[[Any], list[str]] = lambda config: []
    effort: Callable[[Any], float] = lambda config: math.inf  # of `fit`, as `ArtifactKind.effort`
    counts: Callable[[Any, Dataset], Counts | None] = not_counted  # of `fit`, as `ArtifactKind.counts`
    is_distributed: bool = False  # as in `ArtifactKind`, and its recommender shares an evaluation
    follows_contract: bool = True  # as in `ArtifactKind`
    reads_times: bool = False  # as in `ArtifactKind`
    version: int = 1  # as in `ArtifactKind`
    obstacle: Callable[[Any, Dataset], str | None] = lambda config, dataset: None  # as in `ArtifactKind`


class Ablation(NamedTuple):
    """A variant of a method: a typed config difference under a name (METHODS D.1)."""

    name: str  # as given on the command line: `sia`
    variant: str  # as the runs folder names it: `wo-sia`
    title: str  # as the paper's Table 4 prints it: `w/o SIA`
    change: Callable[[Any], Config]
    companions: tuple[str, ...] = ()  # ablations that are run with it, since the paper leaves open which one it means


class Curve(NamedTuple):
    """A figure of a method's paper: the score against the values of one field, the others as they are best."""

    values: tuple[Any, ...]
    symbol: str  # of the field, as matplotlib prints it on the axis
    fixed: Mapping[str, Any] = {}  # dotted field → value where it is not the default
