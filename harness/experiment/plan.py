"""What an experiment computes: cells (method × variant × seed), and the stages that they share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from harness.config import Config, digest, merged, with_field
from harness.data.dataset import Dataset
from harness.errors import DataError, FieldError, UsageError, nearest
from harness.interfaces import Ablation, Contract, Method, Need
from harness.methods import method_named, methods, obstacle, proposed_method, stage_of
from harness.stages import Stage


def unchanged(config: Config) -> Config:
    """The method as it is."""
    return config


FULL = Ablation("full", "full", "", unchanged)


@dataclass(frozen=True)
class Settings:
    """What the user asked for, apart from the data set; everything in it decides numbers."""

    preset: str = "lite"
    recipe: str = "default"
    contract: Contract = field(default_factory=Contract)
    precision: Literal["fp32", "bf16"] = "fp32"
    processes: int = 1  # that train each model together
    device: str = "cpu"  # the kind, whose kernels decide low bits
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method → a TOML table of its fields
    assignments: Sequence[tuple[str, str, Any]] = ()  # (method, dotted field, value), after the tables
    text_encoder: str | None = None  # for every method that reads text
    item_vectors: str | None = None  # a file, for every method that reads item vectors


@dataclass(frozen=True)
class Cell:
    """One row of a table: a variant of a method on a data set under a seed."""

    method: str
    ablation: Ablation
    seed: int
    config: Config
    settings: Settings  # with the recipe that the method really has
    fit: Stage
    changes: Mapping[str, Any] = field(default_factory=dict)  # dotted field → value, where preset and recipe differ
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
        return config_digest(self.method, self.config, self.settings)


class Plan(NamedTuple):
    """All cells, and all stages below them, each once and after those that it needs."""

    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    left_out: Mapping[str, tuple[str, ...]] = {}  # why → the names of the methods that cannot run on the data


def make_plan(
    dataset: Dataset,
    *,
    method_names: Iterable[str],
    ablation_names: Iterable[str],
    seeds: Iterable[int],
    settings: Settings,
    optional: Collection[str] = (),
) -> Plan:
    """The plan for one data set; nothing is computed yet.

    `UsageError` for unknown names and fields, and for limits that the data do not allow. A method that cannot run on
    the data is left out where it is `optional`, and a `DataError` elsewhere.
    """
    variants = [(name, FULL) for name in method_names] + [ablation_named(name) for name in ablation_names]
    check_tables(settings)
    check_limits(dataset, settings.contract)
    cells = [cell_of(dataset, name, ablation, seed, settings) for seed in seeds for name, ablation in variants]
    check_readers([cell.config for cell in cells], settings)
    left_out = impossible(cells, dataset, optional)
    dropped = {name for names in left_out.values() for name in names}
    cells = [cell for cell in cells if cell.method not in dropped]
    stages = {stage.key: stage for cell in cells for stage in cell.fit.with_ancestors()}
    return Plan(tuple(cells), tuple(stages.values()), left_out)


def joined(plans: Sequence[Plan]) -> Plan:
    """One plan of several for the same data: all their cells and stages, each once."""
    cells = {cell.fit.key: cell for plan in plans for cell in plan.cells}
    stages = {stage.key: stage for plan in plans for stage in plan.stages}
    return Plan(tuple(cells.values()), tuple(stages.values()))


def impossible(cells: Iterable[Cell], dataset: Dataset, optional: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Why cells cannot be computed from the data, and of which methods they are: each cause once.

    `DataError` where one of them is not of an `optional` method, or none is left.
    """
    found: dict[str, dict[str, None]] = {}
    possible = False
    for cell in cells:
        cause = obstacle(Need(cell.method, cell.config), dataset)
        if cause is None:
            possible = True
        else:
            found.setdefault(cause, {})[cell.method] = None
    for cause, names in found.items():
        named = [name for name in names if name not in optional]
        if named or not possible:
            raise DataError(f"'{dataset.name}' does not allow {', '.join(named or names)}: {cause}")
    return {cause: tuple(names) for cause, names in found.items()}


def check_readers(configs: Collection[Config], settings: Settings) -> None:
    """`UsageError` for an option that none of the methods reads."""
    for option, value, is_read in (
        ("--text", settings.text_encoder, any(config.text_field for config in configs)),
        ("--vectors", settings.item_vectors, any("own_vectors" in type(config).model_fields for config in configs)),
    ):
        if value is not None and not is_read:
            raise UsageError(f"{option} {value}: none of the methods reads it; leave it out, or add one that does")


def check_limits(dataset: Dataset, contract: Contract) -> None:
    """`UsageError` for longer lists and wider beams than the data have items.

    The default beam stays where there are fewer items: over a trie it finds them all.
    """
    items = dataset.num_items
    if contract.top_k > items:
        raise UsageError(
            f"--top-k must be at most the number of items, {items} in '{dataset.name}', but is {contract.top_k}; "
            f"give --top-k {items}, or less"
        )
    if contract.decoding == "trie" and contract.num_beams > max(items, Contract().num_beams):
        raise UsageError(
            f"--beams must be at most the number of items, {items} in '{dataset.name}', but is {contract.num_beams}; "
            f"give --beams {max(items, contract.top_k)}, which finds them all"
        )


def cell_of(dataset: Dataset, method_name: str, ablation: Ablation, seed: int, settings: Settings) -> Cell:
    """The cell, and the stage that fits it, with all stages below."""
    method, name = method_named(method_name), dataset.original or dataset.name
    settings = replace(settings, recipe=recipe_of(method, settings.recipe))
    config = ablation.change(configured(method, name, settings)).pinned()
    unchanged_settings = replace(settings, tables={}, assignments=(), text_encoder=None, item_vectors=None)
    changes = differences(ablation.change(configured(method, name, unchanged_settings)), config)
    # A fingerprint tells the order of interactions, not their times, which few methods read.
    conditions = fit_conditions(settings) | ({"times": dataset.times_digest} if dataset.times_digest else {})
    fit = stage_of(Need(method_name, config), dataset=dataset.fingerprint, seed=seed, conditions=conditions)
    return Cell(method_name, ablation, seed, config, settings, fit, changes)


def config_digest(method_name: str, config: Config, settings: Settings) -> str:
    """12 hex digits that name config, contract and conditions of a row."""
    conditions = conditions_of(settings)
    if not method_named(method_name).is_distributed:
        conditions.pop("processes", None)
    return digest({"config": config.model_dump(mode="json"), "conditions": conditions})[:12]


def conditions_of(settings: Settings) -> dict[str, Any]:
    """What decides a result beside config, data and seed; processes where there are several, a device but the CPU."""
    conditions: dict[str, Any] = {"contract": settings.contract.model_dump(mode="json")}
    conditions |= {"precision": settings.precision}
    conditions |= {"processes": settings.processes} if settings.processes > 1 else {}
    return conditions | ({"device": settings.device} if settings.device != "cpu" else {})


def fit_conditions(settings: Settings) -> dict[str, Any]:
    """Those that decide a fit: one model serves all contracts that only read its lists otherwise."""
    return conditions_of(replace(settings, contract=settings.contract.of_fits()))


def differences(base: Config, config: Config, prefix: str = "") -> dict[str, Any]:
    """Dotted field → its value in `config`, as plain JSON, of all fields that differ from `base`."""
    found: dict[str, Any] = {}
    for name, value in config:
        old = getattr(base, name)
        if isinstance(value, Config) and isinstance(old, Config):
            found |= differences(old, value, f"{prefix}{name}.")
        elif value != old:
            found[f"{prefix}{name}"] = config.model_dump(mode="json").get(name, value)
    return found


def ablations_of(text: str) -> list[str]:
    """Names, as `make_plan` takes them, of texts like `none`, `all`, `sia,at`, `letter:NAME`, `letter:all`.

    A name without a method is one of the proposed method's. `UsageError` with the nearest known for an unknown one.
    """
    names: dict[str, None] = {}
    for part in [part.strip() for part in text.split(",") if part.strip()] if text != "none" else []:
        method, _, name = part.rpartition(":")
        method = method or proposed_method()
        known = method_named(method).ablations
        for chosen in known if name == "all" else [ablation_named(f"{method}:{name}")[1].name]:
            names |= {f"{method}:{one}": None for one in (chosen, *known[chosen].companions)}
    if not names and text != "none":
        raise UsageError(f"an ablation must be named, but got '{text}'; write none, all, or names with commas between")
    return list(names)


def ablation_named(name: str) -> tuple[str, Ablation]:
    """The method's name and the ablation: `sia` is one of the proposed method, `letter:NAME` of any other.

    `UsageError` with the nearest known name for an unknown one.
    """
    method, _, ablation = name.rpartition(":")
    method = method or proposed_method()
    known = method_named(method).ablations
    if not known:
        raise UsageError(f"method '{method}' has no ablations, but '{name}' asks for one; leave it out")
    if ablation not in known:
        raise UsageError(f"unknown ablation '{ablation}'; {nearest(ablation, [*known, 'all', 'none'])}")
    return method, known[ablation]


def configured(method: Method, dataset: str, settings: Settings) -> Config:
    """The method's config: preset, published values for the data set, recipe, then the user's changes."""
    if settings.preset not in method.presets:
        raise UsageError(
            f"method '{method.name}' has no preset '{settings.preset}'; {nearest(settings.preset, method.presets)}"
        )
    config = method.presets[settings.preset]
    if settings.preset == "paper":
        config = method.for_dataset(config, dataset)
    if recipe_of(method, settings.recipe) != "default":
        config = method.recipes[settings.recipe](config)
    text = settings.text_encoder and _changed(config, method.name, settings).text_field
    if text:
        config = with_field(config, f"{text}.encoder", settings.text_encoder, prefix=f"{method.name}.")
    if settings.item_vectors is not None and "own_vectors" in type(config).model_fields:
        config = with_field(config, "own_vectors", settings.item_vectors, prefix=f"{method.name}.")
    return _changed(config, method.name, settings)


def _changed(config: Config, method: str, settings: Settings) -> Config:
    """The config with the fields that the user gives."""
    config = merged(config, dict(settings.tables.get(method, {})), prefix=f"{method}.")
    for name, path, value in settings.assignments:
        if name == method:
            config = with_field(config, path, value, prefix=f"{name}.")
    return config


def recipe_of(method: Method, asked: str) -> str:
    """The recipe that the method follows where one is asked for: the default, where it has no such recipe."""
    return asked if asked in method.recipes else "default"


def check_tables(settings: Settings) -> None:
    """`FieldError` for a table or an assignment of a method that does not exist."""
    for name in [*settings.tables, *(name for name, _, _ in settings.assignments)]:
        if name not in methods():
            remedy = nearest(name, [*methods(), "contract"])
            raise FieldError(f"'{name}' must be a method, or 'contract'; {remedy}", name)
