"""The best trial of a study: its settings, as a plan and as a config file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.config import to_toml
from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.experiment.plan import Plan, Settings, make_plan
from harness.experiment.settings import overlaid
from harness.interfaces import Contract
from sweeps.spaces import nested
from sweeps.summaries import StudySummary


def best_plan(study: StudySummary, data: Dataset, seeds: Sequence[int], device: str = "cpu") -> Plan:
    """The plan of the best trial's config on a kind of device; its cells know how many trials led to it.

    `UsageError` where the data are no longer those of the study.
    """
    sweep = study.sweep
    if data.fingerprint != sweep.fingerprint:
        raise UsageError(
            f"study '{study.name}' is of data set {sweep.fingerprint}, but {sweep.source['name']} is now "
            f"{data.fingerprint}; bring that data back, or sweep again"
        )
    settings = Settings(
        preset=sweep.preset,
        recipe=sweep.recipe,
        contract=Contract.model_validate(sweep.contract),
        precision=sweep.precision,
        device=device,
        tables=best_tables(study),
        text_encoder=sweep.text,
    )
    plan = make_plan(data, method_names=[sweep.method], ablation_names=[], seeds=seeds, settings=settings)
    return plan._replace(cells=tuple(replace(cell, trials=study.ended) for cell in plan.cells))


def best_tables(study: StudySummary) -> dict[str, dict[str, Any]]:
    """The user's own changes, and over them the best trial's values: a table per method."""
    assert study.best is not None
    return overlaid(study.sweep.tables, {study.sweep.method: nested(study.best.params)})


def best_toml(study: StudySummary) -> str:
    """A config file with only what differs from the preset; its first line is the command that takes it."""
    sweep, defaults = study.sweep, Contract().model_dump(mode="json")
    contract = {name: value for name, value in sweep.contract.items() if value != defaults.get(name)}
    tables = best_tables(study) | ({"contract": contract} if contract else {})
    given = {"--dataset": sweep.source["name"], "--methods": sweep.method, "--preset": sweep.preset}
    given |= {"--recipe": sweep.recipe} if sweep.recipe != "default" else {}
    given |= {"--text": sweep.text} if sweep.text else {}
    command = " ".join(f"{option} {value}" for option, value in given.items())
    return f"# harness run {command} --config FILE\n{to_toml(tables)}"
