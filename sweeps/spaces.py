"""Search spaces: which values of which config fields a sweep tries, checked against the method's config beforehand."""

from __future__ import annotations

import itertools
import keyword
import math
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from harness.config import Config, one_line, with_field
from harness.errors import FieldError, UsageError, nearest
from harness.interfaces import Method
from harness.methods import methods

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str | None  # what a searched field may hold


class Choices(Config):
    """A list of values, of which one is tried at a time."""

    values: tuple[Value, ...] = Field(min_length=1)


class Range(Config):
    """All numbers from `low` to `high`, or those that are a multiple of `step` away from `low`."""

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="uniform in the logarithm")
    step: int | float | None = None

    @model_validator(mode="after")
    def _rules_between_fields(self) -> Range:
        if not self.low < self.high:
            raise ValueError(
                f"low < high must hold, but got low={self.low}, high={self.high}; write them the other way"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, but got low={self.low}; raise low, or drop log")
        if self.log and self.step is not None:
            raise ValueError(f"log and step exclude each other, but got step={self.step}; drop one of the two")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step > 0 must hold, but got step={self.step}; raise step")
        return self

    def points(self) -> tuple[Value, ...] | None:
        """Its numbers where they are finitely many, else None."""
        step = self.step if self.step is not None else 1 if isinstance(self.low, int) and not self.log else None
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.low + step * index for index in range(count))


class Space(Config):
    """The searched fields of a method, by dotted name, in the order in which they are listed."""

    method: str
    fields: dict[str, Choices | Range] = Field(min_length=1)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values that the study's sampler picks for this trial, by dotted field."""
        picked = {}
        for name, field in self.fields.items():
            if isinstance(field, Choices):
                picked[name] = trial.suggest_categorical(name, field.values)
            elif isinstance(field.low, int):
                picked[name] = trial.suggest_int(
                    name, field.low, int(field.high), step=int(field.step or 1), log=field.log
                )
            else:
                picked[name] = trial.suggest_float(name, field.low, field.high, step=field.step, log=field.log)
        return picked

    def points(self) -> Iterator[dict[str, Value]]:
        """Every combination of values; `FieldError` for a field whose values cannot be listed."""
        lists = []
        for name, field in self.fields.items():
            points = field.values if isinstance(field, Choices) else field.points()
            if points is None:
                raise FieldError(
                    f"a grid needs values that can be listed, but '{self.method}.{name}' is a range; give it a step, "
                    "or choose another --sampler",
                    f"{self.method}.{name}",
                )
            lists.append(points)
        for values in itertools.product(*lists):
            yield dict(zip(self.fields, values, strict=True))

    def checked(self, config: Config) -> Space:
        """The space with every value as the method's config holds it (0 of a float field is 0.0).

        `FieldError` for an unknown field, and for a value that breaks a rule of the config.
        """
        return Space(
            method=self.method,
            fields={name: _checked(config, self.method, name, field) for name, field in self.fields.items()},
        )

    def log_uniform(self) -> Space:
        """The space with a logarithmic range, from least to greatest value, for each list of positive floats."""
        return Space(method=self.method, fields={name: _widened(field) for name, field in self.fields.items()})


def grid_of(method: Method) -> Space:
    """The method's own grid; `UsageError` if it has nothing to search."""
    if not method.grid:
        raise UsageError(
            f"a method with a grid must be named, but '{method.name}' has nothing to search; choose another --method"
        )
    return Space(method=method.name, fields={name: Choices(values=values) for name, values in method.grid.items()})


def curve_of(method: Method, name: str) -> Space:
    """The space of one field alone: the curve of the method's paper, or else the field's values in its grid."""
    name = field_name(name)
    values = method.curves[name].values if name in method.curves else method.grid.get(name)
    if values is None:
        raise UsageError(
            f"--grid must be a field with a grid, but '{method.name}' has none for '{name}'; "
            f"{nearest(name, method.grid)}"
        )
    return Space(method=method.name, fields={name: Choices(values=values)})


def spaces_from_tables(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Space]:
    """The spaces of a TOML file: per method, dotted field → a list of choices, or {low=, high=, log=, step=}.

    `FieldError` for a table or a field that is none of these.
    """
    spaces = {}
    for name, table in tables.items():
        if name not in methods():
            raise FieldError(f"a table must be a method's, but got [{name}]; {nearest(name, methods())}", name)
        fields = dict(_fields(table, name))
        if not fields:
            raise FieldError(f"a space needs a field, but [{name}] has none; list one, or drop the table", name)
        spaces[name] = Space(method=name, fields=fields)
    return spaces


def field_name(dotted: str) -> str:
    """The dotted field as a config names it: `lambda` is a word of Python's, so the field is `lambda_`."""
    return ".".join(part + "_" if keyword.iskeyword(part) else part for part in dotted.split("."))


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted fields as the nested table that a config takes: `a.b` → `{"a": {"b": ...}}`."""
    table: dict[str, Any] = {}
    for name, value in params.items():
        *parents, last = name.split(".")
        reduce(lambda inner, parent: inner.setdefault(parent, {}), parents, table)[last] = value
    return table


def _fields(table: Mapping[str, Any], method: str, prefix: str = "") -> Iterator[tuple[str, Choices | Range]]:
    """The fields of a TOML table; a nested table is a nested config unless it has a `low` or a `high`."""
    for key, value in table.items():
        name = field_name(f"{prefix}{key}")
        if isinstance(value, Mapping) and not {"low", "high"} & set(value):
            yield from _fields(value, method, f"{name}.")
            continue
        try:
            yield name, Range(**value) if isinstance(value, Mapping) else Choices(values=value)
        except ValidationError as error:
            found = f" ({one_line(error)})" if isinstance(value, Mapping) else "; put values in brackets"
            raise FieldError(
                f"{method}.{name}: a list of values or {{low=, high=}} must be given, but got {value!r}{found}",
                f"{method}.{name}",
            ) from None


def _checked(config: Config, method: str, name: str, field: Choices | Range) -> Choices | Range:
    if isinstance(field, Choices):
        return Choices(values=tuple(_held(config, method, name, value) for value in field.values))
    low, high = (_held(config, method, name, value) for value in (field.low, field.high))
    if isinstance(low, bool) or not isinstance(low, int | float) or not isinstance(high, int | float):
        dotted = f"{method}.{name}"
        raise FieldError(f"a range needs a field of numbers, but '{dotted}' is none; list its values", dotted)
    return Range(low=low, high=high, log=field.log, step=field.step)


def _held(config: Config, method: str, name: str, value: Value) -> Value:
    """The value as the config holds it after it was set there."""
    changed: Any = with_field(config, name, value, prefix=f"{method}.")
    held = reduce(getattr, name.split("."), changed)
    if not isinstance(held, bool | int | float | str | None):
        dotted = f"{method}.{name}"
        raise FieldError(f"a searched field must hold a plain value, but '{dotted}' holds {held!r}; drop it", dotted)
    return held


def _widened(field: Choices | Range) -> Choices | Range:
    if not isinstance(field, Choices):
        return field
    floats = [value for value in field.values if isinstance(value, float) and value > 0]
    if len(floats) < len(field.values) or min(floats) == max(floats):
        return field
    return Range(low=min(floats), high=max(floats), log=True)
