"""The `harness run` command that makes a stored run again, checked by the digest that it would have."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.config import Config
    from harness.protocols import Ablation, Contract, Method
    from results.schema import RunRecord
    from results.selection import Group

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Command:
    """Arguments of `harness run`; `changes` are the fields that differ from preset and recipe."""

    dataset: str
    methods: tuple[str, ...]
    ablations: tuple[str, ...]
    seeds: tuple[int, ...]
    preset: str
    recipe: str
    changes: tuple[str, ...]
    precision: str
    threads: int
    device: str
    is_exact: bool  # the config's digest was computed from these arguments, and is the run's

    def text(self) -> str:
        """The command line."""
        seeds = ",".join(map(str, self.seeds)) + "," * (len(self.seeds) == 1)
        words = ["harness", "run", "--dataset", self.dataset, "--methods", ",".join(self.methods)]
        words += ["--ablation", ",".join(self.ablations)] if self.ablations else []
        words += ["--seeds", seeds, "--preset", self.preset, "--recipe", self.recipe]
        words += [word for change in self.changes for word in ("--set", change)]
        words += ["--precision", self.precision] if self.precision != "fp32" else []
        words += ["--threads", str(self.threads)] if self.threads != 1 else []
        return shlex.join([*words, "--device", self.device])


def command_for(group: Group, dataset: str) -> Command:
    """The command for the runs of a row; `dataset` is what stands after `--dataset`."""
    from harness.methods import methods
    from harness.planning import FULL

    record = group.record
    method = methods().get(record.method)
    ablations = {} if method is None else method.ablations
    found = [(name, one) for name, one in ablations.items() if one.variant == record.variant]
    ablation = found[0][1] if found else FULL
    changes, precision = None, None
    if method is not None and (found or record.variant == FULL.variant):
        changes = _changes(method, ablation, record, group.runs[0].config_text())
        precision = None if changes is None else _precision(method, ablation, record, changes)
    return Command(
        dataset=dataset,
        methods=(record.method,),
        ablations=tuple(name for name, _ in found),
        seeds=group.seeds,
        preset=record.preset,
        recipe=record.recipe,
        changes=(*_contract_changes(record), *(changes or ())),
        precision=precision or "fp32",
        threads=record.threads,
        device=record.device,
        is_exact=precision is not None,
    )


def together(commands: Sequence[Command]) -> list[Command]:
    """As few commands as make the same runs: those that differ in methods, ablations and their fields alone."""
    merged: dict[tuple[Any, ...], Command] = {}
    for command in commands:
        if not command.is_exact:
            continue
        same = (command.dataset, command.seeds, command.preset, command.recipe, command.precision, command.threads)
        key: tuple[Any, ...] = (*same, command.device, _of("contract", command.changes))
        # An ablation runs under its method's fields: rows of one method share a command only if they share them.
        key += tuple(
            _of(name, command.changes)
            for name in command.methods
            if any(
                _of(name, old.changes) != _of(name, command.changes) for old in merged.values() if name in old.methods
            )
        )
        old = merged.get(key)
        merged[key] = command if old is None else _union(old, command)
    return list(merged.values())


def _union(first: Command, second: Command) -> Command:
    return Command(
        **{
            **first.__dict__,
            "methods": _unique([*first.methods, *second.methods]),
            "ablations": _unique([*first.ablations, *second.ablations]),
            "changes": _unique([*first.changes, *second.changes]),
        }
    )


def dataset_argument(name: str) -> str:
    """What names the data set again; a place to fill in for a path, since a page names no folder of its maker's."""
    from harness.data.catalog import NAMED

    return name if name in NAMED else f"PATH/TO/{name}"


def prepared_folder(fingerprint: str, cache_dir: Path) -> Path | None:
    """Where the data set with this content lies prepared, the newest if it does so twice."""
    from harness.data.open import prepared_folders
    from harness.data.prepare import describe

    found = [folder for folder in prepared_folders(cache_dir) if _fingerprint(folder, describe) == fingerprint]
    return found[-1] if found else None


def _fingerprint(folder: Path, describe: Any) -> str | None:
    try:
        return str(describe(folder)["fingerprint"])
    except HarnessError:  # prepared by another version, or damaged: not what is looked for
        return None


def _changes(method: Method, ablation: Ablation, record: RunRecord, config_toml: str) -> tuple[str, ...] | None:
    """The fields of the stored config that preset, recipe and ablation do not give; None where it cannot be read."""
    from harness.config import merged
    from harness.planning import Settings, configured

    try:
        basis = ablation.change(configured(method, record.dataset, Settings(record.preset, record.recipe)))
        stored = merged(basis, tomllib.loads(config_toml)[record.method])
    except (HarnessError, tomllib.TOMLDecodeError, KeyError):
        return None
    given, wanted = dict(_fields(basis)), dict(_fields(stored))
    return tuple(
        f"{record.method}.{path}={_spelled(value)}" for path, value in wanted.items() if given.get(path) != value
    )


def _precision(method: Method, ablation: Ablation, record: RunRecord, changes: Sequence[str]) -> Precision | None:
    """The precision under which these settings have the run's digest; None if none does."""
    from harness.cli.values import assignments_of
    from harness.planning import Cell, Settings, configured, stage_of
    from harness.protocols import Need

    try:
        tables = assignments_of(changes)
        config = ablation.change(
            configured(method, record.dataset, Settings(record.preset, record.recipe, tables=tables))
        )
        contract = _contract(record.contract)
    except HarnessError:
        return None
    for precision in get_args(Precision):
        conditions = {"contract": contract.model_dump(mode="json"), "precision": precision}
        fit = stage_of(
            Need(record.method, config), dataset=record.dataset_fingerprint, seed=record.seed, conditions=conditions
        )
        cell = Cell(record.method, ablation, record.seed, config, contract, record.preset, record.recipe, fit)
        if cell.config_digest == record.config_digest:
            return precision
    return None


def _contract_changes(record: RunRecord) -> tuple[str, ...]:
    """The parts of the contract that `harness run` would not take by itself under the run's recipe."""
    from harness.protocols import Contract

    basis = (Contract(decoding="released") if record.recipe == "official" else Contract()).model_dump(mode="json")
    return tuple(
        f"contract.{name}={_spelled(value)}" for name, value in record.contract.items() if basis.get(name) != value
    )


def _contract(stored: Mapping[str, Any]) -> Contract:
    from harness.config import merged
    from harness.protocols import Contract

    contract = merged(Contract(), stored, prefix="contract.")
    assert isinstance(contract, Contract)
    return contract


def _fields(config: Config, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted paths of the plain values and what they are, as JSON."""
    for name, value in config.model_dump(mode="json").items():
        child = getattr(config, name)
        if hasattr(child, "model_dump"):
            yield from _fields(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _of(name: str, changes: Iterable[str]) -> tuple[str, ...]:
    return tuple(change for change in changes if change.startswith(f"{name}."))


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
