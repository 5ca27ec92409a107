"""The sections of a report that the store alone can give; each is None where there is nothing to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from results.figures.rendering import Figure
from results.report.blocks import (
    Block,
    Bullets,
    DataCell,
    DataColumn,
    DataRow,
    DataTable,
    Facts,
    Folded,
    Heading,
    Prose,
    as_csv,
)
from results.report.material import Board, Material
from results.report.page import Section
from results.report.pictures import picture_of
from results.report.verdicts import against_paper, summary
from results.store.runs import Run
from results.store.selection import RowRuns
from results.tables.content import DECIMALS, Table, TableCell, TableRow, Unit, format_difference, format_value
from results.tables.render import DIFFERENCE, PAPER, UNKNOWN, to_csv
from results.terminal.panels import duration

COUNTS = {
    "users": "users",
    "items": "items",
    "interactions": "interactions",
    "sparsity_percent": "sparsity, per cent",
    "train_samples": "training samples",
    "mean_length": "mean length of a history",
    "max_length": "longest history",
    "cold_items": "items without a training interaction",
}
RECIPES = {
    "default": "where the paper and the authors' code differ, this harness's choice is taken (recipe default)",
    "paper": "where the paper and the authors' code differ, the paper is followed (recipe paper)",
    "official": "where the paper and the authors' code differ, the code is followed (recipe official)",
}

PRESET_TUNING = "What was tried for the presets' own values is told in the harness's docs/decisions.md."
# METHODS F.
UNKNOWN_OF_THE_PAPER = (
    "Not known of the paper's numbers: of how many seeds they are means, and how its t-test was paired."
)
# METHODS E.4: what others found with the authors' code.
REPRODUCTIONS = {
    "Scientific": "Independent reproductions with the released code report Recall@10 from 0.0433 to 0.0440 and NDCG@10 "
    "from 0.0229 to 0.0232 on Scientific, below the paper's own 0.0455 and 0.0241."
}


def summary_section(material: Material) -> Section:
    """Who leads and by how much, whether gaps are real, and what speaks against the paper."""
    contrary = against_paper(material)
    blocks: list[Block] = [Bullets(tuple(summary(material)))]
    if contrary:
        blocks += [Heading("What goes against the paper"), Bullets(tuple(contrary))]
    return Section("Summary", tuple(blocks))


def setting_section(material: Material, counts: Mapping[str, Any] | None) -> Section:
    """The data, the contract, and the machine; `counts` of the prepared data set where it is still there."""
    record = material.groups[0].record
    facts = [
        ("data set", f"{record.dataset} (synthetic: made-up data)" if record.synthetic else record.dataset),
        ("fingerprint", record.dataset_fingerprint),
        ("users judged", f"{len(material.runs[0].ranks(['rank'])):,}"),
    ]
    if counts is not None:
        facts += [(told, _number(counts[key])) for key, told in COUNTS.items() if key in counts]
    contract = ", ".join(f"{name} {value}" for name, value in record.contract.items())
    runs = [run.record for run in material.runs]
    facts += [
        ("contract", f"{contract} (digest {record.contract_digest})"),
        ("rows", f"{len(material.groups)}, {len(runs)} finished runs"),
        *([("unfinished", f"{material.num_unfinished} runs, not counted here")] if material.num_unfinished else []),
        ("seeds", _distinct(", ".join(map(str, group.seeds)) for group in material.groups)),
        ("preset", _distinct(one.preset for one in runs)),
        ("recipe", _distinct(one.recipe for one in runs)),
        ("device", _distinct(f"{one.device}, {one.threads} thread{'s' * (one.threads != 1)}" for one in runs)),
        ("made", _span(one.created for one in runs)),
    ]
    facts += _environment_facts(run.environment() for run in material.runs)
    return Section("What was run", (Facts(tuple(facts)),))


def leaderboard_section(material: Material) -> Section | None:
    """The overall table with intervals."""
    if material.overall is None:
        return None
    table = board_table(material.overall, "leaderboard", material.overall.table)
    return Section("Leaderboard", (table,))


def ablation_section(material: Material) -> Section | None:
    """The ablation tables with intervals, and each variant's difference from the full method."""
    blocks: list[Block] = []
    for board in material.ablations:
        method = next(iter(board.groups.values())).record.method
        blocks.append(board_table(board, f"ablation-{method}", board.table))
        blocks += _delta_tables(board, f"ablation-deltas-{method}")
        blocks += [picture_of(figure, f"{figure.name}-{method}") for figure in board.figures]
    return Section("Ablations", tuple(blocks)) if blocks else None


def slices_section(material: Material) -> Section | None:
    """The overall table for parts of the users; None where runs kept nothing to cut them by."""
    told = () if material.overall is None else material.overall.table.notes
    blocks: list[Block] = [
        _slices_table(table, f"slices-{place}", told) for place, table in enumerate(material.slices, 1)
    ]
    blocks += map(picture_of, material.unseen_users)
    return Section("Slices of the users", tuple(blocks)) if blocks else None


def curves_section(material: Material) -> Section | None:
    """How training went: last losses and best validation scores of each stage."""
    rows = [row for group in material.groups for run in group.runs for row in _stage_rows(group, run)]
    if not rows:
        return None
    columns = (
        DataColumn("Seed"),
        DataColumn("Stage", is_number=False),
        DataColumn("Trained", is_number=False),
        DataColumn("Epochs"),
        DataColumn("First loss"),
        DataColumn("Last loss"),
        DataColumn("Best score"),
        DataColumn("At epoch"),
    )
    table = DataTable(
        "training",
        "Losses and validation scores by stage",
        "Run",
        columns,
        tuple(rows),
        notes=("Score: NDCG@10 on the validation items. Losses of different methods and stages are not comparable.",),
        csv=_history_csv(material),
    )
    return Section("Training curves", (*_pictures(material.curves), table))


def health_section(material: Material) -> Section | None:
    """Use of the codes, and how many items changed their codes while the tokenizer was trained."""
    coded = [(group, run) for group in material.groups for run in group.runs if "used_codes" in run.record.health]
    if not coded:
        return None
    columns = (
        DataColumn("Seed"),
        DataColumn("Codes used, per level", is_number=False),
        DataColumn("Perplexity, per level", is_number=False),
        DataColumn("Collisions"),
        DataColumn("Largest group"),
        DataColumn("Invalid"),
    )
    blocks: list[Block] = [
        *_pictures(material.codes),
        DataTable(
            "tokenizer-health",
            "Use of the codes after training",
            "Run",
            columns,
            tuple(_health_row(group, run) for group, run in coded),
            notes=(
                "Perplexity: how many codes of a level would be used, were they used equally often.",
                "Collisions: share of items that share their codes with another before the de-duplication level; "
                "largest group: most items with the same codes; invalid: share of generated sequences that are no "
                "item.",
            ),
        ),
    ]
    changes = [row for group, run in coded if (row := _change_row(group, run)) is not None]
    if changes:
        blocks.append(
            DataTable(
                "codes-changed",
                "Share of items whose codes changed in a tokenizer epoch",
                "Run",
                (
                    DataColumn("Seed"),
                    DataColumn("Epochs"),
                    DataColumn("First"),
                    DataColumn("Mean"),
                    DataColumn("Last"),
                ),
                tuple(changes),
                csv=_quantity_csv(material, "measure/codes_changed"),
            )
        )
        blocks.append(Folded("Every tokenizer epoch", (_changes_by_epoch(coded),)))
    return Section("Tokenizer health", tuple(blocks))


def published_section(material: Material) -> Section | None:
    """Our numbers beside the paper's, where its data set has a like name."""
    boards = [board for board in (material.overall, *material.ablations) if board and board.against_paper]
    blocks: list[Block] = []
    for board in boards:
        assert board.against_paper is not None
        if any(cell.published is not None for row in board.against_paper.rows for cell in row.cells):
            kind = "overall" if board is material.overall else "ablation"
            blocks.append(_published_table(board.against_paper, kind, material.paper_dataset))
    if blocks:
        blocks.append(Prose(UNKNOWN_OF_THE_PAPER))
    if blocks and material.paper_dataset in REPRODUCTIONS:
        blocks.append(Prose(REPRODUCTIONS[material.paper_dataset]))
    return Section("Published numbers", tuple(blocks)) if blocks else None


def cost_section(material: Material) -> Section:
    """Seconds by stage, epochs, memory and parameters of every row, means over its seeds."""
    stages = list(dict.fromkeys(stage for run in material.runs for stage in run.record.seconds))
    # What a run shares with others comes first, its own training and test last, as they were computed.
    stages = [stage for stage in stages if stage not in ("fit", "test")] + [s for s in ("fit", "test") if s in stages]
    columns = (
        *[DataColumn(stage) for stage in stages],
        *map(DataColumn, ("Total", "Epochs", "Memory", "Parameters")),
    )
    total = sum(sum(run.record.seconds.values()) for run in material.runs)
    notes = (
        "Seconds of wall-clock time by stage, means over seeds. A stage that several rows share, such as a tokenizer, "
        "was computed once and counts in each of them.",
        f"Sum of all rows and seeds, shared stages counted each time: {duration(total)}.",
        "Memory: the most that a process held, in MiB.",
    )
    rows = tuple(_cost_row(group, stages) for group in material.groups)
    pictures = () if material.overall is None else tuple(map(picture_of, material.overall.figures))
    return Section("Cost", (DataTable("cost", "Time, memory and size", "Row", columns, rows, notes=notes), *pictures))


def trials_section(material: Material) -> Section:
    """How many hyper-parameter trials preceded each run."""
    trials = {group.label: max(run.record.trials for run in group.runs) for group in material.groups}
    if not any(trials.values()):
        return Section("Tuning", (Prose(f"No run was preceded by a sweep's trials. {PRESET_TUNING}"),))
    rows = tuple(DataRow(label, (DataCell(f"{number:,}", number),)) for label, number in trials.items())
    table = DataTable("trials", "Hyper-parameter trials that preceded each row", "Row", (DataColumn("Trials"),), rows)
    return Section("Tuning", (table, Prose(PRESET_TUNING)))


def assumptions_section(material: Material) -> Section:
    """The recipe, and what stands in for what could not be had."""
    recipes = dict.fromkeys(group.record.recipe for group in material.groups)
    sentences = [_sentence(RECIPES.get(recipe, f"recipe {recipe}")) for recipe in recipes]
    by_text: dict[str, list[str]] = {}
    for group in material.groups:
        for text in dict.fromkeys(text for run in group.runs for text in run.record.assumptions):
            by_text.setdefault(text, []).append(group.label)
    sentences += [f"{_sentence(text)} Rows: {', '.join(labels)}." for text, labels in by_text.items()]
    return Section("Assumptions", (Bullets(tuple(sentences)),))


def board_table(board: Board, name: str, table: Table) -> DataTable:
    """A leaderboard whose values carry their 95 % bootstrap intervals."""
    rows: list[DataRow] = []
    foot: list[DataRow] = []
    for row in table.rows:
        group = board.groups.get(row.label)
        units = [row.unit or column.unit for column in table.columns]
        made = DataRow(row.label, tuple(map(_board_cell, row.cells, units)))
        (rows if group is not None else foot).append(made)
    legend = ("Bold: best; underlined: second best.",) if any(c.is_best for row in rows for c in row.cells) else ()
    return DataTable(
        name,
        table.caption,
        table.corner,
        tuple(DataColumn(column.name) for column in table.columns),
        tuple(rows),
        tuple(foot),
        (*legend, *table.notes),
        csv=to_csv(table),
    )


def _pictures(figures: Mapping[str, Figure]) -> list[Block]:
    """The first figure, and the others to be unfolded."""
    pictures = [(title, picture_of(figure, f"{figure.name}-{title}")) for title, figure in figures.items()]
    others = [Folded(f"The same of {title}", (picture,)) for title, picture in pictures[1:]]
    return [*[picture for _, picture in pictures[:1]], *others]


def _board_cell(cell: TableCell, unit: Unit) -> DataCell:
    if cell.value is None:
        return DataCell(UNKNOWN)
    has_interval = cell.low is not None and cell.high is not None
    return DataCell(
        format_value(cell.value, unit),
        cell.value,
        aside=_spread(cell, unit),
        below=f"[{cell.low:.{DECIMALS}f}, {cell.high:.{DECIMALS}f}]" if has_interval else "",
        hint=None if cell.p_value is None else f"p = {cell.p_value:.2g}",
        is_best=cell.best,
        is_second=cell.second,
        is_starred=cell.significant,
    )


def _spread(cell: TableCell, unit: Unit) -> str:
    return "" if cell.std is None else f" ± {format_value(cell.std, unit)}"


def _slices_table(table: Table, name: str, told: Sequence[str]) -> DataTable:
    """A sliced table without the notes `told` before; the slices' headings become a column, to be sorted by."""
    rows = tuple(
        DataRow(
            row.label,
            (
                DataCell(row.section, row.section),
                *map(_board_cell, row.cells, [column.unit for column in table.columns]),
            ),
        )
        for row in table.rows
        if row.unit is None
    )
    columns = (DataColumn("Slice", is_number=False), *[DataColumn(column.name) for column in table.columns])
    marked = any(cell.best for row in table.rows for cell in row.cells)
    legend = ("Bold: best of a slice; underlined: second best.",) if marked else ()
    notes = (*legend, *[note for note in table.notes if note not in told and not note.startswith("Improvement:")])
    return DataTable(name, table.caption, table.corner, columns, rows, notes=notes, csv=to_csv(table))


def _delta_tables(board: Board, name: str) -> list[Block]:
    """Variant minus full by metric; nothing where the full method or every variant is missing."""
    full = [row for row in board.table.rows if _is_full(board, row)]
    variants = [row for row in board.table.rows if row.label in board.groups and not _is_full(board, row)]
    if not full or not variants:
        return []
    rows = tuple(
        DataRow(
            row.label,
            tuple(
                _delta_cell(cell, base, column.unit)
                for cell, base, column in zip(row.cells, full[0].cells, board.table.columns, strict=True)
            ),
        )
        for row in variants
    )
    columns = tuple(DataColumn(column.name) for column in board.table.columns)
    caption = f"What each change adds or costs: variant minus {full[0].label}"
    notes = ("In small print: per cent of the full method's value. *: as in the table above.",)
    return [DataTable(name, caption, board.table.corner, columns, rows, notes=notes)]


def _delta_cell(cell: TableCell, base: TableCell, unit: Unit) -> DataCell:
    if cell.value is None or base.value is None:
        return DataCell(UNKNOWN)
    delta = cell.value - base.value
    below = f"{100 * delta / base.value:+.1f} %" if base.value else ""
    hint = None if cell.p_value is None else f"p = {cell.p_value:.2g}"
    return DataCell(format_difference(delta, unit), delta, below=below, hint=hint, is_starred=cell.significant)


def _is_full(board: Board, row: TableRow) -> bool:
    return row.label in board.groups and board.groups[row.label].record.variant == "full"


def _published_table(table: Table, kind: str, paper_dataset: str | None) -> DataTable:
    number = {"overall": 3, "ablation": 4}[kind]
    rows = []
    for row in table.rows:
        if row.unit is not None or all(cell.published is None for cell in row.cells):
            continue
        units = [column.unit for column in table.columns]
        ours = tuple(
            DataCell(UNKNOWN) if c.value is None else DataCell(format_value(c.value, u), c.value, _spread(c, u))
            for c, u in zip(row.cells, units, strict=True)
        )
        pairs = list(zip(row.cells, units, strict=True))
        printed = tuple(UNKNOWN if c.published is None else format_value(c.published, u) for c, u in pairs)
        differences = tuple(UNKNOWN if c.difference is None else format_difference(c.difference, u) for c, u in pairs)
        rows.append(DataRow(row.label, ours, ((PAPER, printed), (DIFFERENCE, differences))))
    lines = [["row", "column", "ours", "paper", "difference"]]
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell.published is not None:
                known = (cell.value, cell.published, cell.difference)
                lines.append([row.label, column.name, *(repr(value) for value in known)])
    return DataTable(
        f"published-{kind}",
        f"{table.caption}, beside the paper's Table {number} on {paper_dataset}",
        table.corner,
        tuple(DataColumn(column.name) for column in table.columns),
        tuple(rows),
        notes=tuple(note for note in table.notes if note.startswith(("Paper:", "Not at the paper's"))),
        csv=as_csv(lines),
    )


def _stage_rows(group: RowRuns, run: Run) -> list[DataRow]:
    """A row for each stage of training, and for each phase where a stage alternates between several."""
    rows = []
    for (stage, phase), part in run.history().group_by(["stage", "phase"], maintain_order=True):
        losses = part.filter(pl.col("quantity") == "loss/total")["value"]
        scores = part.filter(pl.col("quantity") == "score")
        best = scores.row(scores["value"].arg_max() or 0, named=True) if len(scores) else {}
        cells = (
            _count(run.record.seed),
            DataCell(str(stage), str(stage)),
            DataCell(str(phase), str(phase)),
            _count(_epochs(part)),
            _metric(losses[0] if len(losses) else None),
            _metric(losses[-1] if len(losses) else None),
            _metric(best.get("value")),
            _count(best.get("epoch")),
        )
        rows.append(DataRow(group.label, cells))
    return rows


def _health_row(group: RowRuns, run: Run) -> DataRow:
    health = run.record.health
    used, perplexity = health.get("used_codes", []), health.get("perplexity", [])
    size = health.get("codebook_size")
    used_text = ", ".join(map(str, used)) + (f" of {size}" if size is not None else "")
    perplexity_text = ", ".join(f"{value:.1f}" for value in perplexity)
    return DataRow(
        group.label,
        (
            _count(run.record.seed),
            DataCell(used_text, used_text),
            DataCell(perplexity_text, perplexity_text),
            _share(health.get("collision_rate")),
            _count(health.get("largest_group")),
            _share(health.get("invalid_share")),
        ),
    )


def _change_row(group: RowRuns, run: Run) -> DataRow | None:
    changed = run.history().filter(pl.col("quantity") == "measure/codes_changed")["value"]
    if changed.is_empty():
        return None
    mean = changed.mean()
    assert isinstance(mean, float)
    cells = (_count(run.record.seed), _count(len(changed)), _share(changed[0]), _share(mean), _share(changed[-1]))
    return DataRow(group.label, cells)


def _changes_by_epoch(coded: Sequence[tuple[RowRuns, Run]]) -> DataTable:
    """A row per run, a column per epoch in which some tokenizer was trained."""
    shares = {
        (group.label, run.record.seed): dict(
            run.history().filter(pl.col("quantity") == "measure/codes_changed").select("epoch", "value").iter_rows()
        )
        for group, run in coded
    }
    epochs = sorted({epoch for by_epoch in shares.values() for epoch in by_epoch})
    rows = tuple(
        DataRow(label, (_count(seed), *[_share(by_epoch.get(epoch)) for epoch in epochs]))
        for (label, seed), by_epoch in shares.items()
        if by_epoch
    )
    columns = (DataColumn("Seed"), *[DataColumn(str(epoch)) for epoch in epochs])
    caption = "Share of items whose codes changed, by epoch"
    return DataTable("codes-changed-by-epoch", caption, "Run", columns, rows)


def _cost_row(group: RowRuns, stages: Sequence[str]) -> DataRow:
    records = [run.record for run in group.runs]

    def mean(value: Callable[[Any], float]) -> float:
        return sum(map(value, records)) / len(records)

    cells = [
        _seconds(mean(lambda record, stage=stage: record.seconds.get(stage, 0.0)))  # type: ignore[misc]
        if any(stage in record.seconds for record in records)
        else DataCell(UNKNOWN)
        for stage in stages
    ]
    epochs = sum(_epochs(run.history()) for run in group.runs) / len(records)
    memory = mean(lambda record: record.peak_memory_mb)
    cells += [
        _seconds(mean(lambda record: sum(record.seconds.values()))),
        DataCell(f"{epochs:,.0f}", epochs) if epochs else DataCell(UNKNOWN),
        DataCell(f"{memory:,.0f}", memory),
        _count(group.record.num_parameters),
    ]
    return DataRow(group.label, tuple(cells))


def _epochs(history: pl.DataFrame) -> int:
    """Epochs that were trained: those of a stage and phase once each."""
    return history.select("stage", "phase", "epoch").n_unique() if len(history) else 0


def _history_csv(material: Material) -> str:
    """Total losses and validation scores of every epoch."""
    return _history_lines(material, lambda quantity: quantity in ("loss/total", "score"))


def _quantity_csv(material: Material, wanted: str) -> str:
    return _history_lines(material, lambda quantity: quantity == wanted)


def _history_lines(material: Material, is_wanted: Callable[[str], bool]) -> str:
    lines = [["row", "seed", "stage", "phase", "epoch", "quantity", "value"]]
    for group in material.groups:
        for run in group.runs:
            lines += [
                [group.label, str(run.record.seed), stage, phase, str(epoch), quantity, repr(value)]
                for stage, phase, epoch, quantity, value in run.history().iter_rows()
                if is_wanted(quantity)
            ]
    return as_csv(lines)


def _environment_facts(environments: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each part of the environment; all its values, where the runs were not made in the same."""
    values: dict[str, dict[str, None]] = {}
    for environment in environments:
        for name, value in environment.items():
            told = ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, Mapping) else value
            values.setdefault(name, {})[str(told)] = None
    return [(name, "; ".join(found)) for name, found in sorted(values.items())]


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _span(times: Iterable[str]) -> str:
    """First and last of the times, to the minute."""
    shown = sorted(time[:16].replace("T", " ") for time in times)
    return f"{shown[0]} UTC" if shown[0] == shown[-1] else f"{shown[0]} to {shown[-1]} UTC"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _number(value: Any) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _count(value: int | None) -> DataCell:
    return DataCell(UNKNOWN) if value is None else DataCell(f"{value:,}", value)


def _metric(value: float | None) -> DataCell:
    return DataCell(UNKNOWN) if value is None else DataCell(f"{value:.{DECIMALS}f}", value)


def _share(value: float | None) -> DataCell:
    return DataCell(UNKNOWN) if value is None else DataCell(f"{100 * value:.2f} %", value)


def _seconds(value: float) -> DataCell:
    return DataCell(f"{value:,.1f}", value)
