"""`harness methods`: what can be run, and with which fields."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import Json, Recipe, print_json

if TYPE_CHECKING:
    from harness.config import Config

EXAMPLES = (
    "Examples: [bold]harness methods[/] · [bold]harness methods etegrec --preset paper[/] · "
    "[bold]harness methods sasrec > sasrec.toml[/] (edit it, then harness run --config sasrec.toml)"
)

ENTRY_POINTS = "harness.methods"  # as `harness.methods.ENTRY_POINTS`, whose import takes seconds


def methods(
    name: Annotated[str | None, typer.Argument(help="Print this method's fields as TOML.")] = None,
    preset: Annotated[str, typer.Option(help="Whose values to print: lite or paper.")] = "lite",
    recipe: Recipe = "default",
    dataset: Annotated[str, typer.Option(help="Data set whose published values the paper preset takes.")] = "demo",
    json: Json = False,
) -> None:
    """List the methods, or print the fields of one."""
    if name is None:
        _list(method_rows(), json)
        return
    from harness.experiment.plan import Settings, configured, recipe_of
    from harness.methods import method_named

    method = method_named(name)
    config = configured(method, dataset, Settings(preset=preset, recipe=recipe))
    if json:
        followed = recipe_of(method, recipe)
        print_json({"method": name, "preset": preset, "recipe": followed, "config": config.model_dump(mode="json")})
    else:
        print(described(config, name))
        for assumption in method.assumptions(config):
            print(f"note: {assumption}", file=sys.stderr)


def described(config: Config, table: str) -> str:
    """TOML of a config, each field's description beside its value; `--config` reads it back."""
    from harness.config import Config, to_toml

    lines, children = [f"[{table}]"], []
    for field, value in dict(config).items():
        if isinstance(value, Config):
            children.append(described(value, f"{table}.{field}"))
            continue
        line = to_toml({field: config.model_dump(mode="json")[field]}).strip().replace("\n", " ")
        about = type(config).model_fields[field].description
        lines.append(f"{line}  # {about}" if about else line)
    return "\n".join(["\n".join(lines), *children]).replace("\n[", "\n\n[")


def method_rows() -> list[dict[str, Any]]:
    """The methods with presets, recipes and ablations, as remembered from the last time that the code was the same."""
    from harness.cli.remembered import remembered

    rows: list[dict[str, Any]] = remembered("methods", _method_rows, ENTRY_POINTS)
    return rows


def _method_rows() -> list[dict[str, Any]]:
    from harness.methods import methods as all_methods

    return [
        {
            "name": method.name,
            "title": method.title,
            "presets": list(method.presets),
            "recipes": ["default", *method.recipes],
            "ablations": list(method.ablations),
        }
        for method in all_methods().values()
    ]


def _list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in ("Method", "Title", "Presets", "Recipes", "Ablations"):
        grid.add_column(heading, no_wrap=heading in ("Method", "Title"))
    for row in rows:
        grid.add_row(*[Text(_listed(value)) for value in row.values()])
    Console(highlight=False).print(grid)


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
