"""The registry: method names, stage kinds, and the cells and stages that an experiment is made of.

Third parties add methods through the entry-point group `harness.methods`: an entry point loads to a `Method`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import baselines.letter
import baselines.markov
import baselines.popularity
import baselines.sasrec
import baselines.tiger
import etegrec.method
from harness.artifacts import build_text_vectors, build_tokenizer
from harness.data.dataset import Dataset
from harness.errors import UsageError, nearest
from harness.interfaces import Artifacts, FitContext, Method, Need
from harness.sequence.sasrec import build_sasrec_vectors, sasrec_effort
from harness.stages import Stage

ENTRY_POINTS = "harness.methods"

# Artifacts that methods share; what `build` writes is described where it is defined.
BUILDERS: dict[str, Callable[..., None]] = {
    "sasrec-vectors": build_sasrec_vectors,
    "text-vectors": build_text_vectors,
    "tokenizer": build_tokenizer,
    "letter-tokenizer": baselines.letter.build_letter_tokenizer,
}

# Made without drawing a random number that matters, so one serves all seeds.
SEEDLESS = {"text-vectors"}

# Shared among the processes of a run that has several; the main process makes the others alone.
DISTRIBUTED = {"sasrec-vectors"}

# Raised when the code of a builder changes its result; 1 where nothing is said.
VERSIONS = {"sasrec-vectors": 2, "tokenizer": 2, "letter-tokenizer": 3}

# About how long each of them takes, in epochs of a generator (`Method.effort`).
EFFORTS: dict[str, Callable[[Any], float]] = {
    "sasrec-vectors": sasrec_effort,
    "text-vectors": lambda config: 1.0,
    "tokenizer": lambda config: config.epochs / 150,
    "letter-tokenizer": lambda config: config.epochs / 12,
}

# In the order of the tables' rows.
BUILT_IN = (
    baselines.popularity.METHOD,
    baselines.markov.METHOD,
    baselines.sasrec.METHOD,
    baselines.tiger.TIGER,
    baselines.tiger.TIGER_SAS,
    baselines.letter.METHOD,
    etegrec.method.METHOD,
)


@functools.cache
def methods() -> dict[str, Method]:
    """All methods by name: the built-in ones, then those of installed packages."""
    found = {method.name: method for method in BUILT_IN}
    for entry in entry_points(group=ENTRY_POINTS):
        method = entry.load()
        if not isinstance(method, Method):
            raise UsageError(
                f"entry point '{entry.value}' in group '{ENTRY_POINTS}' must load to a harness.interfaces.Method, "
                f"but loads to a {type(method).__name__}; mend or uninstall that package"
            )
        if method.name in found:
            raise UsageError(
                f"entry point '{entry.value}' registers a second method named '{method.name}'; rename one of the two"
            )
        found[method.name] = method
    return found


def method_named(name: str) -> Method:
    """The method; `UsageError` with the nearest known name for an unknown one."""
    known = methods()
    if name not in known:
        raise UsageError(f"unknown method '{name}'; {nearest(name, known)}")
    return known[name]


def effort_of(stage: Stage) -> float:
    """About how long the stage takes, those below it apart, in epochs of a generator: a guess from its config alone."""
    effort = EFFORTS[stage.kind] if stage.kind in EFFORTS else method_named(stage.kind).effort
    return effort(stage.config)


def build_fit(config: Any, dataset: Dataset, inputs: Artifacts, context: FitContext, *, name: str) -> None:
    """Fits the named method and writes the recommender: the `build` of a method's stage."""
    recommender = method_named(name).fit(config, dataset, inputs, context)
    if context.group.is_main:
        recommender.save(context.folder)


def stage_of(need: Need, *, dataset: str, seed: int, conditions: Mapping[str, Any]) -> Stage:
    """The stage that answers a need, with all stages below it.

    A need whose kind is a method's name asks for that method, fitted. The contract decides only how methods are
    selected, so `conditions` (contract, precision, several processes) name fitted methods apart; other artifacts only
    by precision, and by processes where these share the work.
    """
    if need.kind in BUILDERS:
        build, needs, version = BUILDERS[need.kind], need.inputs, VERSIONS.get(need.kind, 1)
        named = {"precision", "processes"} if need.kind in DISTRIBUTED else {"precision"}
    else:
        method = method_named(need.kind)
        build, needs, version = (
            functools.partial(build_fit, name=method.name),
            method.needs(need.config),
            method.version,
        )
        named = set(conditions) if method.is_distributed else set(conditions) - {"processes"}
    return Stage(
        kind=need.kind,
        config=need.config,
        build=build,
        dataset=dataset,
        seed=0 if need.kind in SEEDLESS else seed,
        inputs={
            name: stage_of(child, dataset=dataset, seed=seed, conditions=conditions) for name, child in needs.items()
        },
        conditions={name: condition for name, condition in conditions.items() if name in named},
        version=version,
    )
