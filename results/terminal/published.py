"""Published figures, and what our runs say of them, on a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from results.published.registry import Counts, Figure, reports
from results.published.verdicts import Check
from results.tables.content import DECIMALS
from results.tables.marks import UNKNOWN
from results.terminal.grids import headed_grid

SHOWN = (("Recall", 5), ("Recall", 10), ("NDCG", 5), ("NDCG", 10))


def figures_view(figures: Sequence[Figure], counts: Mapping[str, Counts]) -> RenderableType:
    """The figures of each data set: a line for each source, method and variant."""
    parts: list[RenderableType] = []
    for dataset in dict.fromkeys(figure.dataset for figure in figures):
        users, items, interactions = counts[dataset]
        own = [figure for figure in figures if figure.dataset == dataset]
        parts += [Text(f"{dataset}: {users:,} users, {items:,} items, {interactions:,} interactions", "bold")]
        parts += [_figures_grid(own), Text()]
    kinds = "Kinds: paper, repository (its own page), reproduction (by others), transcription (copied by others)."
    return Group(*parts, Text(f"{kinds} Empty rules: the source does not state them.", "dim"))


def _figures_grid(figures: Sequence[Figure]) -> Grid:
    columns = list(dict.fromkeys([*SHOWN, *((figure.metric, figure.k) for figure in figures)]))
    columns = [column for column in columns if any((f.metric, f.k) == column for f in figures)]
    grid = _grid(["Source", "Kind", "Method"], [f"{metric}@{k}" for metric, k in columns], ["Rules"])
    for members in reports(figures):
        first = members[0]
        values = {(figure.metric, figure.k): figure.value for figure in members}
        method = f"{first.method} ({first.variant})" if first.variant else first.method
        shown = [f"{values[column]:.{DECIMALS}f}" if column in values else UNKNOWN for column in columns]
        grid.add_row(*map(Text, [first.source, first.kind, method, *shown, rules_told(first)]))
    return grid


def rules_told(figure: Figure) -> str:
    """What a source states of its rules: history out, 50 items, 20 beams, 5 seeds."""
    rules = figure.rules
    masked = {True: "history left out", False: "history kept", None: ""}[rules.history_masked]
    told = [masked, f"{rules.max_history} items" if rules.max_history else ""]
    told += [f"{rules.beams} beams" if rules.beams else "", f"{figure.seeds} seeds" if figure.seeds else ""]
    return ", ".join(filter(None, told))


def checks_view(checks: Sequence[Check], dataset: str, published_as: str) -> RenderableType:
    """Each figure that a run of ours speaks to, what of the others there is, and how many verdicts of each kind."""
    grid = _grid(["Method", "Source"], ["Metric", "Theirs", "Ours", "%", "SE"], ["Verdict"])
    reasons: dict[str, int] = {}  # told below the table, each once
    for check in [check for check in checks if check.ours is not None]:
        figure = check.figure
        verdict, _, reason = check.verdict.partition(", because ")
        if check.unstated and not check.differences:
            reason = "; ".join(filter(None, [reason, f"the source does not state: {', '.join(check.unstated)}"]))
        mark = f" ({reasons.setdefault(reason, len(reasons) + 1)})" if reason else ""
        grid.add_row(
            Text(_ours(check)),
            Text(figure.label),
            Text(f"{figure.metric}@{figure.k}"),
            Text(f"{figure.value:.{DECIMALS}f}"),
            Text(_number(check.value, f".{DECIMALS}f")),
            Text(_number(check.percent, "+.1f")),
            Text(_number(check.standard_errors, "+.1f")),
            Text(verdict + mark),
        )
    absent = [check.figure for check in checks if check.ours is None]
    notes = [f"({number}) {reason}." for reason, number in reasons.items()]
    if absent:
        methods = ", ".join(dict.fromkeys(figure.method for figure in absent))
        notes.append(f"No run of ours: {methods} ({len(absent)} figures).")
    kinds = Counter(check.verdict.partition(", because ")[0] for check in checks if check.ours is not None)
    notes.append("Verdicts: " + (", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none") + ".")
    notes.append(
        "%: ours - theirs, in per cent of theirs. SE: ours - theirs, in standard errors: of our mean over users and "
        "seeds, and of theirs over its seeds where it states their spread."
    )
    called = "" if dataset == published_as else f", which is {published_as} by its counts"
    title = Text(f"Published figures against runs on {dataset}{called}", "bold")
    return Group(title, *([grid] if grid.row_count else []), Text(), *[Text(note, "dim") for note in notes])


def _ours(check: Check) -> str:
    """SASRec (lite, history removed)."""
    about = ", ".join(filter(None, [check.preset, "history removed" if check.history_removed else ""]))
    return f"{check.ours} ({about})" if about else check.ours or ""


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _grid(left: Sequence[str], numbers: Sequence[str], wide: Sequence[str]) -> Grid:
    grid = headed_grid(*left, overflow="fold", max_width=28)
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    for name in wide:
        grid.add_column(name, overflow="fold")
    return grid
