"""How training went, and what became of the codes; None where no run has such."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from results.figures.rendering import Figure
from results.report.blocks import (
    Block,
    DataCell,
    DataColumn,
    DataRow,
    DataTable,
    Folded,
    as_csv,
    data_columns,
)
from results.report.material import Material
from results.report.page import Section
from results.report.pictures import picture_of
from results.report.sections.cells import count_cell, metric_cell, num_epochs, share_cell
from results.store.runs import Run
from results.store.selection import RowRuns


def curves_section(material: Material) -> Section | None:
    """How training went: last losses and best validation scores of each stage."""
    rows = [row for group in material.groups for run in group.runs for row in _stage_rows(group, run)]
    if not rows:
        return None
    columns = data_columns(
        *("Seed", "Stage", "Trained", "Epochs", "First loss", "Last loss", "Best score", "At epoch"),
        text=("Stage", "Trained"),
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
    per_level = ("Codes used, per level", "Perplexity, per level")
    columns = data_columns("Seed", *per_level, "Collisions", "Largest group", "Invalid", text=per_level)
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
                data_columns("Seed", "Epochs", "First", "Mean", "Last"),
                tuple(changes),
                csv=_quantity_csv(material, "measure/codes_changed"),
            )
        )
        blocks.append(Folded("Every tokenizer epoch", (_changes_by_epoch(coded),)))
    return Section("Tokenizer health", tuple(blocks))


def _pictures(figures: Mapping[str, Figure]) -> list[Block]:
    """The first figure, and the others to be unfolded."""
    pictures = [(title, picture_of(figure, f"{figure.name}-{title}")) for title, figure in figures.items()]
    others = [Folded(f"The same of {title}", (picture,)) for title, picture in pictures[1:]]
    return [*[picture for _, picture in pictures[:1]], *others]


def _stage_rows(group: RowRuns, run: Run) -> list[DataRow]:
    """A row for each stage of training, and for each phase where a stage alternates between several."""
    rows = []
    for (stage, phase), part in run.history().group_by(["stage", "phase"], maintain_order=True):
        losses = part.filter(pl.col("quantity") == "loss/total")["value"]
        scores = part.filter(pl.col("quantity") == "score")
        best = scores.row(scores["value"].arg_max() or 0, named=True) if len(scores) else {}
        cells = (
            count_cell(run.record.seed),
            DataCell(str(stage), str(stage)),
            DataCell(str(phase), str(phase)),
            count_cell(num_epochs(part)),
            metric_cell(losses[0] if len(losses) else None),
            metric_cell(losses[-1] if len(losses) else None),
            metric_cell(best.get("value")),
            count_cell(best.get("epoch")),
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
            count_cell(run.record.seed),
            DataCell(used_text, used_text),
            DataCell(perplexity_text, perplexity_text),
            share_cell(health.get("collision_rate")),
            count_cell(health.get("largest_group")),
            share_cell(health.get("invalid_share")),
        ),
    )


def _change_row(group: RowRuns, run: Run) -> DataRow | None:
    changed = run.history().filter(pl.col("quantity") == "measure/codes_changed")["value"]
    if changed.is_empty():
        return None
    mean = changed.mean()
    assert isinstance(mean, float)
    cells = (
        count_cell(run.record.seed),
        count_cell(len(changed)),
        share_cell(changed[0]),
        share_cell(mean),
        share_cell(changed[-1]),
    )
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
        DataRow(label, (count_cell(seed), *[share_cell(by_epoch.get(epoch)) for epoch in epochs]))
        for (label, seed), by_epoch in shares.items()
        if by_epoch
    )
    columns = (DataColumn("Seed"), *[DataColumn(str(epoch)) for epoch in epochs])
    caption = "Share of items whose codes changed, by epoch"
    return DataTable("codes-changed-by-epoch", caption, "Run", columns, rows)


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
