"""The paper's Tables 2 to 4, made from runs on disk.

What a star means (paired two-sided t-test on per-user values, p < 0.01; seeds are averaged per user first):
- overall table: on a column's best value, that it differs from its strongest rival, the best of the other rows (for
  ETEGRec that is the best baseline, as in the paper); on the improvement line, that ETEGRec differs from the best
  baseline, for better or worse. One comparison a column, not corrected over columns, as in the paper.
- ablation table: on a variant's value, that it differs from the full method, for better or worse; p-values are
  corrected by Holm's method over the variants of a column, since each is one of a family of questions.

Shape legend: S seeds, U users.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from results import published as paper
from results.errors import ResultsError
from results.metrics import user_values
from results.selection import Group, check_same_cases, rank_matrix, select_runs
from results.stats import holm, mean_over_seeds, paired_t_test
from results.table import DECIMALS, Cell, Column, Row, Table, Unit

MetricColumn = tuple[str, int]  # metric, k

PAPER_COLUMNS: tuple[MetricColumn, ...] = (("Recall", 5), ("Recall", 10), ("NDCG", 5), ("NDCG", 10))
METHOD_ORDER = ("popularity", "markov", "sasrec", "tiger", "tiger-sas", "letter", "etegrec")
VARIANT_ORDER = ("full", "wo-sia", "wo-psa", "wo-sia-psa", "wo-at", "wo-at-finetuned", "wo-ete")
PROPOSED = "etegrec"
ALPHA = 0.01


@dataclass(frozen=True)
class Line:
    """One method or variant: its label, its runs, and its per-user values by column."""

    label: str
    group: Group
    values: tuple[np.ndarray, ...]  # one (S, U) matrix per column


def overall_table(
    runs_dir: Path,
    dataset: str,
    *,
    columns: Sequence[MetricColumn] = PAPER_COLUMNS,
    configs: Collection[str] = (),
    contract: str | None = None,
    preset: str | None = None,
    published: bool = False,
    paper_dataset: str | None = None,
) -> Table:
    """Table 3: every unchanged method on one data set, in the paper's order, others after.

    `published` puts the paper's values beside ours where the data set is one of the paper's; `paper_dataset` names
    the one to compare with instead. Errors as in `select_runs`.
    """
    selection = select_runs(runs_dir, dataset, variant="full", configs=configs, contract=contract, preset=preset)
    lines = [_line(group, group.record.title, columns) for group in selection.groups]
    lines.sort(key=lambda line: _place(line.group.record.method, METHOD_ORDER))
    _check_one_population(lines)
    rows = _mark(_rows(lines))
    rows, comparisons = _star_best(rows, lines)
    improvement = _improvement(lines)
    reference, reference_note = _reference(dataset, published, paper_dataset, "overall")
    rows = [_with_published(row, columns, reference) for row in rows]
    notes = [
        *_reading_notes(lines),
        *comparisons,
        *([] if improvement is None else [improvement[1]]),
        *selection.notes,
        *reference_note,
        *_preset_note(lines, reference),
    ]
    return Table(
        caption=f"Overall performance on {_dataset_label(lines[0])}",
        corner="Method",
        columns=_headings(columns),
        rows=(*rows, *([] if improvement is None else [improvement[0]])),
        notes=tuple(notes),
    )


def ablation_table(
    runs_dir: Path,
    dataset: str,
    *,
    method: str = PROPOSED,
    columns: Sequence[MetricColumn] = PAPER_COLUMNS,
    configs: Collection[str] = (),
    contract: str | None = None,
    preset: str | None = None,
    published: bool = False,
    paper_dataset: str | None = None,
) -> Table:
    """Table 4: a method and its variants on one data set, in the paper's order, others after; as `overall_table`."""
    selection = select_runs(runs_dir, dataset, method=method, configs=configs, contract=contract, preset=preset)
    lines = [_line(group, _variant_label(group), columns) for group in selection.groups]
    lines.sort(key=lambda line: _place(line.group.record.variant, VARIANT_ORDER))
    _check_one_population(lines)
    rows, star_note = _star_variants(_mark(_rows(lines)), lines)
    reference, reference_note = _reference(dataset, published, paper_dataset, "ablation")
    return Table(
        caption=f"Ablation study of {lines[0].group.record.title} on {_dataset_label(lines[0])}",
        corner="Variant",
        columns=_headings(columns),
        rows=tuple(_with_published(row, columns, reference) for row in rows),
        notes=(
            *_reading_notes(lines),
            star_note,
            *selection.notes,
            *reference_note,
            *_preset_note(lines, reference),
        ),
    )


def datasets_table(counts: Mapping[str, Mapping[str, Any]], *, published: bool = False) -> Table:
    """Table 2: data set name → `users`, `items`, `interactions`, and `synthetic` where the data are made up.

    Sparsity is 100 (1 - interactions / (users items)) per cent.
    """
    if not counts:
        raise ResultsError("a table of data sets needs at least one, but got none; prepare one first")
    rows, notes = [], []
    for name, count in counts.items():
        users, items, interactions = (int(count[key]) for key in ("users", "items", "interactions"))
        sparsity = 100.0 * (1.0 - interactions / (users * items))
        values = (users, items, interactions, sparsity, interactions / users)
        printed = paper.datasets().get(paper.PAPER_DATASETS.get(name, "")) if published else None
        known = (*printed, printed.interactions / printed.users) if printed else (None,) * len(values)
        if published and printed is None:
            notes.append(f"The paper prints no numbers for {name}.")
        cells = tuple(_against(Cell(value=v), p) for v, p in zip(values, known, strict=True))
        rows.append(Row(f"{name} (synthetic)" if count.get("synthetic") else name, cells))
    columns = (
        Column("Users", Unit.COUNT),
        Column("Items", Unit.COUNT),
        Column("Interactions", Unit.COUNT),
        Column("Sparsity", Unit.PERCENT),
        Column("Length", Unit.MEAN),
    )
    notes.append("Length: mean number of interactions of a user.")
    return Table("Statistics of the data sets", "Data set", columns, tuple(rows), tuple(notes))


def _line(group: Group, label: str, columns: Sequence[MetricColumn]) -> Line:
    ranks_SU = rank_matrix(group)
    length = group.runs[0].list_length
    return Line(label, group, tuple(user_values(ranks_SU, metric, k, length) for metric, k in columns))


def _check_one_population(lines: Sequence[Line]) -> None:
    """`ResultsError` unless all lines were judged on the same users and targets, which pairing needs."""
    first_run = lines[0].group.runs[0]
    first = _cases(lines[0])
    for line in lines[1:]:
        check_same_cases(first, _cases(line), first_run, line.group.runs[0])


def _cases(line: Line) -> pl.DataFrame:
    return line.group.runs[0].ranks(["user", "target"]).sort("user")


def _place(name: str, order: Sequence[str]) -> tuple[int, str]:
    """Sort key: the known names in their order, then the others by name."""
    name = name.casefold().replace("_", "-")
    return (order.index(name) if name in order else len(order), name)


def _variant_label(group: Group) -> str:
    record = group.record
    return record.title if record.variant == "full" else record.variant_title


def _dataset_label(line: Line) -> str:
    record = line.group.record
    return f"{record.dataset} (synthetic)" if record.synthetic else record.dataset


def _headings(columns: Sequence[MetricColumn]) -> tuple[Column, ...]:
    return tuple(Column(f"{metric}@{k}") for metric, k in columns)


def _rows(lines: Sequence[Line]) -> list[Row]:
    return [Row(line.label, tuple(_cell(values_SU) for values_SU in line.values)) for line in lines]


def _cell(values_SU: np.ndarray) -> Cell:
    """Mean over seeds and users, and the standard deviation of the seeds' means."""
    means_S = values_SU.mean(axis=1)
    std = float(means_S.std(ddof=1)) if len(means_S) > 1 else None
    return Cell(value=float(means_S.mean()), std=std, seeds=len(means_S))


def _mark(rows: Sequence[Row]) -> list[Row]:
    """The rows with each column's best and second marked; values that print alike share a mark."""
    printed = np.array([[round(cell.value or 0.0, DECIMALS) for cell in row.cells] for row in rows])
    best = printed.max(axis=0)
    below = np.where(printed < best, printed, -np.inf).max(axis=0)
    if len(rows) == 1:
        return list(rows)
    return [
        replace(
            row,
            cells=tuple(
                replace(cell, best=bool(value == top), second=bool(value == next_))
                for cell, value, top, next_ in zip(row.cells, values, best, below, strict=True)
            ),
        )
        for row, values in zip(rows, printed, strict=True)
    ]


def _star_best(rows: Sequence[Row], lines: Sequence[Line]) -> tuple[list[Row], list[str]]:
    """The rows with a star on each column's best value where it differs from the best of the other rows."""
    if len(lines) < 2:
        return list(rows), []
    cells = [list(row.cells) for row in rows]
    for column in range(len(rows[0].cells)):
        order = np.argsort([-line.values[column].mean() for line in lines], kind="stable")
        winner, rival = lines[order[0]], lines[order[1]]
        test = paired_t_test(mean_over_seeds(winner.values[column]), mean_over_seeds(rival.values[column]))
        cells[order[0]][column] = replace(
            cells[order[0]][column], p_value=test.p_value, significant=test.p_value < ALPHA
        )
    note = f"*: the best differs from the best of the other rows, p < {ALPHA} (paired two-sided t-test over users)."
    return [replace(row, cells=tuple(made)) for row, made in zip(rows, cells, strict=True)], [note]


def _improvement(lines: Sequence[Line]) -> tuple[Row, str] | None:
    """The proposed method's change over the best baseline, in per cent, and its note; None without the two."""
    proposed = [line for line in lines if line.group.record.method == PROPOSED]
    baselines = [line for line in lines if line.group.record.method != PROPOSED]
    if not proposed or not baselines:
        return None
    cells, names = [], []
    for column, values_SU in enumerate(proposed[0].values):
        best = max(baselines, key=lambda line: line.values[column].mean())
        names.append(best.label)
        base = float(best.values[column].mean())
        test = paired_t_test(mean_over_seeds(values_SU), mean_over_seeds(best.values[column]))
        change = 100.0 * (float(values_SU.mean()) - base) / base if base else None
        cells.append(Cell(value=change, p_value=test.p_value, significant=test.p_value < ALPHA))
    best_names = ", ".join(names) if len(set(names)) > 1 else names[0]
    note = f"Improvement: {proposed[0].label} over the best baseline of each column ({best_names}), * as above."
    return Row("Improvement", tuple(cells), Unit.CHANGE, apart=True), note


def _star_variants(rows: Sequence[Row], lines: Sequence[Line]) -> tuple[list[Row], str]:
    """The rows with a star on each variant's value that differs from the full method's."""
    full = [line for line in lines if line.group.record.variant == "full"]
    if not full or len(lines) == 1:
        missing = "the full method" if not full else "a variant"
        return list(rows), f"No test against the full method: {missing} has no finished run."
    variants = [index for index, line in enumerate(lines) if line.group.record.variant != "full"]
    cells = [list(row.cells) for row in rows]
    for column, values_SU in enumerate(full[0].values):
        reference_U = mean_over_seeds(values_SU)
        tests = [paired_t_test(mean_over_seeds(lines[index].values[column]), reference_U) for index in variants]
        for index, p_value in zip(variants, holm(np.array([test.p_value for test in tests])), strict=True):
            cell = cells[index][column]
            cells[index][column] = replace(cell, p_value=float(p_value), significant=bool(p_value < ALPHA))
    note = (
        f"*: differs from {full[0].label}, p < {ALPHA} (paired two-sided t-test over users, "
        "Holm's correction over the variants of a column)."
    )
    return [replace(row, cells=tuple(made)) for row, made in zip(rows, cells, strict=True)], note


def _reading_notes(lines: Sequence[Line]) -> list[str]:
    """How to read the values: seeds, marks, contract."""
    record = lines[0].group.record
    contract = ", ".join(f"{name}={value}" for name, value in record.contract.items())
    most = max(len(line.group.seeds) for line in lines)
    spread = "Mean ± standard deviation over seeds." if most > 1 else "One seed: training randomness is not measured."
    return [
        spread,
        f"{lines[0].values[0].shape[1]:,} users; contract {record.contract_digest}: {contract}.",
    ]


def _reference(
    dataset: str, published: bool, paper_dataset: str | None, table: Literal["overall", "ablation"]
) -> tuple[paper.Published, list[str]]:
    """The paper's values for the data set, empty where it has none, and a note on the comparison."""
    if not published and paper_dataset is None:
        return {}, []
    name = paper_dataset or paper.PAPER_DATASETS.get(dataset)
    if name is None:
        known = ", ".join(f"{ours} → {theirs}" for ours, theirs in paper.PAPER_DATASETS.items())
        return {}, [f"The paper prints no numbers for {dataset} (its data sets: {known})."]
    if name not in paper.datasets():
        raise ResultsError(f"unknown data set of the paper '{name}'; known: {', '.join(paper.datasets())}")
    note = f"Paper: published value on {name}; difference: ours - paper."
    if paper.PAPER_DATASETS.get(dataset) != name:
        note += f" {dataset} is other data than the paper's {name}."
    return (paper.overall if table == "overall" else paper.ablation)(name), [note]


def _preset_note(lines: Sequence[Line], reference: paper.Published) -> list[str]:
    """A warning where the paper's values stand beside runs of other sizes and schedules than the paper's."""
    presets = sorted({line.group.record.preset for line in lines} - {"paper"})
    if not reference or not presets:
        return []
    return [f"Not at the paper's sizes and schedules: preset {', '.join(presets)}."]


def _with_published(row: Row, columns: Sequence[MetricColumn], reference: paper.Published) -> Row:
    cells = zip(row.cells, columns, strict=True)
    return replace(row, cells=tuple(_against(cell, reference.get((row.label, *column))) for cell, column in cells))


def _against(cell: Cell, printed: float | None) -> Cell:
    """The cell with the paper's value and our difference from it, where there is one."""
    if printed is None or cell.value is None:
        return cell
    return replace(cell, published=float(printed), difference=cell.value - printed)
