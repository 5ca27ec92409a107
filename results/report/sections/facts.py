"""What was run, at what cost, after how many trials, and in which respects not as the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from results.report.blocks import (
    Block,
    Bullets,
    DataCell,
    DataColumn,
    DataRow,
    DataTable,
    Facts,
    Heading,
    Prose,
)
from results.report.material import Material
from results.report.page import Section
from results.report.pictures import picture_of
from results.report.sections.cells import count_cell, num_epochs, seconds_cell
from results.report.verdicts import against_paper, summary
from results.store.contract import told
from results.store.selection import RowRuns
from results.tables.marks import UNKNOWN
from results.terminal.quantities import duration

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
    "original": "a method has the form that its first authors gave it (recipe original)",
}

PRESET_TUNING = "What was tried for the presets' own values is told in the harness's docs/decisions.md."


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
        ("judged", material.runs[0].population),
    ]
    if counts is not None:
        facts += [(told, _number(counts[key])) for key, told in COUNTS.items() if key in counts]
    contract = told(record.contract, record.split)
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


def cost_section(material: Material) -> Section:
    """Seconds by stage, epochs, memory and parameters of every row, means over its seeds."""
    stages = list(dict.fromkeys(stage for run in material.runs for stage in run.record.seconds))
    # What a run shares with others comes first, its own training and test last, as they were computed.
    stages = [stage for stage in stages if stage not in ("fit", "test")] + [s for s in ("fit", "test") if s in stages]
    columns = tuple(map(DataColumn, ("Total", "Epochs", "Memory", "Parameters", *stages)))
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


def _cost_row(group: RowRuns, stages: Sequence[str]) -> DataRow:
    records = [run.record for run in group.runs]

    def mean(value: Callable[[Any], float]) -> float:
        return sum(map(value, records)) / len(records)

    epochs = sum(num_epochs(run.history()) for run in group.runs) / len(records)
    memory = mean(lambda record: record.peak_memory_mb)
    cells = [
        seconds_cell(mean(lambda record: sum(record.seconds.values()))),
        DataCell(f"{epochs:,.0f}", epochs) if epochs else DataCell(UNKNOWN),
        DataCell(f"{memory:,.0f}", memory),
        count_cell(group.record.num_parameters),
    ]
    cells += [
        seconds_cell(mean(lambda record, stage=stage: record.seconds.get(stage, 0.0)))  # type: ignore[misc]
        if any(stage in record.seconds for record in records)
        else DataCell(UNKNOWN)
        for stage in stages
    ]
    return DataRow(group.label, tuple(cells))


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
