"""What `harness sweep` prints of stored studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.cli.sweep_progress import shown, told_params
from harness.methods import method_named
from results.terminal.grids import headed_grid
from results.terminal.quantities import duration
from sweeps.summaries import MIN_FOR_IMPORTANCE, StudySummary, cost_of, importances, note_of, state_of
from sweeps.trials import RECALL

GAP = 2  # columns between two of a table
WITHOUT_FIELDS = 64  # columns of the table of trials beside the searched fields, with room for a note


def described(study: StudySummary) -> dict[str, Any]:
    """A study as plain JSON."""
    best = study.best
    return {
        "name": study.name,
        "method": study.sweep.method,
        "dataset": study.sweep.dataset,
        "trials": study.budget,
        "ended": study.ended,
        "counts": study.counts,
        "epochs": study.epochs,
        "seconds": study.seconds,
        "peak_memory_mb": study.peak_memory_mb,
        "best": best
        and {
            "number": best.number,
            "NDCG@10": best.value,
            "Recall@10": best.user_attrs.get(RECALL),
            "params": best.params,
        },
    }


def studies_table(studies: Sequence[StudySummary], width: int) -> RenderableType:
    """A row per study: what its trials came to, what they cost, and the best of them.

    Other commands take a study's name, so it is never broken: where a console of so many columns has no room for it
    beside the numbers, it stands above them.
    """
    headings = ("Trials", "Done", "Pruned", "Failed", "Epochs", "Time", "MiB", "Best")
    rows = [_summary_cells(study) for study in studies]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    is_wide = max(len(study.name) for study in studies) + sum(GAP + number for number in widths) <= width
    if is_wide:
        grid = _grid("Study", *headings)
        for study, cells in zip(studies, rows, strict=True):
            grid.add_row(study.name, *cells)
        table: list[RenderableType] = [grid]
    else:
        head, *lines = (_in_columns(cells, widths) for cells in (headings, *rows))
        table = [Text(head, "bold"), Text("─" * len(head))]
        for study, line in zip(studies, lines, strict=True):
            table += [Text(study.name), Text(line)]
    note = Text(
        "Best: validation NDCG@10. Time: of all trials' processes. MiB: the most that one held. "
        "The test split was not read.",
        "dim",
    )
    return Group(*table, note)


def _in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(" " * GAP + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _summary_cells(study: StudySummary) -> tuple[str, ...]:
    counts, best = study.counts, study.best
    return (
        f"{study.ended}/{study.budget}",
        *(str(counts[state]) for state in ("complete", "pruned", "failed")),
        f"{study.epochs:,}",
        duration(study.seconds),
        f"{study.peak_memory_mb:,.0f}",
        "" if best is None else f"{best.value:.4f}",
    )


def study_panel(study: StudySummary, width: int) -> RenderableType:
    """A study's head, its trials, importances and cost, for a console of so many columns."""
    sweep = study.sweep
    head = (
        f"{study.name}\n{method_named(sweep.method).title} on {sweep.dataset}, preset {sweep.preset}, recipe "
        f"{sweep.recipe}, seed {sweep.seed}; sampler {sweep.sampler}, pruner {sweep.pruner}; "
        f"{study.ended} of {study.budget} trials ended\n"
    )
    return Group(Text(head), trials_table(study, width), Text(), _importances(study), _cost(study))


def trials_table(study: StudySummary, width: int) -> RenderableType:
    """A row per trial; the best one is bold, and what a pruned one reached last is shown too.

    A column per searched field where so many columns of the console have room for them, else one for all fields.
    """
    fields = list(study.sweep.space.fields)
    headings = [name.replace(".", ".\n").replace("_", "_\n").rstrip("_\n") for name in fields]
    is_wide = WITHOUT_FIELDS + sum(max(map(len, heading.split("\n"))) + 1 for heading in headings) <= width
    grid = _grid("#", "State", "NDCG@10", *(headings if is_wide else []), "Epochs", "Time", "Note")
    if not is_wide:
        grid.columns[-1].header = "Fields, note"
    for trial in study.trials:
        is_best = study.best is not None and trial.number == study.best.number
        cost = cost_of(trial)
        listed = told_params(trial) if not is_wide else ""
        cells = [
            str(trial.number),
            state_of(trial),
            "" if trial.value is None else f"{trial.value:.4f}",
            *((shown(trial.params[name]) if name in trial.params else "" for name in fields) if is_wide else ()),
            str(int(cost["epochs"])),
            duration(cost["seconds"]),
            "; ".join(part for part in (listed, note_of(trial)) if part),
        ]
        style = "bold" if is_best else "" if state_of(trial) == "complete" else "dim"
        grid.add_row(*[Text(cell, style) for cell in cells])
    return grid


def _importances(study: StudySummary) -> Text:
    found = importances(study)
    if not found:
        return Text(
            f"Importance of the fields: not told; it takes {MIN_FOR_IMPORTANCE} complete trials or more that differ.",
            "dim",
        )
    listed = ", ".join(f"{name} {share:.0%}" for name, share in found.items())
    few = f" From {study.counts['complete']} complete trials, so take it as a hint." if study.ended < 30 else ""
    return Text(f"Importance of the fields: {listed} (PED-ANOVA).{few}")


def _cost(study: StudySummary) -> Text:
    counts = ", ".join(f"{number} {state}" for state, number in study.counts.items() if number)
    return Text(
        f"Cost: {counts or 'no trial'}; {study.epochs:,} epochs, {duration(study.seconds)} of processes, peak memory "
        f"{study.peak_memory_mb:,.0f} MiB."
    )


def _grid(*headings: str) -> Table:
    """An empty table; the first and the last column fold where the console is narrow, the numbers between do not."""
    grid = headed_grid()
    for place, name in enumerate(headings):
        is_outer = place in (0, len(headings) - 1)
        grid.add_column(name, justify="left" if is_outer else "right", no_wrap=not is_outer, overflow="fold")
    return grid
