"""`harness bench scale`: how time and memory grow with interactions, items, history length and beams."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import measurements, options, values
from harness.cli.options import Json, print_json

if TYPE_CHECKING:
    from harness.bench.growth import Growth
    from harness.bench.scale import Fit, Point, Scene

EXAMPLES = (
    "Examples: [bold]harness bench scale --quick[/] · [bold]harness bench scale --only softmax,ranking --out scale[/]"
)
QUICK_MAX = 20_000
QUICK_POINTS = 3
NOTES = (
    "time: median of the repeats; memory: what the measuring process grew by, its data included; each size in a "
    "process of its own, on made-up data",
    "exponent: the slope of log cost on log size, ± its standard error; last: between the two largest sizes; memory "
    "is fitted where a process grew by 32 MiB or more; within: no exponent, less two standard errors, is more than 0.1 "
    "above the limit",
)


def scale(
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="A,B", help="Measurements whose names begin so: prepare,softmax,beam-width."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=9, metavar="N", help="Largest size (default: 30 million and 1 million).")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed repeats of each size.")] = 3,
    threads: measurements.Threads = None,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"Small networks and three sizes up to {QUICK_MAX:,}: shows that it runs.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write scale.csv and the figure here.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="Formats of the figure, with commas between; the data's csv always.", metavar="F,F")
    ] = "png,svg,pdf",
    folder: Annotated[
        Path | None,
        options.machine_option(
            "--folder", metavar="DIR", help="Where temporary files go: 4 GB if there are 30 million interactions."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how time and memory grow with interactions, items, history length and beams, and fit the exponents."""
    from harness.bench.scale import Scene, chosen, fits, measure_growth
    from harness.bench.scale_figure import scale_figure
    from harness.bench.workload import QUICK, Sizes
    from harness.cli import progress
    from harness.cli.machine import cores
    from harness.errors import StageError
    from results.figures.rendering import style

    names = chosen([name.strip() for name in only.split(",")] if only else [])
    formats = values.formats_of(format)
    if out is not None:
        style("scale")  # tells that matplotlib is missing before the measurements, not after them
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="harness-scale-", dir=folder) as place, progress.told() as report:
        scene = Scene(
            Path(place), threads or cores(), QUICK if quick else Sizes(), repeats, QUICK_POINTS if quick else None
        )
        points, failed = measure_growth(names, scene, most or (QUICK_MAX if quick else None), report)
    found = fits(points)
    if json:
        print_json(_content(scene, points, found, failed, quick))
    else:
        _print(scene, points, found, quick)
    if out is not None and points:
        scale_figure(points).save(out, formats)
    if failed:
        raise StageError(f"all measurements must end well, but {len(failed)} did not: {'; '.join(failed)}")


def _content(scene: Scene, points: list[Point], found: list[Fit], failed: list[str], quick: bool) -> dict[str, object]:
    from harness.bench.scale import MEASURES
    from harness.provenance import environment

    return {
        "threads": scene.threads,
        "repeats": scene.repeats,
        "points": [{**point._asdict(), "axis": MEASURES[point.measure].axis} for point in points],
        "fits": [
            {
                "measure": fit.measure,
                "axis": MEASURES[fit.measure].axis,
                "time": fit.time and fit.time._asdict(),
                "memory": fit.memory and fit.memory._asdict(),
                "limit": MEASURES[fit.measure].limit,
                "within": fit.is_within,
            }
            for fit in found
        ],
        "failed": failed,
        "notes": _notes(quick),
        "environment": environment(),
    }


def _notes(quick: bool) -> list[str]:
    return [*NOTES, "small networks: these times mean nothing"] if quick else list(NOTES)


def _print(scene: Scene, points: list[Point], found: list[Fit], quick: bool) -> None:
    from harness.bench.scale import MEASURES

    columns = "size", "time", "min to max", "memory, MiB"
    costs = measurements.table(f"Cost against size, {scene.threads} threads", columns)
    for before, point in zip([None, *points], points, strict=False):
        is_first = before is None or before.measure != point.measure
        measure = MEASURES[point.measure]
        costs.add_row(
            f"{measure.title}, {measure.axis}" if is_first else "",
            f"{point.size:,}",
            _time(point.seconds),
            _range(point.least, point.most),
            f"{point.memory_mb:,.0f}",
        )
    growths = measurements.table("Fitted exponents", ("time", "last", "memory", "limit", "within"))
    for fit in found:
        measure = MEASURES[fit.measure]
        last = "" if fit.time is None else f"{fit.time.last:.2f}"
        cells = (
            _exponent(fit.time),
            last,
            _exponent(fit.memory),
            f"{measure.limit:.0f}",
            measurements.mark(fit.is_within),
        )
        growths.add_row(f"{measure.title}, {measure.axis}", *cells)
    measurements.show([costs, growths], _notes(quick))


def _time(seconds: float) -> str:
    scaled, unit = _in_unit(seconds, seconds)
    return f"{scaled} {unit}"


def _range(least: float, most: float) -> str:
    """Both ends in the unit of the greater one."""
    (low, _), (high, unit) = _in_unit(least, most), _in_unit(most, most)
    return f"{low} to {high} {unit}"


def _in_unit(seconds: float, like: float) -> tuple[str, str]:
    return (f"{seconds:,.2f}", "s") if like >= 1 else (f"{seconds * 1e3:,.1f}", "ms")


def _exponent(found: Growth | None) -> str:
    return "" if found is None else f"{found.exponent:.2f} ± {found.error:.2f}"
