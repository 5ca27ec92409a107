"""The registry of methods, and the stages that their needs stand for.

A module of the folder `baselines` registers each `Method` that it holds. Other packages, etegrec's among them, name
theirs in the entry-point group `harness.methods`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

import baselines
from harness.data.dataset import Dataset
from harness.errors import UsageError, nearest
from harness.interfaces import ArtifactKind, Artifacts, FitContext, Method, Need
from harness.stages import Stage

ENTRY_POINTS = "harness.methods"


@functools.cache
def methods() -> dict[str, Method]:
    """All methods by name, in the order of the tables' rows."""
    found: dict[str, Method] = {}
    for method, where in (*_built_in(), *_of_packages()):
        if method.name in found:
            raise UsageError(f"{where} registers a second method named '{method.name}'; rename one of the two")
        found[method.name] = method
    return dict(sorted(found.items(), key=lambda item: (item[1].place, item[1].title)))


def _built_in() -> Iterator[tuple[Method, str]]:
    for module in pkgutil.iter_modules(baselines.__path__, f"{baselines.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Method):
                yield value, f"module '{module.name}'"


def _of_packages() -> Iterator[tuple[Method, str]]:
    for entry in entry_points(group=ENTRY_POINTS):
        method = entry.load()
        if not isinstance(method, Method):
            raise UsageError(
                f"entry point '{entry.value}' in group '{ENTRY_POINTS}' must load to a harness.interfaces.Method, "
                f"but loads to a {type(method).__name__}; mend or uninstall that package"
            )
        yield method, f"entry point '{entry.value}'"


def method_named(name: str) -> Method:
    """The method; `UsageError` with the nearest known name for an unknown one."""
    known = methods()
    if name not in known:
        raise UsageError(f"unknown method '{name}'; {nearest(name, known)}")
    return known[name]


def groups() -> dict[str, list[str]]:
    """The methods of each group by its name, in the order of the tables: `all`, and what the methods say of themselves.

    `UsageError` where a group is named like a method.
    """
    found = {"all": list(methods())}
    for method in methods().values():
        for group in method.groups:
            if group in methods():
                raise UsageError(f"method '{method.name}' names a group '{group}', which is a method; rename it")
            found.setdefault(group, []).append(method.name)
    return found


def total_effort(method: Method, config: Any) -> float:
    """The effort of a fit with all stages below it, each counted once, in epochs of a generator."""
    stage = stage_of(Need(method.name, config), dataset="", seed=0, conditions={})
    return sum({below.key: below.effort for below in stage.with_ancestors()}.values())


def proposed_method() -> str:
    """The name of the method that the benchmark is about: the first one that a paper proposes."""
    return next(name for name, method in methods().items() if method.is_proposed)


def build_fit(config: Any, dataset: Dataset, inputs: Artifacts, context: FitContext, *, name: str) -> None:
    """Fits the named method and writes the recommender: the `build` of a method's stage."""
    recommender = method_named(name).fit(config, dataset, inputs, context)
    if context.group.is_main:
        recommender.save(context.folder)


def fitted(method: Method) -> ArtifactKind:
    """The method's fit as a kind of artifact."""
    return ArtifactKind(
        method.name,
        functools.partial(build_fit, name=method.name),
        effort=method.effort,
        counts=method.counts,
        is_distributed=method.is_distributed,
        follows_contract=method.follows_contract,
        reads_times=method.reads_times,
        version=method.version,
        obstacle=functools.partial(fit_obstacle, method),
    )


def fit_obstacle(method: Method, config: Any, dataset: Dataset) -> str | None:
    """Why the data do not allow the fit: an input that the method declares and they lack, or what it says itself.

    Of texts the stage that encodes them tells, which may have vectors of one's own instead.
    """
    inputs = method.inputs if method.inputs_of is None else method.inputs_of(config)
    if "features" in inputs and not dataset.catalog.features:
        return (
            "item features (categories, store, attributes) are needed, and there are none; name a file that has them "
            "with --metadata FILE (items of Amazon or RecBole, attributes of S3-Rec)"
        )
    if "timestamps" in inputs and dataset.train.times is None:
        return "times are needed, and only the order is known; name their column with --time-col"
    return method.obstacle(config, dataset)


def resolved(need: Need) -> tuple[ArtifactKind, Mapping[str, Need]]:
    """The kind of artifact and the needs below it; a method's name stands for its fit."""
    if isinstance(need.kind, str):
        method = method_named(need.kind)
        return fitted(method), method.needs(need.config)
    return need.kind, need.inputs


def obstacle(need: Need, dataset: Dataset) -> str | None:
    """Why the data do not allow what is needed or something below it, in one line; None: they do."""
    kind, needs = resolved(need)
    found = (kind.obstacle(need.config, dataset), *(obstacle(child, dataset) for child in needs.values()))
    return next(filter(None, found), None)


def kinds() -> dict[str, ArtifactKind]:
    """Each kind of stage that the presets of any method need, by its name."""
    found: dict[str, ArtifactKind] = {}

    def add(needs: Mapping[str, Need]) -> None:
        for need in needs.values():
            if isinstance(need.kind, str):
                continue  # a method, which is added itself
            found[need.kind.name] = need.kind
            add(need.inputs)

    for method in methods().values():
        found[method.name] = fitted(method)
        for config in method.presets.values():
            add(method.needs(config))
    return found


def current_versions() -> dict[str, int]:
    """The version of each of these kinds."""
    return {name: kind.version for name, kind in kinds().items()}


def stage_of(need: Need, *, dataset: str, seed: int, conditions: Mapping[str, Any]) -> Stage:
    """The stage that answers a need, with all stages below it.

    Of `conditions` (contract, precision, device, several processes, times) it bears those that decide its result.
    """
    kind, needs = resolved(need)
    flags = {"precision": True, "device": True, "contract": kind.follows_contract, "processes": kind.is_distributed}
    flags["times"] = kind.reads_times
    return Stage(
        kind=kind.name,
        config=need.config,
        build=kind.build,
        dataset=dataset,
        seed=seed if kind.is_seeded else 0,
        inputs={
            name: stage_of(child, dataset=dataset, seed=seed, conditions=conditions) for name, child in needs.items()
        },
        conditions={name: condition for name, condition in conditions.items() if flags[name]},
        effort=kind.effort(need.config),
        version=kind.version,
    )
