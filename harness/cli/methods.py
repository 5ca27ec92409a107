"""`harness methods`: what can be run, and with which fields."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import Json, Recipe, print_json, print_view

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
        line = to_toml({field: config.model_dump(mode="json").get(field, value)}).strip().replace("\n", " ")
        about = type(config).model_fields[field].description
        lines.append(f"{line}  # {about}" if about else line)
    return "\n".join(["\n".join(lines), *children]).replace("\n[", "\n\n[")


def method_rows() -> list[dict[str, Any]]:
    """The methods, as remembered from the last time that the code was the same."""
    from harness.cli.remembered import remembered

    rows: list[dict[str, Any]] = remembered("methods", _method_rows, ENTRY_POINTS)
    return rows


def _method_rows() -> list[dict[str, Any]]:
    """The methods with family, groups, inputs, time against SASRec's at preset lite, presets, recipes, ablations."""
    from harness.methods import methods as all_methods
    from harness.methods import total_effort

    found = list(all_methods().values())
    lite = {method.name: total_effort(method, method.presets["lite"]) for method in found if "lite" in method.presets}
    return [
        {
            "name": method.name,
            "title": method.title,
            "family": method.family,
            "groups": list(method.groups),
            "needs": list(method.inputs),
            "time": _against_sasrec(lite.get(method.name, math.inf), lite),
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
    from rich.text import Text

    from results.terminal.grids import headed_grid

    grid = headed_grid()
    shown = {"name": "Method", "family": "Family", "groups": "Groups", "needs": "Needs", "time": "Time"}
    shown |= {"recipes": "Recipes", "ablations": "Ablations"}
    for key, heading in shown.items():
        grid.add_column(heading, no_wrap=key in ("name", "family"), justify="right" if key == "time" else "left")
    for row in rows:
        grid.add_row(*[Text(_listed(row[key])) for key in shown])
    print_view(grid)


def _against_sasrec(effort: float, efforts: Mapping[str, float]) -> float | None:
    """About how long a fit takes, as a multiple of SASRec's; None where the method does not tell."""
    unit = efforts.get("sasrec")
    return round(effort / unit, 1) if unit and math.isfinite(effort) else None


def _listed(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}x"
    return ", ".join(value) if isinstance(value, list) else str(value or "")
