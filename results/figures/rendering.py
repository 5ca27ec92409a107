"""A figure as a value: the data, how they are drawn, and files of both, the same bytes from the same data.

Drawing needs matplotlib, which is imported only then.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import polars as pl

from results.errors import ResultsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

FORMATS = ("png", "svg", "pdf")

# Without what differs from one file to the next: the time of its making, and versions.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Figure:
    """What a figure shows and says; `draw` makes the picture from the frame alone."""

    name: str  # of its files
    caption: str
    frame: pl.DataFrame
    draw: Callable[[pl.DataFrame], Picture]
    notes: tuple[str, ...] = ()  # what a reader must know of the choice of runs

    def save(self, folder: Path, formats: Collection[str] = FORMATS) -> list[Path]:
        """The files, one per format and the csv of the data; all are complete before the first takes its name.

        Raises `ResultsError` for an unknown format, and where matplotlib is missing.
        """
        unknown = [format for format in formats if format not in FORMATS]
        if unknown:
            raise ResultsError(f"unknown format '{unknown[0]}' of a figure; known: {', '.join(FORMATS)}")
        contents = {folder / f"{self.name}.{format}": content for format, content in self.rendered(formats).items()}
        contents[folder / f"{self.name}.csv"] = self.frame.write_csv().encode()
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            temporary_of(path).write_bytes(content)
        for path in contents:
            os.replace(temporary_of(path), path)
        return list(contents)

    def rendered(self, formats: Collection[str]) -> dict[str, bytes]:
        """The picture in each of the formats, which are of `FORMATS`; one format's bytes do not depend on the others.

        The layout, most of the work, is settled once and then kept: it would settle a little more with each use.
        """
        contents = {}
        with style(self.name):
            drawn = self.draw(self.frame)
            engine = drawn.get_layout_engine()
            if engine is not None:
                engine.execute(drawn)
                drawn.set_layout_engine("none")
            for format in formats:
                contents[format] = written(drawn, format)
        return contents

    def svg_text(self) -> str:
        """The picture as an SVG element for a page: no XML header, the caption as its label.

        Its ids begin with a digest of the picture, so that several of one name may stand in a page.
        """
        svg = self.rendered(["svg"])["svg"].decode()
        svg = svg[svg.index("<svg") :].strip()
        own = f"figure-{hashlib.sha256(svg.encode()).hexdigest()[:12]}-"
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}", svg)
        label = escape(self.caption, {'"': "&quot;", "\n": " "})
        return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def written(drawn: Picture, format: str) -> bytes:
    """The picture as a file of one format, by that format's own canvas: `savefig` would draw it twice."""
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    if format == "png":
        screen = drawn.dpi
        drawn.set_dpi(rcParams["savefig.dpi"])
        FigureCanvasAgg(drawn).print_png(buffer, metadata=METADATA[format])
        drawn.set_dpi(screen)
    elif format == "svg":
        FigureCanvasSVG(drawn).print_svg(buffer, metadata=METADATA[format])
    else:
        FigureCanvasPdf(drawn).print_pdf(buffer, metadata=METADATA[format])
    return buffer.getvalue()


def temporary_of(path: Path) -> Path:
    """The name that a file has until it is complete."""
    return path.with_name(path.name + ".tmp")


def style(salt: str) -> Any:
    """A context in which pictures are drawn as figures of a paper, whatever the user's own settings of matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise ResultsError(
            "figures need matplotlib, but it is not installed; pip install 'etegrec-harness[figures]'"
        ) from None
    from results.figures.drawing.looks import SETTINGS

    settings: dict[Any, Any] = {
        key: value for key, value in matplotlib.rcParamsDefault.items() if key not in MACHINE_SETTINGS
    }
    return matplotlib.rc_context(settings | SETTINGS | {"svg.hashsalt": salt})


MACHINE_SETTINGS = {"backend", "backend_fallback", "interactive", "toolbar", "timezone"}
