"""`harness report`: everything that is stored of a data set, as one HTML page."""

from __future__ import annotations

import sys
import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.drawing import uncollected
from harness.cli.options import CacheDir, Json, RunsDir, Studies, print_json, takes_groups
from harness.cli.tables import Choice, DatasetFilter, check_folder_of

if TYPE_CHECKING:
    from results.report import Material, Section

EXAMPLES = (
    "Examples: [bold]harness report --dataset demo[/] · [bold]harness report --dataset scientific --open[/] · "
    "[bold]harness report --dataset demo --preset paper --out paper.html[/]"
)


@takes_groups
def report(
    *,
    dataset: DatasetFilter = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write (default: report-DATASET.html).", metavar="FILE")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    paper_dataset: Annotated[
        str | None,
        typer.Option(help="The paper's data set to compare with (default: by name).", metavar="NAME"),
    ] = None,
    choice: Choice,
    json: Json = False,
    runs_dir: RunsDir = options.RUNS,
    cache_dir: CacheDir = options.CACHE,
    where: Studies,
) -> None:
    """Write one HTML page with a data set's tables, figures, costs and the commands that make them again."""
    from harness.experiment.stored import pretraining_of
    from results.report import gather, page_of
    from results.report.blocks import anchor
    from results.store.find import only_dataset
    from results.store.whole_files import write_whole

    dataset = dataset or only_dataset(runs_dir)
    out = out or Path(f"report-{anchor(dataset)}.html")
    check_folder_of(out)
    with uncollected():
        material = gather(
            runs_dir,
            dataset,
            choice.filters(),
            paper_dataset=paper_dataset,
            pretraining=partial(pretraining_of, cache=cache_dir),
        )
        page = page_of(
            material,
            counts=_counts(material, cache_dir),
            sweeps=sweep_sections(material, where),
            reproduction=reproduction_section(material),
        )
        html = page.html()
    write_whole(out, html)
    if json:
        print_json({"path": str(out), "sections": [section.title for section in page.sections]})
    else:
        print(f"wrote {out}", file=sys.stderr)
    if open_:
        webbrowser.open(out.resolve().as_uri())


def sweep_sections(material: Material, where: Studies) -> list[Section]:
    """The section on the studies of this very data, in a list that is empty where there are none."""
    from sweeps.summaries import load_studies

    fingerprint = material.groups[0].record.dataset_fingerprint
    studies = [one for one in load_studies(where.opened()) if one.sweep.fingerprint == fingerprint]
    if not studies:
        return []
    from harness.cli.report_sweeps import sweeps_section  # needs what draws a search in a terminal

    section = sweeps_section(studies)
    return [] if section is None else [section]


def reproduction_section(material: Material) -> Section:
    """The command, the config and its digest for each row, and the fewest commands for all of them."""
    from harness.experiment.reproduce import command_for, dataset_argument, together
    from results.report import Section
    from results.report.blocks import (
        Block,
        DataCell,
        DataColumn,
        DataRow,
        DataTable,
        Download,
        Downloads,
        Listing,
        Prose,
    )

    record = material.groups[0].record
    dataset = dataset_argument(record.dataset)
    commands = [command_for(group, dataset) for group in material.groups]
    blocks: list[Block] = [
        Prose("All rows:"),
        Listing("\n".join(command.text() for command in together(material.groups, commands))),
    ]
    rows = [
        DataRow(
            group.label,
            (
                DataCell(group.record.config_digest, group.record.config_digest, is_code=True),
                DataCell(", ".join(map(str, group.seeds)), ", ".join(map(str, group.seeds))),
                DataCell(command.text(), command.text(), is_code=True, is_long=True),
            ),
        )
        for group, command in zip(material.groups, commands, strict=True)
    ]
    columns = tuple(DataColumn(name, is_number=False) for name in ("Config", "Seeds", "Command"))
    doubtful = [g.label for g, c in zip(material.groups, commands, strict=True) if not c.is_exact]
    notes = ["Each command was checked: the digest of the config that it gives is the row's."]
    if doubtful:
        notes = [
            "Each command was checked, except those of the rows named next: the digest of the config that it gives "
            "is the row's.",
            f"Not to be had again by a command of this version: {', '.join(doubtful)}; their configs are below.",
        ]
    if dataset.startswith("PATH/TO/"):
        notes.append(f"{dataset}: the file or folder that the data were read from, with the same options for reading.")
    notes.append(f"The data are the same if their fingerprint is {record.dataset_fingerprint}.")
    blocks.append(DataTable("commands", "Command of each row", "Row", columns, tuple(rows), notes=tuple(notes)))
    files = tuple(
        Download(
            f"{group.record.method}-{group.record.variant}-{group.record.config_digest}.toml",
            group.runs[0].config_text(),
        )
        for group in material.groups
    )
    blocks.append(Downloads("Config files, with every field of each row:", files))
    return Section("Reproduction", tuple(blocks))


def _counts(material: Material, cache_dir: Path) -> dict[str, Any] | None:
    """What is known of the prepared data; None where they are no longer in the cache."""
    from harness.data.prepare import describe
    from harness.experiment.stored import prepared_folder

    folder = prepared_folder(material.groups[0].record.dataset_fingerprint, cache_dir)
    return None if folder is None else describe(folder)
