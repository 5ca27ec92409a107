"""Comparisons on a terminal: verdicts, numbers, and how to read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from results.statistics.comparison import Comparison, MetricComparison, shown_p
from results.statistics.inference import ALPHA, POWER
from results.tables.content import DECIMALS
from results.tables.lines import CLUSTERED
from results.tables.marks import UNKNOWN
from results.terminal.grids import headed_grid

NAME_WIDTH = 11  # of a method in a heading


def comparison_view(comparisons: Sequence[Comparison]) -> RenderableType:
    """Comparisons of one method: the verdict of each, the numbers, and what they mean."""
    first = comparisons[0]
    rivals = first.second if len(comparisons) == 1 else f"{len(comparisons)} others"
    dataset = first.dataset + " (synthetic)" * first.synthetic
    title = f"{first.first} against {rivals} on {dataset}, {first.population}"
    several = len(comparisons) > 1
    return Group(
        Text(title, "bold"),
        Text(),
        *[Text(comparison.verdict) for comparison in comparisons],
        Text(),
        Fitting(partial(_numbers_grid, comparisons, several)),
        Text(),
        Fitting(partial(_sizes_grid, comparisons, several)),
        Text(),
        *[Text(note, "dim") for note in _comparison_notes(comparisons)],
    )


@dataclass(frozen=True)
class Fitting:
    """A grid whose columns move closer together where the console would cut them otherwise."""

    grid: Callable[[int], Grid]  # made with the given padding

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = self.grid(1)
        fits = console.measure(wide, options=options.update(max_width=10_000)).maximum <= options.max_width
        yield wide if fits else self.grid(0)


def _add_comparisons(
    grid: Grid, comparisons: Sequence[Comparison], several: bool, cells: Callable[[MetricComparison], Sequence[str]]
) -> None:
    """A line per metric, under the rival's name where there are several."""
    for comparison in comparisons:
        if several:
            grid.add_section()
            grid.add_row(Text(_short(comparison.second, comparisons), "italic"))
        for metric in comparison.metrics:
            style = "bold" if metric.sign != "undecided" else ""
            grid.add_row(Text(metric.name, style), *map(Text, cells(metric)))


def _short(label: str, comparisons: Sequence[Comparison]) -> str:
    """A variant's label without its method's where the unchanged method stands beside it."""
    for comparison in comparisons:
        label = label.removeprefix(comparison.second + " ")
    return label


def _numbers_grid(comparisons: Sequence[Comparison], several: bool, padding: int) -> Grid:
    """Means, difference and the three tests."""
    rival = "other" if several else comparisons[0].second
    names = (comparisons[0].first, rival, "gap", "95 % interval", "t", "Wilc.", "perm.")
    # A long name gives way to the letter that the command's help calls its side by; the caption says who that is.
    shown = [name if len(name) <= NAME_WIDTH or place > 1 else "AB"[place] for place, name in enumerate(names)]
    grid = headed_grid("Metric", *shown, numbers=shown, padding=(0, padding), no_wrap=True)

    def cells(metric: MetricComparison) -> list[str]:
        mean, low, high = metric.difference
        return [
            f"{metric.first:.{DECIMALS}f}",
            f"{metric.second:.{DECIMALS}f}",
            _signed(mean),
            f"[{_signed(low)}, {_signed(high)}]",
            *[shown_p(p_value).removeprefix("= ").replace(" ", "").replace("0.", ".") for p_value in metric.adjusted],
        ]

    _add_comparisons(grid, comparisons, several, cells)
    return grid


def _signed(value: float) -> str:
    """A difference of metrics, without the zero before the point."""
    return f"{value:+.{DECIMALS}f}".replace("0.", ".", 1)


def _sizes_grid(comparisons: Sequence[Comparison], several: bool, padding: int) -> Grid:
    """Effect sizes and what would resolve them."""
    numbers = ("gain", "d_z", "better", "worse", "equal", "users", "seeds")
    grid = headed_grid("Metric", *numbers, numbers=numbers, padding=(0, padding), no_wrap=True)

    def cells(metric: MetricComparison) -> list[str]:
        size = metric.effect
        return [
            UNKNOWN if size.gain is None else f"{100 * size.gain:+.1f} %",
            UNKNOWN if size.d_z is None else f"{size.d_z:+.3f}",
            *[f"{100 * share:.1f} %" for share in (size.better, size.worse, size.equal)],
            UNKNOWN if metric.users_needed is None else f"{metric.users_needed:,}",
            UNKNOWN if metric.seeds_needed is None else f"{metric.seeds_needed:,}",
        ]

    _add_comparisons(grid, comparisons, several, cells)
    return grid


def _comparison_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """How to read the numbers of a comparison, and what differs between its sides beyond the methods."""
    first = comparisons[0]
    seeds = [f"{first.first}: seeds {', '.join(map(str, first.first_seeds))}"]
    seeds += [f"{c.second}: seeds {', '.join(map(str, c.second_seeds))}" for c in comparisons]
    single = any(1 in (len(c.first_seeds), len(c.second_seeds)) for c in comparisons)
    return [
        "; ".join(seeds) + ".",
        "gap: first - second; interval: bootstrap over users, and over the seeds of a side with several.",
        "t, Wilc., perm.: p-values of the paired t-test, Wilcoxon's signed-rank test and the permutation test, all "
        f"two-sided, by Holm's method over {first.num_questions} question{'s' * (first.num_questions != 1)}. "
        f"Bold: t below {ALPHA}.",
        "gain: gap / second; d_z: gap / standard deviation of users' differences; better, worse, equal: users.",
        *([CLUSTERED] if first.num_cases > first.num_users else []),
        f"users, seeds: needed for p < {ALPHA} in {100 * POWER:.0f} of 100 evaluations if the true gap were this one; "
        f"seeds on either side, users aside{'; unknown (–) from one seed' * single}.",
        *first.notes,
    ]
