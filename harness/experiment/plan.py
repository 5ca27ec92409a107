"""What an experiment computes: cells (method × variant × seed), and the stages that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from harness.config import Config, digest, merged, with_field
from harness.data.dataset import Dataset
from harness.errors import FieldError, UsageError, nearest
from harness.interfaces import Ablation, Contract, Method, Need
from harness.methods import method_named, methods, stage_of
from harness.stages import Stage


def unchanged(config: Config) -> Config:
    """The method as it is."""
    return config


FULL = Ablation("full", "full", "", unchanged)
ABLATED = "etegrec"  # the method whose ablations `--ablation` names


@dataclass(frozen=True)
class Settings:
    """What the user asked for, apart from the data set; everything in it decides numbers."""

    preset: str = "lite"
    recipe: str = "default"
    contract: Contract = field(default_factory=Contract)
    precision: Literal["fp32", "bf16"] = "fp32"
    processes: int = 1  # that train each model together
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method → a TOML table of its fields
    assignments: Sequence[tuple[str, str, Any]] = ()  # (method, dotted field, value), after the tables
    text_encoder: str | None = None  # for every method that reads text


@dataclass(frozen=True)
class Cell:
    """One row of a table: a variant of a method on a data set under a seed."""

    method: str
    ablation: Ablation
    seed: int
    config: Config
    contract: Contract
    preset: str
    recipe: str
    fit: Stage
    trials: int = 0  # hyper-parameter trials that led to this config

    @property
    def label(self) -> str:
        """As progress and summaries name it."""
        title = method_named(self.method).title
        variant = f" {self.ablation.title}" if self.ablation.title else ""
        return f"{title}{variant}, seed {self.seed}"

    @property
    def config_digest(self) -> str:
        """Names config, contract and conditions, but not the seed: rows that differ in it belong together."""
        content = {"config": self.config.model_dump(mode="json"), "conditions": dict(self.fit.conditions)}
        return digest(content)[:12]


class Plan(NamedTuple):
    """All cells, and all stages below them, each once and after those that it needs."""

    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]


def make_plan(
    dataset: Dataset,
    *,
    method_names: Iterable[str],
    ablation_names: Iterable[str],
    seeds: Iterable[int],
    settings: Settings,
) -> Plan:
    """The plan for one data set. `UsageError` for unknown names and fields; nothing is computed yet."""
    method_names, ablation_names = list(method_names), list(ablation_names)
    variants = [(name, FULL) for name in method_names]
    variants += [(ABLATED, ablation_named(name)) for name in ablation_names]
    check_tables(settings)
    cells = []
    for seed in seeds:
        for name, ablation in variants:
            method = method_named(name)
            config = ablation.change(configured(method, dataset.original or dataset.name, settings))
            conditions: dict[str, Any] = {
                "contract": settings.contract.model_dump(mode="json"),
                "precision": settings.precision,
            }
            if settings.processes > 1:
                conditions["processes"] = settings.processes
            fit = stage_of(Need(name, config), dataset=dataset.fingerprint, seed=seed, conditions=conditions)
            cells.append(Cell(name, ablation, seed, config, settings.contract, settings.preset, settings.recipe, fit))
    stages = {stage.key: stage for cell in cells for stage in cell.fit.with_ancestors()}
    return Plan(tuple(cells), tuple(stages.values()))


def ablation_named(name: str) -> Ablation:
    """The ablation of ETEGRec; `UsageError` with the nearest known name for an unknown one."""
    known = method_named(ABLATED).ablations
    if name not in known:
        raise UsageError(f"unknown ablation '{name}'; {nearest(name, known)}")
    return known[name]


def configured(method: Method, dataset: str, settings: Settings) -> Config:
    """The method's config: preset, published values for the data set, recipe, then the user's changes."""
    if settings.preset not in method.presets:
        raise UsageError(
            f"method '{method.name}' has no preset '{settings.preset}'; {nearest(settings.preset, method.presets)}"
        )
    config = method.presets[settings.preset]
    if settings.preset == "paper":
        config = method.for_dataset(config, dataset)
    if settings.recipe != "default" and settings.recipe in method.recipes:
        config = method.recipes[settings.recipe](config)
    if settings.text_encoder is not None and "text" in type(config).model_fields:
        config = with_field(config, "text.encoder", settings.text_encoder, prefix=f"{method.name}.")
    config = merged(config, dict(settings.tables.get(method.name, {})), prefix=f"{method.name}.")
    for name, path, value in settings.assignments:
        if name == method.name:
            config = with_field(config, path, value, prefix=f"{name}.")
    return config


def check_tables(settings: Settings) -> None:
    """`FieldError` for a table or an assignment of a method that does not exist."""
    for name in [*settings.tables, *(name for name, _, _ in settings.assignments)]:
        if name not in methods():
            remedy = nearest(name, [*methods(), "contract"])
            raise FieldError(f"'{name}' must be a method, or 'contract'; {remedy}", name)
