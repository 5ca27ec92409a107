"""Draws the pictures of README.md and docs/ from stored runs: a leaderboard as a terminal shows it, and a figure.

    python scripts/pictures.py DATASET [FOLDER]

Runs lie in HARNESS_RUNS_DIR (default: runs), pictures go to FOLDER (default: docs/pictures). Each picture says of which
data, preset, recipe and seeds it is. Neither asks a reader's browser for anything from elsewhere.
"""

import io
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from results.errors import ResultsError
from results.figures.audit import figure_of_runs
from results.figures.rendering import Figure
from results.store.selection import Selection, select_runs
from results.tables.console import RichTable
from results.tables.performance import overall_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
WIDTH = 72  # columns of the terminal: few, so that the text is large on a page

# Rich's own form without its fonts from another host; every text has its length, so any monospace font fits.
TERMINAL = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 16px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    runs, dataset = Path(os.environ.get("HARNESS_RUNS_DIR", "runs")), sys.argv[1]
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else FOLDER
    try:
        source = told(select_runs(runs, dataset, variant="full"))
        leaderboard = leaderboard_svg(runs, dataset, source)
        figure = figure_of_runs(runs, dataset)
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "leaderboard.svg").write_text(leaderboard, encoding="utf-8")
    (folder / "audit.svg").write_bytes(with_source(figure, source).rendered(["svg"])["svg"])
    print(f"wrote leaderboard.svg and audit.svg to {folder}: {source}")
    return 0


def told(rows: Selection) -> str:
    """Of which data, preset, recipe and seeds the rows are."""
    record = rows.rows[0].record
    told = {}
    for name in ("preset", "recipe"):
        told[name] = ", ".join(dict.fromkeys(getattr(row.record, name) for row in rows.rows))
    seeds = ", ".join(map(str, sorted({seed for row in rows.rows for seed in row.seeds})))
    return (
        f"Data: {rows.dataset_label}, fingerprint {record.dataset_fingerprint[:8]}; preset {told['preset']}, recipe "
        f"{told['recipe']}, seed {seeds}."
    )


def leaderboard_svg(runs: Path, dataset: str, source: str) -> str:
    """The leaderboard as `harness table overall` prints it, assumptions left out, above its source."""
    table = overall_table(runs, dataset)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    notes = tuple(note for note in table.notes if not note.startswith("Assumption: "))
    console.print(RichTable(replace(table, notes=notes)))
    console.print(Text(source, "dim"))
    title = f"harness table overall --dataset {dataset}"
    return console.export_svg(title=title, theme=MONOKAI, code_format=TERMINAL, unique_id="leaderboard")


def with_source(figure: Figure, source: str) -> Figure:
    """The figure with its source below it."""

    def draw(frame: pl.DataFrame) -> "Picture":
        drawn = figure.draw(frame)
        drawn.supxlabel(source, fontsize=6, x=0.01, ha="left", color="#6E6E6E")
        return drawn

    return replace(figure, draw=draw)


if __name__ == "__main__":
    sys.exit(main())
