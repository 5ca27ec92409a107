"""The report's section on hyper-parameter search: the studies of a data set, their costs and their best configs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.cli.sweep_progress import shown
from harness.errors import UsageError
from harness.methods import method_named
from results.report import Section
from results.report.blocks import Block, DataCell, DataColumn, DataRow, DataTable, Facts, Folded, Heading, Prose
from results.report.pictures import made, picture_of
from results.tables.marks import UNKNOWN
from results.terminal.quantities import duration
from sweeps.figures import hyperparameters_figure, sweep_figure
from sweeps.summaries import cost_of, importances, note_of, state_of, trials_frame
from sweeps.trials import RECALL

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from sweeps.summaries import StudySummary

LONG_NOTE = 40  # characters beyond which a trial's note is wrapped


def sweeps_section(studies: Sequence[StudySummary]) -> Section | None:
    """All studies in one table, then each one's best config and trials; None where there are no studies."""
    if not studies:
        return None
    blocks: list[Block] = [_studies_table(studies)]
    for method in dict.fromkeys(study.sweep.method for study in studies if study.sweep.curve):
        figures = made(partial(hyperparameters_figure, studies, studies[0].sweep.dataset, method), UsageError)
        blocks += [picture_of(figure, f"{figure.name}-{method}") for figure in figures]
    for study in studies:
        figures = () if study.sweep.curve else made(partial(sweep_figure, study), UsageError)
        blocks += [Heading(study.name), Prose(_told(study)), *_best(study), *map(picture_of, figures), _trials(study)]
    return Section("Hyper-parameter search", tuple(blocks))


def _studies_table(studies: Sequence[StudySummary]) -> DataTable:
    columns = (
        DataColumn("Method", is_number=False),
        *map(DataColumn, ("Trials", "Complete", "Pruned", "Failed", "Epochs", "Time", "Peak memory", "Best")),
    )
    rows = []
    for study in studies:
        title, counts = method_named(study.sweep.method).title, study.counts
        cells = [DataCell(title, title), DataCell(f"{study.ended} of {study.budget}", study.ended)]
        cells += [DataCell(str(counts[state]), counts[state]) for state in ("complete", "pruned", "failed")]
        cells += [
            DataCell(f"{study.epochs:,}", study.epochs),
            DataCell(duration(study.seconds), study.seconds),
            DataCell(f"{study.peak_memory_mb:,.0f} MiB", study.peak_memory_mb),
            _score(None if study.best is None else study.best.value),
        ]
        rows.append(DataRow(study.name, tuple(cells)))
    notes = ("Best: NDCG@10 on the validation items. Time: of all trials' processes. The test items were not read.",)
    return DataTable("studies", "Studies", "Study", columns, tuple(rows), notes=notes)


def _told(study: StudySummary) -> str:
    """How the study searched, and which fields decided."""
    sweep = study.sweep
    told = (
        f"{method_named(sweep.method).title}, preset {sweep.preset}, recipe {sweep.recipe}, seed {sweep.seed}; "
        f"sampler {sweep.sampler}, pruner {sweep.pruner}."
    )
    shares = ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in importances(study).items())
    few = study.counts["complete"]
    return told + (f" Importance of the fields, from {few} complete trials (PED-ANOVA): {shares}." if shares else "")


def _best(study: StudySummary) -> list[Block]:
    if study.best is None:
        return [Prose("No trial is complete.")]
    best = study.best
    recall = best.user_attrs.get(RECALL)
    found = [("best trial", str(best.number)), ("NDCG@10, validation", f"{best.value:.4f}")]
    found += [] if recall is None else [("Recall@10, validation", f"{recall:.4f}")]
    return [Facts((*found, *((name, shown(value)) for name, value in best.params.items())))]


def _trials(study: StudySummary) -> Folded:
    fields = list(study.sweep.space.fields)
    columns = (
        DataColumn("State", is_number=False),
        DataColumn("NDCG@10"),
        *[DataColumn(name) for name in fields],
        DataColumn("Epochs"),
        DataColumn("Time"),
        DataColumn("Note", is_number=False),
    )
    table = DataTable(
        f"trials-{study.name}",
        f"Trials of {study.name}",
        "Trial",
        columns,
        tuple(_trial_row(trial, fields) for trial in study.trials),
        csv=trials_frame(study).write_csv(),
    )
    return Folded(f"All {len(study.trials)} trials", (table,))


def _trial_row(trial: FrozenTrial, fields: Sequence[str]) -> DataRow:
    cost, state, note = cost_of(trial), state_of(trial), note_of(trial)
    cells = [
        DataCell(state, state),
        _score(trial.value if state == "complete" else None),
        *[_field(trial.params.get(name)) for name in fields],
        DataCell(f"{cost['epochs']:,.0f}", cost["epochs"]),
        DataCell(duration(cost["seconds"]), cost["seconds"]),
        DataCell(note, note or None, is_long=len(note) > LONG_NOTE),
    ]
    return DataRow(str(trial.number), tuple(cells))


def _field(value: Any) -> DataCell:
    if value is None:
        return DataCell(UNKNOWN)
    return DataCell(shown(value), float(value) if isinstance(value, int | float) else shown(value))


def _score(value: float | None) -> DataCell:
    return DataCell(UNKNOWN) if value is None else DataCell(f"{value:.4f}", value)
