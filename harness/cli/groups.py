"""Groups of options that several commands take: declared once as a frozen dataclass, given to a command as one value.

A field of a group is declared as Typer declares a parameter: `Annotated[type, typer.Option(...)]`, and a default.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from typer.models import ParameterInfo

Result = TypeVar("Result")


def takes_groups(panels: tuple[str, ...]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """A decorator: each parameter whose type is a group becomes the group's options, which Typer reads and fills.

    Help shows the options without a panel first, then the panels in the given order.
    """

    def rank(parameter: inspect.Parameter) -> int:
        found = [one.rich_help_panel for one in _metadata(parameter) if isinstance(one, ParameterInfo)]
        return panels.index(found[0]) + 1 if found and found[0] is not None else 0

    def decorated(command: Callable[..., Result]) -> Callable[..., Result]:
        declared = inspect.signature(command, eval_str=True).parameters
        groups = {name: one.annotation for name, one in declared.items() if is_group(one.annotation)}
        parameters = sorted((option for one in declared.values() for option in _options(one)), key=rank)

        @functools.wraps(command)
        def expanded(**given: Any) -> Result:
            values = {
                name: group(**{field.name: given.pop(field.name) for field in fields(group)})
                for name, group in groups.items()
            }
            return command(**given, **values)

        expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        expanded.__annotations__ = {one.name: one.annotation for one in parameters}
        return expanded

    return decorated


def is_group(annotation: Any) -> bool:
    """Whether a parameter of this type stands for a group of options."""
    return isinstance(annotation, type) and is_dataclass(annotation)


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The parameter itself, or one for each field of its group; all are given by name."""
    if not is_group(parameter.annotation):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(parameter.annotation, include_extras=True)
    for field in fields(parameter.annotation):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )


def _metadata(parameter: inspect.Parameter) -> tuple[Any, ...]:
    return getattr(parameter.annotation, "__metadata__", ())
