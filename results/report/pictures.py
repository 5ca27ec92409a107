"""Figures as blocks of a page: drawn as SVG, or the reason why not, with their data."""

from __future__ import annotations

from collections.abc import Callable

from results.errors import ResultsError
from results.figures.rendering import Figure
from results.report.blocks import Picture
from results.report.schemes import in_both_schemes


def made(make: Callable[[], Figure], nothing_to_draw: type[Exception] = ResultsError) -> tuple[Figure, ...]:
    """The figure; none where its maker raises that there is nothing to draw."""
    try:
        return (make(),)
    except nothing_to_draw:
        return ()


def picture_of(figure: Figure, name: str | None = None) -> Picture:
    """The block; without matplotlib it says so instead of the picture. `name` tells figures of one kind apart."""
    svg, why_missing = None, ""
    try:
        svg = in_both_schemes(figure.svg_text())
    except ResultsError as error:
        why_missing = f"{str(error)[:1].upper()}{str(error)[1:]}"
    return Picture(
        name=f"figure-{name or figure.name}",
        caption=figure.caption,
        svg=svg,
        csv=figure.frame.write_csv(),
        notes=(),
        why_missing=why_missing,
    )
