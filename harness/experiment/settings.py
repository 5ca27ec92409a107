"""Settings from what a user writes: tables of fields, a table a method and one for the contract, and assignments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from harness.config import merged
from harness.errors import UsageError, nearest
from harness.experiment.plan import Settings
from harness.interfaces import Contract
from harness.nn.kernels.switch import form_of_environment
from results.store.contract import NAMED

Table = dict[str, Any]


def settings_of(
    tables: Mapping[str, Table],
    *,
    preset: str,
    recipe: str,
    precision: Literal["fp32", "bf16"] = "fp32",
    text: str | None = None,
    vectors: str | None = None,
    processes: int = 1,
    rules: str | None = None,
) -> Settings:
    """What decides numbers; the table `contract` becomes the contract, the others stay with their methods.

    `rules` names a set of the contract's values that stand below the table's; `UsageError` for an unknown one.
    """
    form_of_environment()  # a wrong value is told before anything is computed
    # The official recipe decodes as each authors' code does, unless told otherwise (METHODS C.6).
    basis = Contract(decoding="released") if recipe == "official" else Contract()
    if rules is not None:
        if rules not in NAMED:
            raise UsageError(f"unknown contract '{rules}'; {nearest(rules, NAMED)}")
        basis = Contract.model_validate(NAMED[rules].values)
    contract = merged(basis, tables.get("contract", {}), prefix="contract.")
    assert isinstance(contract, Contract)
    of_methods = {name: table for name, table in tables.items() if name != "contract"}
    return Settings(
        preset, recipe, contract, precision, processes, tables=of_methods, text_encoder=text, item_vectors=vectors
    )


def assignments_of(texts: Iterable[str]) -> dict[str, Table]:
    """Nested tables, method first, of texts like `etegrec.mu=3e-4`; a value that looks like a list is read as JSON."""
    tables: dict[str, Table] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        names = [name.strip() for name in path.split(".")]
        if not equals or len(names) < 2 or not all(names):
            raise UsageError(f"--set must be METHOD.FIELD=VALUE, but got '{text}'; for example etegrec.mu=3e-4")
        table: Table = tables
        for name in names[:-1]:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise UsageError(f"--set {text}: '{name}' was given a plain value before; set one of the two")
        table[names[-1]] = _value(value.strip(), text)
    return tables


def _value(value: str, text: str) -> Any:
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise UsageError(f"--set {text}: a list must be JSON, but {error.msg}; for example [256,128]") from None


def overlaid(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Table:
    """`base` with the nested `changes` laid over it."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = overlaid(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
