"""The `harness run` command that makes a stored run again, checked by the digest that it would have."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from harness.config import merged
from harness.data.catalog import NAMED
from harness.data.splits.registry import unsplit_name
from harness.errors import HarnessError
from harness.experiment.plan import FULL, Settings, config_digest, configured, differences
from harness.experiment.settings import assignments_of, settings_of
from harness.interfaces import Ablation, Method
from harness.methods import methods
from results.store.schema import RunRecord
from results.store.selection import RowRuns

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Command:
    """Arguments of `harness run`; `changes` are the fields that differ from preset and recipe."""

    dataset: str
    split: str
    methods: tuple[str, ...]
    ablations: tuple[str, ...]
    seeds: tuple[int, ...]
    preset: str
    recipe: str
    changes: tuple[str, ...]
    precision: Precision
    processes: int  # that torchrun starts
    threads: int
    device: str
    is_exact: bool  # the config's digest was computed from these arguments, and is the run's

    def text(self) -> str:
        """The command line."""
        seeds = ",".join(map(str, self.seeds)) + "," * (len(self.seeds) == 1)
        words = ["harness", "run", "--dataset", self.dataset]
        if self.processes > 1:
            words = ["torchrun", "--nproc-per-node", str(self.processes), "-m", *words]
        words += ["--split", self.split] if self.split != "leave-one-out" else []
        words += ["--methods", ",".join(self.methods)]
        words += ["--ablation", ",".join(self.ablations)] if self.ablations else []
        words += ["--seeds", seeds, "--preset", self.preset, "--recipe", self.recipe]
        words += [word for change in self.changes for word in ("--set", change)]
        words += ["--precision", self.precision] if self.precision != "fp32" else []
        words += ["--threads", str(self.threads)] if self.threads != 1 else []
        return shlex.join([*words, "--device", self.device])


def command_for(group: RowRuns, dataset: str) -> Command:
    """The command for the runs of a row; `dataset` is what stands after `--dataset`."""
    record = group.record
    method, ablation, name = made_by(record)
    changes = None if method is None else _changes(method, ablation, record, group.runs[0].config_text())
    command = Command(
        dataset=dataset,
        split=unsplit_name(record.dataset)[1],
        methods=(record.method,),
        ablations=(name,) if name else (),
        seeds=group.seeds,
        preset=record.preset,
        recipe=record.recipe,
        changes=(*_contract_changes(record), *(changes or ())),
        precision="fp32",
        processes=int(group.runs[0].environment().get("processes", 1)),
        threads=record.threads,
        device=record.device,
        is_exact=False,
    )
    if changes is None:
        return command
    tried = [replace(command, precision=precision) for precision in get_args(Precision)]
    return next((replace(one, is_exact=True) for one in tried if makes(one, record)), command)


def together(groups: Sequence[RowRuns], commands: Sequence[Command]) -> list[Command]:
    """As few commands as make the same rows, those left out that no command makes: each was checked as one row's."""
    merged: list[tuple[Command, list[RunRecord]]] = []
    for group, command in zip(groups, commands, strict=True):
        if not command.is_exact:
            continue
        for place, (old, records) in enumerate(merged):
            union = _union(old, command)
            if union is not None and all(makes(union, record) for record in [*records, group.record]):
                merged[place] = union, [*records, group.record]
                break
        else:
            merged.append((command, [group.record]))
    return [command for command, _ in merged]


def makes(command: Command, record: RunRecord) -> bool:
    """Whether the command's config for the record's row has the record's digest."""
    method, ablation, _ = made_by(record)
    if method is None:
        return False
    original, _ = unsplit_name(record.dataset)
    try:
        settings = settings_of(
            assignments_of(command.changes),
            preset=record.preset,
            recipe=command.recipe,
            precision=command.precision,
            processes=command.processes,
        )
        settings = replace(settings, device=command.device)
        config = ablation.change(configured(method, original, settings))
    except HarnessError:
        return False
    return config_digest(record.method, config, settings) == record.config_digest


def made_by(record: RunRecord) -> tuple[Method | None, Ablation, str]:
    """The method, the ablation and its name on the command line, empty for the full method; None: not known here."""
    method = methods().get(record.method)
    if method is None or record.variant == FULL.variant:
        return method, FULL, ""
    found = [(name, one) for name, one in method.ablations.items() if one.variant == record.variant]
    return (method, found[0][1], found[0][0]) if found else (None, FULL, "")


def _union(first: Command, second: Command) -> Command | None:
    """One command for what both may make; None where they differ in more than methods, ablations, changes, recipe.

    A recipe changes no row of a method that does not have it; whether that holds here, `makes` must say.
    """
    joined = replace(
        first,
        recipe=second.recipe if first.recipe == "default" else first.recipe,
        methods=_unique([*first.methods, *second.methods]),
        ablations=_unique([*first.ablations, *second.ablations]),
        changes=_unique([*first.changes, *second.changes]),
    )
    rest = replace(
        second, recipe=joined.recipe, methods=joined.methods, ablations=joined.ablations, changes=joined.changes
    )
    fields = [change.partition("=")[0] for change in joined.changes]
    return joined if joined == rest and len(fields) == len(set(fields)) else None


def dataset_argument(name: str) -> str:
    """What names the data set again; a place to fill in for a path, since a page names no folder of its maker's."""
    original, _ = unsplit_name(name)
    return original if original in NAMED else f"PATH/TO/{original}"


def _changes(method: Method, ablation: Ablation, record: RunRecord, config_toml: str) -> tuple[str, ...] | None:
    """The fields of the stored config that preset, recipe and ablation do not give; None where it cannot be read."""
    original, _ = unsplit_name(record.dataset)
    try:
        basis = ablation.change(configured(method, original, Settings(record.preset, record.recipe)))
        stored = merged(basis, tomllib.loads(config_toml)[record.method])
    except (HarnessError, tomllib.TOMLDecodeError, KeyError):
        return None
    return tuple(f"{record.method}.{path}={_spelled(value)}" for path, value in differences(basis, stored).items())


def _contract_changes(record: RunRecord) -> tuple[str, ...]:
    """The parts of the contract that `harness run` would not take by itself under the run's recipe."""
    basis = settings_of({}, preset=record.preset, recipe=record.recipe).contract.model_dump(mode="json")
    return tuple(
        f"contract.{name}={_spelled(value)}" for name, value in record.contract.items() if basis.get(name) != value
    )


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
